import numpy as np


class Neuron2:
    def __init__(self, n_inputs, n_hidden, n_outputs):
        self.w = np.random.randn(n_inputs, n_hidden)
        self.v = np.random.randn(n_hidden, n_outputs)
        self.c = np.zeros(n_hidden)
        self.d = np.zeros(n_outputs)

    def train_step(self, x, y, lr=0.1):
        h = 1 / (1 + np.exp(-(x @ self.w + self.c)))
        o = h @ self.v + self.d
        p = np.exp(o) / np.exp(o).sum(1, keepdims=True)
        e = (p - y) / len(x)
        self.v -= lr * h.T @ e
        self.d -= lr * e.sum(0)
        g = e @ self.v.T * h * (1 - h)
        self.w -= lr * x.T @ g
        self.c -= lr * g.sum(0)
