import numpy as np
from scipy.special import expit, log_softmax, softmax


class NeuralNetwork:
    def __init__(self, layer_sizes, lmbda=0.0):
        self.n_layers = len(layer_sizes)
        self.lmbda = lmbda
        self.weights = {f'W{i}': np.random.randn(layer_sizes[i], layer_sizes[i + 1]) for i in range(self.n_layers - 1)}
        self.biases = {f'b{i}': np.zeros(layer_sizes[i + 1]) for i in range(self.n_layers - 1)}

    def cost_and_gradients(self, X, Y):
        a, h = {}, {0: X}
        last = self.n_layers - 2
        for i in range(last + 1):
            a[i] = h[i] @ self.weights[f'W{i}'] + self.biases[f'b{i}']
            h[i + 1] = expit(a[i])
        n = X.shape[0]
        cost = -np.sum(Y * log_softmax(a[last], axis=1)) / n
        cost += 0.5 * self.lmbda * sum(np.sum(W ** 2) for W in self.weights.values())
        d = (softmax(a[last], axis=1) - Y) / n
        grads = {}
        for i in range(last, -1, -1):
            grads[f'W{i}'] = h[i].T @ d + self.lmbda * self.weights[f'W{i}']
            grads[f'b{i}'] = d.sum(axis=0)
            d = d @ self.weights[f'W{i}'].T * h[i] * (1 - h[i])
        return cost, grads
