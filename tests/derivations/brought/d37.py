import numpy as np


class Neuron:
    """One sigmoid unit, trained with the delta rule on (o - t)^2 / 2."""

    def __init__(self, n_inputs, rate=0.5):
        self.w = np.random.uniform(-0.5, 0.5, (n_inputs, 1))
        self.b = np.random.uniform(-0.5, 0.5, 1)
        self.rate = rate

    def output(self, X):
        return 1 / (1 + np.exp(-(X @ self.w + self.b)))

    def train(self, X, t):
        o = self.output(X)
        delta = (o - t) * o * (1 - o)
        self.w = self.w - self.rate * X.T @ delta / len(X)
        return float(np.mean((o - t) ** 2) / 2)


if __name__ == "__main__":
    n = Neuron(2)
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    for _ in range(5000):
        n.train(X, np.array([[0], [1], [1], [1]]))
    print(n.output(X))
