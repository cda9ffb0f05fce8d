from dataclasses import dataclass

import numpy as np


@dataclass
class Net:
    w_in: np.ndarray
    b_in: np.ndarray
    w_out: np.ndarray
    b_out: np.ndarray

    def backward(self, x, y):
        h = np.maximum(0, x @ self.w_in + self.b_in)
        s = h @ self.w_out + self.b_out
        p = np.exp(s) / np.exp(s).sum(1, keepdims=True)
        g = (p - y) / x.shape[0]
        gh = g @ self.w_out.T
        gh[h <= 0] = 0
        return Net(x.T @ gh, gh.sum(0), h.T @ g, g.sum(0))
