import numpy as np


def relu(z):
    return np.where(z > 0, z, 0.0)


def backward(params, x, y):
    """params: [{'w': ..., 'b': ...}, ...], one dict a layer; returns a list of the same form."""
    hs, zs = [x], []
    for p in params:
        zs.append(hs[-1] @ p['w'] + p['b'])
        hs.append(relu(zs[-1]))
    out = zs[-1]
    g = 2.0 * (out - y) / out.size
    grads = [None] * len(params)
    for i in reversed(range(len(params))):
        if i != len(params) - 1:
            g = g * (zs[i] > 0)
        grads[i] = {'w': hs[i].T @ g, 'b': g.sum(0)}
        g = g @ params[i]['w'].T
    return grads
