import numpy as np


def relu(x):
    return x * (x > 0)


def train(x, y, w1, b1, w2, b2, alpha=0.05, lam=0.01):
    n = x.shape[0]
    z1 = x @ w1 + b1
    a1 = relu(z1)
    z2 = a1 @ w2 + b2
    loss = np.sum((z2 - y) ** 2) / n + lam * (np.sum(w1 ** 2) + np.sum(w2 ** 2))
    dz2 = 2 * (z2 - y) / n
    dw2 = a1.T @ dz2
    db2 = dz2.sum(0)
    dz1 = dz2 @ w2.T * (z1 > 0)
    dw1 = x.T @ dz1
    db1 = dz1.sum(0)
    w1 -= alpha * dw1 + lam * w1
    b1 -= alpha * db1
    w2 -= alpha * dw2 + lam * w2
    b2 -= alpha * db2
    return loss, [w1, b1, w2, b2]
