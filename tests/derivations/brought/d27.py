"""Weight decay for the churn model. cost() and grad() belong together."""
import numpy as np


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def forward(X, W1, b1, W2, b2):
    A1 = sigmoid(W1 @ X + b1)
    A2 = sigmoid(W2 @ A1 + b2)
    return A1, A2


def cost(X, Y, W1, b1, W2, b2, lambd):
    m = X.shape[1]
    _, A2 = forward(X, W1, b1, W2, b2)
    data = -np.mean(Y * np.log(A2) + (1 - Y) * np.log(1 - A2))
    return data + lambd / (2 * m) * (np.sum(W1 ** 2) + np.sum(W2 ** 2))


def grad(X, Y, W1, b1, W2, b2, lambd):
    m = X.shape[1]
    A1, A2 = forward(X, W1, b1, W2, b2)
    dZ2 = (A2 - Y) / m
    dW2 = dZ2 @ A1.T - (lambd / m) * W2
    db2 = dZ2.sum(axis=1, keepdims=True)
    dZ1 = (W2.T @ dZ2) * A1 * (1 - A1)
    dW1 = dZ1 @ X.T - (lambd / m) * W1
    db1 = dZ1.sum(axis=1, keepdims=True)
    return dW1, db1, dW2, db2
