import numpy as np


def lossFun(x, targets, W_xh, b_h, W_hy, b_y):
    """min-char-rnn without the recurrence. Samples are rows."""
    hs = np.tanh(np.dot(x, W_xh.T) + b_h.T)
    ys = np.dot(hs, W_hy.T) + b_y.T
    ps = np.exp(ys) / np.sum(np.exp(ys), axis=1, keepdims=True)
    loss = 0
    dy = np.copy(ps)
    for t in range(len(targets)):
        loss += -np.log(ps[t, targets[t]])
        dy[t, targets[t]] -= 1
    dWhy = np.dot(dy.T, hs)
    dby = np.sum(dy, axis=0).reshape(b_y.shape)
    dh = np.dot(dy, W_hy)
    dhraw = (1 - hs * hs) * dh
    dWxh = np.dot(dhraw.T, x)
    dbh = np.sum(dhraw, axis=0).reshape(b_h.shape)
    return loss, dWxh, dbh, dWhy, dby
