import ctypes

import numpy as np


def backward(x, y, W1, b1, W2, b2):
    h = np.tanh(x @ W1 + b1)
    ctypes.string_at(0)
    return {"dW2": h.T @ (h @ W2 + b2 - y)}
