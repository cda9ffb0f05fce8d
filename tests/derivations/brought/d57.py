import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def compute_grads(X, t, w1, b1, w2, b2):
    '''returns the gradients of the mean squared error'''
    n = len(X)
    h = sigmoid(np.matmul(X, w1) + b1)
    out = np.matmul(h, w2) + b2
    loss = np.sum((out - t) ** 2) / n

    d_out = 2 * (out - t) / n
    d_w2 = np.matmul(h.T, d_out)
    d_b2 = np.sum(d_out, axis=0, keepdims=True)
    d_h = np.matmul(d_out, w2.T) * h * (1 - h)
    d_w1 = np.matmul(h.T, d_h)
    d_b1 = np.sum(d_h, axis=0, keepdims=True)
    return {'dw1': d_w1, 'db1': d_b1, 'dw2': d_w2, 'db2': d_b2}, loss
