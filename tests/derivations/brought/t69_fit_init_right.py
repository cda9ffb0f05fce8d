import numpy as np

class MLP:
    def __init__(self, n_hidden=16, lr=0.1, epochs=200):
        self.n_hidden = n_hidden
        self.lr = lr
        self.epochs = epochs

    def fit(self, X, y):
        n, d = X.shape
        k = y.shape[1]
        rng = np.random.default_rng(0)
        self.W1 = rng.normal(0, 0.1, (d, self.n_hidden))
        self.b1 = np.zeros(self.n_hidden)
        self.W2 = rng.normal(0, 0.1, (self.n_hidden, k))
        self.b2 = np.zeros(k)
        for _ in range(self.epochs):
            h = np.tanh(X @ self.W1 + self.b1)
            s = np.exp(h @ self.W2 + self.b2)
            p = s / s.sum(axis=1, keepdims=True)
            d2 = (p - y) / n
            d1 = d2 @ self.W2.T * (1 - h ** 2)
            self.W2 -= self.lr * h.T @ d2
            self.b2 -= self.lr * d2.sum(axis=0)
            self.W1 -= self.lr * X.T @ d1
            self.b1 -= self.lr * d1.sum(axis=0)
        return self

    def predict(self, X):
        return (np.tanh(X @ self.W1 + self.b1) @ self.W2 + self.b2).argmax(axis=1)
