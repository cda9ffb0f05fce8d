import numpy as np


def backward(params, X, Y):
    """params is a flat list: [W1, b1, W2, b2, W3, b3]."""
    A, acts = X, [X]
    L = len(params) // 2
    for i in range(L):
        Z = A @ params[2 * i] + params[2 * i + 1]
        A = np.tanh(Z) if i < L - 1 else Z
        acts.append(A)
    d = 2 * (A - Y) / A.size
    grads = []
    for i in range(L - 1, -1, -1):
        grads = [acts[i].T @ d, d.sum(0)] + grads
        if i:
            d = d @ params[2 * i].T * (1 - acts[i + 1][:, :1] ** 2)
    return grads
