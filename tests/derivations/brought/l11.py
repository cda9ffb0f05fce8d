import numpy as np


def threshold_net(x, t, W1, theta1, W2, theta2):
    h = np.tanh(x @ W1 - theta1)
    s = h @ W2 - theta2
    d2 = 2 * (s - t) / s.size
    d1 = d2 @ W2.T * (1 - h * h)
    return x.T @ d1, d1.sum(0), h.T @ d2, -d2.sum(0)
