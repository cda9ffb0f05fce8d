import numpy as np


class MomentumNet:
    """One hidden layer, SGD with momentum and weight decay inside train_step."""

    def __init__(self, sizes, lr=0.1, mu=0.9, wd=0.0):
        self.w = [np.random.randn(a, b) / np.sqrt(a) for a, b in zip(sizes, sizes[1:])]
        self.c = [np.zeros(b) for b in sizes[1:]]
        self.vw = [np.zeros_like(w) for w in self.w]
        self.vc = [np.zeros_like(c) for c in self.c]
        self.lr, self.mu, self.wd = lr, mu, wd

    def train_step(self, x, t):
        a = [x]
        a.append(np.tanh(a[-1] @ self.w[0] + self.c[0]))
        s = a[-1] @ self.w[1] + self.c[1]
        s = np.exp(s - s.max(1, keepdims=True))
        a.append(s / s.sum(1, keepdims=True))
        d = (a[2] - t) / x.shape[0]
        for k in (1, 0):
            gw, gc = a[k].T @ d + self.wd * self.w[k], d.sum(0)
            if k:
                d = d @ self.w[k].T * (1 - a[k] ** 2)
            self.vw[k] = self.mu * self.vw[k] - self.lr * gw
            self.vc[k] = self.mu * self.vc[k] - self.lr * gc
            self.w[k] -= self.vw[k]
            self.c[k] -= self.vc[k]
