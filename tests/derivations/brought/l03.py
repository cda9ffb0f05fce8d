from dataclasses import dataclass

import numpy as np


@dataclass
class Layer:
    W: np.ndarray
    b: np.ndarray


def backprop(layers: list[Layer], x, y):
    acts = [x]
    for layer in layers:
        acts.append(np.tanh(acts[-1] @ layer.W + layer.b))
    z = acts[-2] @ layers[-1].W + layers[-1].b
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    delta = (p - y) / len(x)
    grads = []
    for i in reversed(range(len(layers))):
        grads.append(Layer(acts[i].T @ delta, delta.sum(axis=0)))
        delta = (delta @ layers[i].W.T) * (1 - acts[i] ** 2)
    return grads[::-1]
