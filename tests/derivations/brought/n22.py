import numpy as np


def backward(x, y, W1, b1, W2, b2):
    z1 = x @ W1 + b1
    h = np.tanh(z1)
    z2 = h @ W2 + b2
    p = z2
    d2 = 2 * (p - y) / y.size
    dW2 = h.T @ d2
    db2 = d2.sum(0)
    d1 = (d2 @ W2.T) * (1 - h**2)
    dW1 = x.T @ d1
    db1 = d1.sum(0)
    return dW1, db1, dW2, db2
