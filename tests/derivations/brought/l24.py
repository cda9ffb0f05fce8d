import numpy as np


def train_sample(x, t, w1, theta1, w2, theta2, eta=0.1):
    """Rumelhart's net with thresholds: net = w x - theta."""
    h = 1 / (1 + np.exp(-(w1 @ x - theta1)))
    o = 1 / (1 + np.exp(-(w2 @ h - theta2)))
    do = (o - t) * o * (1 - o)
    dh = (w2.T @ do) * h * (1 - h)
    w2 = w2 - eta * np.outer(do, h)
    theta2 = theta2 + eta * do
    w1 = w1 - eta * np.outer(dh, x)
    theta1 = theta1 - eta * dh
    return w1, theta1, w2, theta2
