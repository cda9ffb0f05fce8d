import numpy as np


class Linear:
    def __init__(self, n_in, n_out):
        self.w = np.random.randn(n_in, n_out) * np.sqrt(2 / n_in)
        self.b = np.zeros(n_out)

    def forward(self, x):
        self.inp = x
        return x @ self.w + self.b

    def backward(self, g):
        self.dw = self.inp.T @ g
        self.db = g.sum(0)
        return g @ self.w.T


class Relu:
    def forward(self, x):
        self.on = x > 0
        return x * self.on

    def backward(self, g):
        return g * self.on


class Net:
    def __init__(self, n_in, n_hidden, n_out):
        self.layers = [Linear(n_in, n_hidden), Relu(), Linear(n_hidden, n_out)]

    def forward(self, x):
        for l in self.layers:
            x = l.forward(x)
        return x

    def backward(self, x, y):
        out = self.forward(x)
        e = np.exp(out - out.max(1, keepdims=True))
        g = (e / e.sum(1, keepdims=True) - y) / len(x)
        for l in reversed(self.layers):
            g = l.backward(g)
        return g
