"""A class that steps its own weights, in numpy: sigmoid, sigmoid and half a sum of squares; one line is too early.

python scripts/gradcheck.py target=examples/trainer.py model.hidden_activation=sigmoid \
    model.output_activation=sigmoid model.loss=mse \
    call='n=Trainer(D,H,C); n.W1,n.b1,n.W2,n.b2=W1,b1,W2,b2; n.step(x,y); vars(n)'
"""

import numpy as np


def sigmoid(z):
    """Return 1 / (1 + e^−z)."""
    return 1 / (1 + np.exp(-z))


class Trainer:
    """A network that is trained by gradient descent."""

    def __init__(self, inputs, hidden, outputs, rate=0.5):
        self.W1, self.b1 = np.random.randn(inputs, hidden), np.zeros(hidden)
        self.W2, self.b2 = np.random.randn(hidden, outputs), np.zeros(outputs)
        self.rate = rate

    def step(self, x, y):
        """Take one step down ½ Σ (ŷ − y)²."""
        h = sigmoid(x @ self.W1 + self.b1)
        yhat = sigmoid(h @ self.W2 + self.b2)
        delta2 = (yhat - y) * yhat * (1 - yhat)
        self.W2 = self.W2 - self.rate * h.T @ delta2
        self.b2 = self.b2 - self.rate * delta2.sum(0)
        delta1 = delta2 @ self.W2.T * h * (1 - h)
        self.W1 = self.W1 - self.rate * x.T @ delta1
        self.b1 = self.b1 - self.rate * delta1.sum(0)
