import numpy as np


def backprop(ws, bs, x, y):
    a, zs = [x], []
    for w, b in zip(ws, bs):
        zs.append(a[-1] @ w + b)
        a.append(1 / (1 + np.exp(-zs[-1])))
    d = (a[-1] - y) / y.size
    gw, gb = [], []
    for w, inp in zip(ws[::-1], a[-2::-1]):
        gw.append(inp.T @ d)
        gb.append(d.sum(axis=0))
        d = d @ w.T * inp * (1 - inp)
    return gw[::-1], gb[::-1]
