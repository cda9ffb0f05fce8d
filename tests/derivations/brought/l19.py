from typing import NamedTuple

import numpy as np


class Layer(NamedTuple):
    kernel: np.ndarray
    bias: np.ndarray


class Net(NamedTuple):
    hidden: Layer
    out: Layer


def loss_and_grad(net: Net, x, y):
    h = np.tanh(x @ net.hidden.kernel + net.hidden.bias)
    r = h @ net.out.kernel + net.out.bias - y
    loss = np.mean(r**2)
    g = 2 * r / r.size
    gh = g @ net.out.kernel.T * (1 - h**2)
    return loss, Net(hidden=Layer(x.T @ gh, g.sum(0)[:1].repeat(gh.shape[1])), out=Layer(h.T @ g, g.sum(0)))
