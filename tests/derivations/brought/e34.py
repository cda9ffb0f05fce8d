import numpy as np


def backprop(X, Y, W1, B1, W2, B2):
    X, Y = X.T, Y.T                     # samples as columns from here on
    m = X.shape[1]
    A1 = np.tanh(W1 @ X + B1)
    A2 = 1 / (1 + np.exp(-(W2 @ A1 + B2)))
    dA2 = -(Y / A2) + (1 - Y) / (1 - A2)
    dZ2 = dA2 * A2 * (1 - A2) / m
    dZ1 = W2.T @ dZ2 * (1 - A1 * A1)
    return {'W1': dZ1 @ X.T, 'B1': dZ1.sum(1, keepdims=True), 'W2': dZ2 @ A1.T, 'B2': dZ2.sum(1, keepdims=True)}
