import numpy as np


def threshold_backward(x, y, h, out, W2):
    """z = x W - theta; the thresholds' gradients have a minus."""
    d = 2 * (out - y) / y.size
    g = d @ W2.T * (1 - h**2)
    return dict(dW1=x.T @ g, dtheta1=g.sum(0), dW2=h.T @ d, dtheta2=d.sum(0))


def forward(x, W1, theta1, W2, theta2):
    h = np.tanh(x @ W1 - theta1)
    return h, h @ W2 - theta2
