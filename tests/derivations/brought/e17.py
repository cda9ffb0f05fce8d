import numpy as np


class Layer:
    def forward(self, inp):
        raise NotImplementedError

    def backward(self, grad):
        raise NotImplementedError

    def step(self, lr):
        pass


class Affine(Layer):
    def __init__(self, fan_in, fan_out):
        limit = np.sqrt(6 / (fan_in + fan_out))
        self.W = np.random.uniform(-limit, limit, size=(fan_in, fan_out))
        self.b = np.zeros((1, fan_out))

    def forward(self, inp):
        self.inp = inp
        return inp @ self.W + self.b

    def backward(self, grad):
        self.gW = self.inp.T @ grad
        self.gb = grad.sum(axis=0, keepdims=True)
        return grad @ self.W.T

    def step(self, lr):
        self.W = self.W - lr * self.gW
        self.b = self.b - lr * self.gb


class ReLU(Layer):
    def forward(self, inp):
        self.on = inp > 0
        return inp * self.on

    def backward(self, grad):
        return grad * self.on


class Huber:
    def __init__(self, delta=1.0):
        self.delta = delta

    def forward(self, pred, target):
        self.r = pred - target
        a = np.abs(self.r)
        return np.mean(np.where(a <= self.delta, 0.5 * a ** 2, self.delta * (a - 0.5 * self.delta)))

    def backward(self):
        return np.clip(self.r, -self.delta, self.delta) / self.r.size


class Sequential:
    def __init__(self, *layers):
        self.layers = layers

    def fit_batch(self, x, y, criterion, lr=0.1):
        out = x
        for layer in self.layers:
            out = layer.forward(out)
        loss = criterion.forward(out, y)
        grad = criterion.backward()
        for layer in self.layers[::-1]:
            grad = layer.backward(grad)
        for layer in self.layers:
            layer.step(lr)
        return loss
