import numpy as np

HUBER_DELTA = 0.5


def huber(pred, target):
    r = np.abs(pred - target)
    return np.where(r < HUBER_DELTA, 0.5 * r ** 2, HUBER_DELTA * (r - 0.5 * HUBER_DELTA)).mean()


def huber_grad(pred, target):
    r = pred - target
    return np.where(np.abs(r) < HUBER_DELTA, r, np.sign(r)) / r.size


def gradients(x, y, W1, b1, W2, b2):
    hid = np.tanh(x @ W1 + b1)
    pred = hid @ W2 + b2
    d_pred = huber_grad(pred, y)
    d_hid = d_pred @ W2.T * (1 - hid ** 2)
    return [x.T @ d_hid, d_hid.sum(0), hid.T @ d_pred, d_pred.sum(0)]
