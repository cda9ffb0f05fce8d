import numpy as np


class TanhNet:
    """input -> tanh -> softmax. Call forward, then backward; the gradients are in self.grads."""

    def __init__(self, D, H, C):
        self.W1 = np.random.randn(D, H) / np.sqrt(D)
        self.b1 = np.zeros(H)
        self.W2 = np.random.randn(H, C) / np.sqrt(H)
        self.b2 = np.zeros(C)
        self.grads = {}

    def forward(self, X):
        self.X = X
        self.Z1 = X.dot(self.W1) + self.b1
        self.A1 = np.tanh(self.Z1)
        self.Z2 = self.A1.dot(self.W2) + self.b2
        e = np.exp(self.Z2 - self.Z2.max(axis=1, keepdims=True))
        self.A2 = e / e.sum(axis=1, keepdims=True)
        return self.A2

    def backward(self, Y):
        m = Y.shape[0]
        dZ2 = (self.A2 - Y) / m
        self.grads['dW2'] = self.A1.T.dot(dZ2)
        self.grads['db2'] = dZ2.sum(axis=0)
        dA1 = dZ2.dot(self.W2.T)
        dZ1 = dA1 * self.A1 * (1 - self.A1)
        self.grads['dW1'] = self.X.T.dot(dZ1)
        self.grads['db1'] = dZ1.sum(axis=0)

    def step(self, lr):
        for p in ('W1', 'b1', 'W2', 'b2'):
            setattr(self, p, getattr(self, p) - lr * self.grads['d' + p])
