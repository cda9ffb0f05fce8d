import numpy as np


def grads(x, y, weights):
    """weights: {'h': {'w':, 'b':}, 'o': {...}}"""
    h = np.tanh(x @ weights["h"]["w"] + weights["h"]["b"])
    d = 2 * (h @ weights["o"]["w"] + weights["o"]["b"] - y) / y.size
    g = d @ weights["o"]["w"].T * (1 - h**2)
    return {"h": {"w": x.T @ g, "b": g.sum(0)}, "o": {"w": h.T @ d, "b": d.sum(0)}}
