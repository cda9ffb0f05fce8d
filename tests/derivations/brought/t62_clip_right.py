import numpy as np

class TwoLayer:
    def __init__(self, n_in, n_hidden, n_out):
        self.W1 = np.random.randn(n_hidden, n_in) * 0.01
        self.b1 = np.zeros((n_hidden, 1))
        self.W2 = np.random.randn(n_out, n_hidden) * 0.01
        self.b2 = np.zeros((n_out, 1))

    def forward(self, x):
        self.x = x
        self.h = np.tanh(self.W1 @ x + self.b1)
        self.y = self.W2 @ self.h + self.b2
        self.p = np.exp(self.y) / np.sum(np.exp(self.y), axis=0)
        return self.p

    def backward(self, target):
        B = target.shape[1]
        dy = self.p.copy()
        dy -= target
        self.dW2 = dy @ self.h.T / B
        self.db2 = dy.mean(axis=1, keepdims=True)
        dh = self.W2.T @ dy
        dhraw = (1 - self.h * self.h) * dh
        self.dW1 = dhraw @ self.x.T / B
        self.db1 = dhraw.mean(axis=1, keepdims=True)
        for dparam in [self.dW1, self.dW2, self.db1, self.db2]:
            np.clip(dparam, -5, 5, out=dparam)
