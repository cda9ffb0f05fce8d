import numpy as np


def backprop(nn, sample):
    x, target = sample
    (w, b), (v, c) = nn
    h = np.tanh(w @ x + b)
    e = v @ h + c - target
    d = v.T @ e * (1 - h**2)
    return (np.outer(d, x), d), (np.outer(e, h), e)
