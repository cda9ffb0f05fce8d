import numpy as np


class Layer:
    def __init__(self, n_in, n_out):
        self.weights = 0.1 * np.random.randn(n_in, n_out)
        self.biases = np.zeros((1, n_out))


def train_step(net, x, y, lr):
    h = 1 / (1 + np.exp(-(x @ net[0].weights + net[0].biases)))
    out = 1 / (1 + np.exp(-(h @ net[1].weights + net[1].biases)))
    d_out = (out - y) / y.size
    d_h = d_out @ net[1].weights.T * h * (1 - h)
    net[1].weights -= lr * h.T @ d_out
    net[1].biases -= lr * d_out.sum(0, keepdims=True)
    net[0].weights -= lr * x.T @ d_h
    net[0].biases -= lr * d_h.sum(0, keepdims=True)
