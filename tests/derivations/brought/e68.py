import numpy as np


class MLP:
    def __init__(self, sizes):
        self.layers = []
        for n_in, n_out in zip(sizes[:-1], sizes[1:]):
            self.layers.append({'W': np.random.randn(n_in, n_out) * np.sqrt(2 / n_in), 'b': np.zeros((1, n_out))})

    def forward(self, X):
        self.A = [X]
        for i in range(len(self.layers)):
            Z = self.A[i] @ self.layers[i]['W'] + self.layers[i]['b']
            self.layers[i]['Z'] = Z
            self.A.append(np.maximum(0, Z) if i < len(self.layers) - 1 else 1 / (1 + np.exp(-Z)))
        return self.A[-1]

    def backward(self, X, y):
        m = X.shape[0]
        dZ = self.forward(X) - y
        for i in reversed(range(len(self.layers))):
            self.layers[i]['dW'] = self.A[i].T @ dZ / m
            self.layers[i]['db'] = np.sum(dZ, axis=1, keepdims=True) / m
            if i > 0:
                dZ = (dZ @ self.layers[i]['W'].T) * (self.layers[i - 1]['Z'] > 0)
        return self.layers
