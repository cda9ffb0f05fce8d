import numpy as np


def mae_gradients(inputs, targets, layers):
    """layers = [(W, b), (W, b), (W, b)], sigmoid, sigmoid, linear."""
    (Wa, ba), (Wb, bb), (Wc, bc) = layers
    s1 = 1 / (1 + np.exp(-(inputs @ Wa + ba)))
    s2 = 1 / (1 + np.exp(-(s1 @ Wb + bb)))
    y = s2 @ Wc + bc
    dy = np.sign(y - targets) / y.size
    d2 = (dy @ Wc.T) * s2 * (1 - s2)
    d1 = (d2 @ Wb.T) * s1 * (1 - s1)
    return [(inputs.T @ d1, d1.sum(0)), (s1.T @ d2, d2.sum(0)), (s2.T @ dy, dy.sum(0))]
