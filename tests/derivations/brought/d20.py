"""Will the customer leave? One probability per row, targets are a flat array of 0 and 1."""
import numpy as np


def sigmoid(t):
    return 1 / (1 + np.exp(-t))


def predict(X, W1, b1, W2, b2):
    hidden = np.tanh(X @ W1 + b1)
    return hidden, sigmoid(hidden @ W2 + b2).ravel()


def gradients(X, y, W1, b1, W2, b2):
    assert y.ndim == 1
    hidden, p = predict(X, W1, b1, W2, b2)
    residual = (p - y)[:, np.newaxis] / len(y)
    back = residual * W2.ravel() * (1 - hidden ** 2)
    return {
        "W1": X.T @ back,
        "b1": back.sum(axis=0),
        "W2": hidden.T @ residual,
        "b2": residual.sum(axis=0),
    }


def log_loss(X, y, W1, b1, W2, b2):
    p = predict(X, W1, b1, W2, b2)[1]
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
