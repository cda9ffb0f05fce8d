import numpy as np


def sigmoid(Z):
    return 1 / (1 + np.exp(-Z))


def train_titanic(X, Y, parameters):
    """X: (features, passengers), Y: (1, passengers)"""
    m = Y.shape[1]
    W1, b1, W2, b2 = (parameters[k] for k in ('W1', 'b1', 'W2', 'b2'))
    A1 = np.tanh(W1 @ X + b1)
    A2 = sigmoid(W2 @ A1 + b2)
    cost = -np.sum(Y * np.log(A2) + (1 - Y) * np.log(1 - A2)) / m
    dZ2 = A2 - Y
    dW2 = (1 / m) * dZ2 @ A1.T
    db2 = np.sum(dZ2, axis=1, keepdims=True)
    dZ1 = W2.T @ dZ2 * (1 - A1 ** 2)
    dW1 = (1 / m) * dZ1 @ X.T
    db1 = np.sum(dZ1, axis=1, keepdims=True)
    return cost, {'dW1': dW1, 'db1': db1, 'dW2': dW2, 'db2': db2}
