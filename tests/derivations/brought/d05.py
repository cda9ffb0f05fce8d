"""Binary classifier in the style of scikit-learn: fit and predict."""
import numpy as np


class NeuralNet:
    def __init__(self, n_inputs, n_hidden=5, learning_rate=0.05, random_state=0):
        rng = np.random.RandomState(random_state)
        self.learning_rate = learning_rate
        self.W1 = rng.randn(n_inputs, n_hidden) * 0.1
        self.b1 = np.zeros((1, n_hidden))
        self.W2 = rng.randn(n_hidden, 1) * 0.1
        self.b2 = np.zeros((1, 1))
        self.history = []

    @staticmethod
    def _sigmoid(z):
        return 1 / (1 + np.exp(-z))

    def predict_proba(self, X):
        self.Z1 = X @ self.W1 + self.b1
        self.A1 = np.maximum(0, self.Z1)
        return self._sigmoid(self.A1 @ self.W2 + self.b2)

    def fit(self, X, y, epochs=1000):
        y = y.reshape(-1, 1)
        n = len(X)
        for _ in range(epochs):
            p = self.predict_proba(X)
            self.history.append(float(-np.mean(y * np.log(p + 1e-15) + (1 - y) * np.log(1 - p + 1e-15))))
            dZ2 = (p - y) / n
            dW2 = self.A1.T @ dZ2
            db2 = dZ2.sum(axis=0, keepdims=True)
            dZ1 = dZ2 @ self.W2.T * (self.Z1 > 0)
            dW1 = X.T @ dZ1
            db1 = dZ1.sum(axis=0, keepdims=True)
            self.W1 -= self.learning_rate * dW1
            self.b1 -= self.learning_rate * db1
            self.W2 -= self.learning_rate * dW2
            self.b2 -= self.learning_rate * db2
        return self

    def predict(self, X):
        return (self.predict_proba(X) > 0.5).astype(int)
