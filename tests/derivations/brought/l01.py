import numpy as np


def backward(x, t, w, b, v, c):
    a = x @ w.T + b
    h = np.maximum(a, 0)
    out = h @ v.T + c
    e = 2 * (out - t) / out.size
    gv, gc = e.T @ h, e.sum(0)
    d = (e @ v) * (a > 0)
    return d.T @ x, d.sum(0), gv, gc
