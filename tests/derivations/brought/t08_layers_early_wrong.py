import numpy as np

class Layer:
    def forward(self, x): raise NotImplementedError
    def backward(self, grad, lr): raise NotImplementedError

class Dense(Layer):
    def __init__(self, n_in, n_out):
        self.weights = np.random.randn(n_in, n_out) * 0.1
        self.bias = np.zeros((1, n_out))
    def forward(self, x):
        self.input = x
        return x @ self.weights + self.bias
    def backward(self, grad, lr):
        self.weights -= lr * self.input.T @ grad
        self.bias -= lr * np.sum(grad, axis=0, keepdims=True)
        return grad @ self.weights.T

class Tanh(Layer):
    def forward(self, x):
        self.output = np.tanh(x)
        return self.output
    def backward(self, grad, lr):
        return grad * (1 - self.output ** 2)

def mse(y_true, y_pred): return np.mean(np.power(y_true - y_pred, 2))
def mse_prime(y_true, y_pred): return 2 * (y_pred - y_true) / np.size(y_true)

class Network:
    def __init__(self):
        self.layers = []
    def add(self, layer):
        self.layers.append(layer)
    def fit(self, X, Y, epochs=1, lr=0.1):
        for e in range(epochs):
            out = X
            for layer in self.layers:
                out = layer.forward(out)
            err = mse(Y, out)
            grad = mse_prime(Y, out)
            for layer in reversed(self.layers):
                grad = layer.backward(grad, lr)
            print(e, err)
