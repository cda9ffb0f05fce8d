import numpy as np


def fit_once(X, y, W1, b1, W2, b2, lr=0.01):
    y = np.asarray(y).ravel()
    hidden = np.maximum(X @ W1 + b1, 0)
    out = hidden @ W2 + b2
    d_out = 2 * (out - y) / len(y)
    d_hidden = (d_out @ W2.T) * (hidden > 0)
    W2 = W2 - lr * hidden.T @ d_out
    b2 = b2 - lr * d_out.sum(axis=0)
    W1 = W1 - lr * X.T @ d_hidden
    b1 = b1 - lr * d_hidden.sum(axis=0)
    return W1, b1, W2, b2
