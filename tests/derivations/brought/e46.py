import numpy as np


class SquareNet:
    """All layers have the same width, as in the exercise."""

    def __init__(self, W, b):
        self.W, self.b = list(W), list(b)

    def gradients(self, x, y):
        L = len(self.W)
        a = [x]
        for l in range(L):
            z = a[-1] @ self.W[l] + self.b[l]
            a.append(1 / (1 + np.exp(-z)))
        d = 2 * (a[L] - y) * a[L] * (1 - a[L]) / y.size
        dW, db = [None] * L, [None] * L
        for l in reversed(range(L)):
            dW[l] = a[l].T @ d
            db[l] = d.sum(0)
            d = (d @ self.W[l - 1].T) * a[l] * (1 - a[l])
        return dW, db
