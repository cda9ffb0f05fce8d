from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Layer:
    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Model:
    first: Layer
    second: Layer


def sgd_step(model: Model, x, y, lr):
    z = model.first.weight @ x + model.first.bias
    h = np.tanh(z)
    out = model.second.weight @ h + model.second.bias
    d2 = 2 * (out - y) / out.size
    d1 = model.second.weight.T @ d2 * (1 - h**2)
    first = replace(model.first, weight=model.first.weight - lr * d1 @ x.T,
                    bias=model.first.bias - lr * d1.sum(1, keepdims=True))
    second = replace(model.second, weight=model.second.weight - lr * d2 @ h.T,
                     bias=model.second.bias - lr * d2.sum(1, keepdims=True))
    return Model(first, second)
