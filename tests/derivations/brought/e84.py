import numpy as np


def softmax(z):
    e = np.exp(z - np.max(z))
    return e / e.sum()


def softmax_derivative(z):
    """The Jacobian of the softmax of a vector."""
    s = softmax(z)
    return np.diag(s) - np.outer(s, s)
