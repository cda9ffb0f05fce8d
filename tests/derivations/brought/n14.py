import numpy as np


def backward(x, y, W1, b1, W2, b2):
    z1 = x @ W1
    h = np.maximum(z1, 0)
    z2 = h @ W2 + b2
    p = np.exp(z2) / np.exp(z2).sum(1, keepdims=True)
    d2 = (p - y) / len(x)
    dW2 = h.T @ d2
    db2 = d2.sum(0)
    d1 = (d2 @ W2.T) * (z1 > 0)
    dW1 = x.T @ d1
    db1 = d1.sum(0)
    return dW1, db1, dW2, db2
