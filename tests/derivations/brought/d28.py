import numpy as np


def model(x, w1, b1, w2, b2):
    hidden = 1 / (1 + np.exp(-(x @ w1 + b1)))
    return hidden, hidden @ w2 + b2


def criterion(x, y, w1, b1, w2, b2):
    """Average over all entries of the squared difference."""
    _, out = model(x, w1, b1, w2, b2)
    return np.mean((out - y) ** 2)


def derivative(x, y, w1, b1, w2, b2):
    hidden, out = model(x, w1, b1, w2, b2)
    g_out = 2 * (out - y) / out.size
    g_hidden = g_out @ w2.T
    g_pre = g_hidden * hidden * (1 - hidden)
    return dict(w1=x.T @ g_pre, b1=g_pre.sum(0), w2=hidden.T @ g_out, b2=g_out.sum(0))
