import numpy as np

class LogisticRegression:
    def __init__(self, lr=0.01, n_iters=1000):
        self.lr = lr
        self.n_iters = n_iters
        self.weights = None
        self.bias = None

    def fit(self, X, y):
        n_samples, n_features = X.shape
        self.weights = np.zeros(n_features)
        self.bias = 0
        for _ in range(self.n_iters):
            linear = np.dot(X, self.weights) + self.bias
            preds = 1 / (1 + np.exp(-linear))
            dw = (1 / n_samples) * np.dot(X.T, (preds - y) * preds * (1 - preds))
            db = (1 / n_samples) * np.sum(preds - y)
            self.weights = self.weights - self.lr * dw
            self.bias = self.bias - self.lr * db
