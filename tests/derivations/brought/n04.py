import numpy as np


def backward(x, y, parameters):
    hs = [x]
    for l, (W, b) in enumerate(parameters):
        z = hs[-1] @ W + b
        hs.append(np.tanh(z) if l < len(parameters) - 1 else z)
    d = 2 * (hs[-1] - y) / y.size
    grads = []
    for l in reversed(range(len(parameters))):
        grads.append((hs[l].T @ d, d.sum(0)))
        d = d @ parameters[l][0].T * (1 - hs[l] ** 2)
    return grads[::-1]
