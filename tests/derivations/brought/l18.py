import numpy as np


def backprop(network, x, target):
    """network: a list of dicts with 'weights' and 'bias'."""
    outputs = [x]
    for layer in network:
        outputs.append(1 / (1 + np.exp(-(layer["weights"] @ outputs[-1] + layer["bias"]))))
    delta = (outputs[-1] - target) * outputs[-1] * (1 - outputs[-1])
    grads = []
    for layer, inp in zip(network[::-1], outputs[-2::-1]):
        grads.append({"weights": np.outer(delta, inp), "bias": delta})
        delta = (layer["weights"].T @ delta) * inp * (1 - inp)
    return grads[::-1]
