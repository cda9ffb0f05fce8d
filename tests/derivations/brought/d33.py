import numpy as np


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def epoch_gradients(data, labels, w1, b1, w2, b2):
    """Goes through the samples one by one and adds up their gradients (a full-batch step)."""
    dw1, db1 = np.zeros(w1.shape), np.zeros(b1.shape)
    dw2, db2 = np.zeros(w2.shape), np.zeros(b2.shape)
    for x, t in zip(data, labels):
        a1 = sigmoid(np.dot(w1, x) + b1)
        a2 = sigmoid(np.dot(w2, a1) + b2)
        delta2 = (a2 - t) * a2 * (1 - a2)
        dw2 += np.outer(delta2, a1)
        db2 += delta2
        delta1 = np.dot(w2.T, delta2) * a1 * (1 - a1)
        dw1 += np.outer(delta1, x)
        db1 = delta1
    n = len(data)
    return dw1 / n, db1 / n, dw2 / n, db2 / n
