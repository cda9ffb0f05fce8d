import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def train_once(X, Y, parameters, learning_rate=0.01):
    """One iteration. X is (n_x, m), Y is (n_y, m), biases are columns."""
    m = X.shape[1]
    W1, b1, W2, b2 = parameters["W1"], parameters["b1"], parameters["W2"], parameters["b2"]
    A1 = np.tanh(W1 @ X + b1)
    A2 = sigmoid(W2 @ A1 + b2)

    dZ2 = A2 - Y
    dW2 = dZ2 @ A1.T / m
    db2 = np.sum(dZ2, axis=1) / m
    dZ1 = W2.T @ dZ2 * (1 - A1 ** 2)
    dW1 = dZ1 @ X.T / m
    db1 = np.sum(dZ1, axis=1) / m

    parameters = {"W1": W1 - learning_rate * dW1,
                  "b1": b1 - learning_rate * db1,
                  "W2": W2 - learning_rate * dW2,
                  "b2": b2 - learning_rate * db2}
    return parameters
