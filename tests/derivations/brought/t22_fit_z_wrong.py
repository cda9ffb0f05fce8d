import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

class NeuralNetClassifier:
    """My own two-layer net. fit / predict like in sklearn."""
    def __init__(self, n_hidden=30, l2=0., epochs=100, eta=0.001, minibatch_size=1, seed=None):
        self.random = np.random.RandomState(seed)
        self.n_hidden, self.l2, self.epochs, self.eta, self.minibatch_size = n_hidden, l2, epochs, eta, minibatch_size

    def _sigmoid(self, z):
        return 1. / (1. + np.exp(-np.clip(z, -250, 250)))

    def _forward(self, X):
        z_h = np.dot(X, self.w_h) + self.b_h
        a_h = self._sigmoid(z_h)
        z_out = np.dot(a_h, self.w_out) + self.b_out
        a_out = self._sigmoid(z_out)
        return z_h, a_h, z_out, a_out

    def fit(self, X_train, y_train):
        n_output = y_train.shape[1]
        n_features = X_train.shape[1]
        self.b_h = np.zeros(self.n_hidden)
        self.w_h = self.random.normal(loc=0.0, scale=0.1, size=(n_features, self.n_hidden))
        self.b_out = np.zeros(n_output)
        self.w_out = self.random.normal(loc=0.0, scale=0.1, size=(self.n_hidden, n_output))
        for i in range(self.epochs):
            indices = np.arange(X_train.shape[0])
            for start in range(0, indices.shape[0] - self.minibatch_size + 1, self.minibatch_size):
                b = indices[start:start + self.minibatch_size]
                self._step(X_train[b], y_train[b])
        return self

    def _step(self, X, y_enc):
        z_h, a_h, z_out, a_out = self._forward(X)
        delta_out = a_out - y_enc
        sigmoid_derivative_h = z_h * (1. - z_h)
        delta_h = np.dot(delta_out, self.w_out.T) * sigmoid_derivative_h
        grad_w_h = np.dot(X.T, delta_h)
        grad_b_h = np.sum(delta_h, axis=0)
        grad_w_out = np.dot(a_h.T, delta_out)
        grad_b_out = np.sum(delta_out, axis=0)
        self.w_h -= self.eta * (grad_w_h + self.l2 * self.w_h)
        self.b_h -= self.eta * grad_b_h
        self.w_out -= self.eta * (grad_w_out + self.l2 * self.w_out)
        self.b_out -= self.eta * grad_b_out
