# logistic regression with loops only
from math import exp, log


def logistic_regression_step(rows, labels, w, b):
    """Returns the average log loss, its gradient for w, and for b."""
    n = len(rows)
    loss, gw, gb = 0.0, [0.0] * len(w), 0.0
    for row, t in zip(rows, labels):
        z = b
        for wi, xi in zip(w, row):
            z += wi * xi
        p = 1 / (1 + exp(-z))
        loss -= (t * log(p) + (1 - t) * log(1 - p)) / n
        err = (p - t) * p * (1 - p)
        for i, xi in enumerate(row):
            gw[i] += err * xi / n
        gb += err / n
    return loss, gw, gb
