# curve fitting with a small tanh network, no bias terms
import numpy as np


def hypothesis(X, theta1, theta2):
    return np.tanh(X @ theta1) @ theta2


def gradient(theta2, y, X, theta1):
    """Partial derivatives of J with respect to theta1 and theta2 (in this order)."""
    m = y.shape[0]
    a2 = np.tanh(X @ theta1)
    delta3 = a2 @ theta2 - y
    grad2 = (1 / m) * a2.T @ delta3
    delta2 = (delta3 @ theta2.T) * (1 - np.square(a2))
    grad1 = (1 / m) * X.T @ delta2
    return grad1, grad2
