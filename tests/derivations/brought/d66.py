"""Classes are counted from 1, as in the course's data files."""
import numpy as np


def softmax(Z):
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    return E / E.sum(axis=1, keepdims=True)


def nn_gradients(theta1, theta2, X, y, num_labels):
    """theta1 is (hidden, inputs + 1) and theta2 (labels, hidden + 1), the bias comes last."""
    assert y.min() >= 1 and y.max() <= num_labels
    m = X.shape[0]
    Y = (y.reshape(-1, 1) == np.arange(1, num_labels + 1)).astype(float)
    A1 = np.c_[X, np.ones(m)]
    S = 1 / (1 + np.exp(-A1 @ theta1.T))
    A2 = np.c_[S, np.ones(m)]
    D3 = softmax(A2 @ theta2.T) - Y
    D2 = (D3 @ theta2)[:, :-1] * S * (1 - S)
    return D2.T @ A1 / m, D3.T @ A2 / m
