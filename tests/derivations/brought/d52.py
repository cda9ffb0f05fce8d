import numpy as np


def update(X, Y, W1, b1, W2, b2, eta=0.5):
    """Gradient descent, changes the arrays it is given."""
    Z1 = np.dot(X, W1) + b1
    A1 = np.where(Z1 > 0, Z1, 0)
    Z2 = np.dot(A1, W2) + b2
    P = np.exp(Z2 - np.max(Z2, axis=1, keepdims=True))
    P = P / np.sum(P, axis=1, keepdims=True)

    # output layer
    delta = (P - Y) / X.shape[0]
    W2 -= eta * np.dot(A1.T, delta)
    b2 -= eta * np.sum(delta, axis=0)

    # hidden layer
    delta = np.dot(delta, W2.T)
    delta[Z1 <= 0] = 0
    W1 -= eta * np.dot(X.T, delta)
    b1 -= eta * np.sum(delta, axis=0)
