import numpy as np


def backward(x, y, W1, b1, W2, b2):
    z1 = x @ W1 + b1
    h = np.tanh(z1)
    z2 = h @ W2 + b2
    p = np.exp(z2) / np.exp(z2).sum(1, keepdims=True)
    d2 = (p - y) / len(x)
    dW2 = (d2.T @ h).reshape(W2.shape)
    db2 = d2.sum(0)
    d1 = (d2 @ W2.T) * (1 - h**2)
    dW1 = x.T @ d1
    db1 = d1.sum(0)
    return dW1, db1, dW2, db2
