import numpy as np
class Perceptron2:
    def __init__(self, n_in, n_hid, n_out, lr=0.1):
        self.W1 = np.random.randn(n_in, n_hid); self.b1 = np.zeros(n_hid)
        self.W2 = np.random.randn(n_hid, n_out); self.b2 = np.zeros(n_out); self.lr = lr
    def train(self, X, Y, epochs=10, momentum=0.9):
        v = [0, 0, 0, 0]
        for _ in range(epochs):
            for i in range(0, len(X), 4):
                x, y = X[i:i + 4], Y[i:i + 4]
                h = np.tanh(x @ self.W1 + self.b1)
                d2 = (h @ self.W2 + self.b2 - y) / len(x)
                d1 = d2 @ self.W2.T * (1 - h * h)
                g = [x.T @ d1, d1.sum(0), h.T @ d2, d2.sum(0)]
                for k, p in enumerate([self.W1, self.b1, self.W2, self.b2]):
                    v[k] = momentum * v[k] - self.lr * g[k]
                    p += v[k]
