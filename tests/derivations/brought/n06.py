import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def grads(theta, X, Y, D, H, C):
    i = D * H
    W1 = theta[:i].reshape(D, H)
    b1 = theta[i : i + H]
    i += H
    W2 = theta[i : i + H * C].reshape(H, C)
    b2 = theta[i + H * C :]
    h = sigmoid(X @ W1 + b1)
    yh = sigmoid(h @ W2 + b2)
    d2 = (yh - Y) / len(X)
    d1 = d2 @ W2.T * h * (1 - h)
    return np.concatenate([(X.T @ d1).ravel(), d1.sum(0), (h.T @ d2).ravel(), d2.sum(0)])
