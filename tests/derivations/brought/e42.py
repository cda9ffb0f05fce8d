import numpy as np


def mae(y_true, y_pred):
    return np.mean(np.abs(y_true - y_pred))


def mae_prime(y_true, y_pred):
    return np.abs(y_pred - y_true) / y_true.size


def fit_step(x, y, w1, b1, w2, b2, lr=0.01):
    a1 = np.tanh(x @ w1 + b1)
    y_pred = a1 @ w2 + b2
    grad = mae_prime(y, y_pred)
    gw2 = a1.T @ grad
    gb2 = np.sum(grad, axis=0)
    grad = grad @ w2.T * (1 - a1 ** 2)
    gw1 = x.T @ grad
    gb1 = np.sum(grad, axis=0)
    return w1 - lr * gw1, b1 - lr * gb1, w2 - lr * gw2, b2 - lr * gb2
