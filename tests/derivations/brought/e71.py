import numpy as np


class Logistic3:
    """input -> hidden1 -> hidden2 -> softmax; dropout switched off with keep = 1"""
    keep = 1.0

    def __init__(self, **weights):
        self.__dict__.update(weights)

    def loss(self, x, y):
        self.x, self.y = x, y
        self.u1 = x @ self.w1 + self.b1
        self.v1 = np.maximum(self.u1, 0) / self.keep
        self.u2 = self.v1 @ self.w2 + self.b2
        self.v2 = np.maximum(self.u2, 0) / self.keep
        self.s = self.v2 @ self.w3 + self.b3
        self.s = self.s - self.s.max(axis=1, keepdims=True)
        self.logp = self.s - np.log(np.exp(self.s).sum(axis=1, keepdims=True))
        return -self.logp[np.arange(len(y)), y].mean()

    def grads(self):
        ds = np.exp(self.logp)
        ds[np.arange(len(self.y)), self.y] -= 1
        ds /= len(self.y)
        du2 = ds @ self.w3.T / self.keep
        du2[self.v2 <= 0] = 0
        du1 = du2 @ self.w2.T / self.keep
        du1[self.u1 <= 0] = 0
        return {'w1': self.x.T @ du1, 'b1': du1.sum(0), 'w2': self.v1.T @ du2, 'b2': du2.sum(0),
                'w3': self.v2.T @ ds, 'b3': ds.sum(0)}
