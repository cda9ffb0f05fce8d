"""A tiny clone of torch.nn, numpy only."""
import numpy as np


class Linear:
    def __init__(self, in_features, out_features):
        k = 1 / np.sqrt(in_features)
        self.weight = np.random.uniform(-k, k, (out_features, in_features))
        self.bias = np.random.uniform(-k, k, out_features)
        self.zero_grad()

    def zero_grad(self):
        self.grad_weight = np.zeros_like(self.weight)
        self.grad_bias = np.zeros_like(self.bias)

    def __call__(self, x):
        self.input = x
        return x @ self.weight.T + self.bias

    def backward(self, grad_output):
        self.grad_weight += grad_output.T @ self.input
        self.grad_bias += grad_output.sum(axis=0)
        return grad_output @ self.weight


class GELU:
    def __call__(self, x):
        self.x = x
        self.t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3))
        return 0.5 * x * (1 + self.t)

    def backward(self, grad_output):
        du = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * self.x ** 2)
        return grad_output * (0.5 * (1 + self.t) + 0.5 * self.x * (1 - self.t ** 2) * du)


class CrossEntropyLoss:
    def __call__(self, logits, labels):
        shifted = logits - logits.max(axis=1, keepdims=True)
        self.log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        self.labels = labels
        return -self.log_p[np.arange(len(labels)), labels].mean()

    def backward(self):
        g = np.exp(self.log_p)
        g[np.arange(len(self.labels)), self.labels] -= 1
        return g / len(self.labels)


class Sequential:
    def __init__(self, *modules):
        self.modules = list(modules)

    def __call__(self, x):
        for m in self.modules:
            x = m(x)
        return x

    def backward(self, g):
        for m in reversed(self.modules):
            g = m.backward(g)
        return g
