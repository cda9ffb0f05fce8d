import numpy as np


class ReluNet3:
    def __init__(self, d, h, c, scale=0.1):
        self.W1, self.b1 = scale * np.random.randn(d, h), np.zeros((1, h))
        self.W2, self.b2 = scale * np.random.randn(h, h), np.zeros((1, h))
        self.W3, self.b3 = scale * np.random.randn(h, c), np.zeros((1, c))

    def forward(self, X):
        self.X = X
        self.z1 = X @ self.W1 + self.b1
        self.a1 = np.maximum(self.z1, 0)
        self.z2 = self.a1 @ self.W2 + self.b2
        self.a2 = np.maximum(self.z2, 0)
        return self.a2 @ self.W3 + self.b3

    def backward(self, dscores):
        self.dW3 = self.a2.T @ dscores
        self.db3 = dscores.sum(axis=0, keepdims=True)
        da2 = dscores @ self.W3.T
        dz2 = da2 * (self.z2 > 0)
        self.dW2 = self.a1.T @ dz2
        self.db2 = dz2.sum(axis=0, keepdims=True)
        da1 = dz2 @ self.W2.T
        dz1 = da1 * (self.z2 > 0)
        self.dW1 = self.X.T @ dz1
        self.db1 = dz1.sum(axis=0, keepdims=True)


def softmax_grad(scores, y):
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return p / len(y)
