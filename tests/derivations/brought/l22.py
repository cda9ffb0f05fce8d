import numpy as np


def backprop(layers, x, y):
    """layers: dict 0..L-1 of dicts with W (out, in) and b."""
    acts = {-1: x}
    for k in layers:
        z = layers[k]["W"] @ acts[k - 1] + layers[k]["b"]
        acts[k] = np.tanh(z) if k < len(layers) - 1 else z
    g = {}
    d = 2 * (acts[len(layers) - 1] - y) / y.size
    for k in reversed(range(len(layers))):
        g[k] = {"dW": d @ acts[k - 1].T, "db": d.sum(1, keepdims=True)}
        d = layers[k]["W"].T @ d * (1 - acts[k - 1] ** 2)
    return g
