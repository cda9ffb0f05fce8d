import numpy as np


def jacobians(x, y, W1, b1, W2, b2):
    """Numerator layout: dJ/dW has the shape of W.T."""
    h = np.tanh(x @ W1 + b1)
    z = h @ W2 + b2
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    e = (p - y).T / len(x)
    dJ_dW2 = e @ h
    dJ_db2 = e.sum(1)
    d = (W2 @ e) * (1 - h.T ** 2)
    dJ_dW1 = d @ x
    dJ_db1 = d.sum(1)
    return dJ_dW1, dJ_db1, dJ_dW2, dJ_db2
