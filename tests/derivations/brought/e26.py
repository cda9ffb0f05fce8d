"""Pullbacks as closures: each primitive returns its value and a function from the output's cotangent to the inputs'."""
import numpy as np


def affine(x, W, b):
    def pullback(ct):
        return ct @ W.T, x.T @ ct, ct.sum(axis=0)
    return x @ W + b, pullback


def tanh(z):
    a = np.tanh(z)
    return a, lambda ct: ct * (1 - a * a)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return p, lambda ct: p * (ct - (ct * p).sum(axis=1, keepdims=True))


def nll(p, y):
    n = p.shape[0]
    return -(y * np.log(p)).sum() / n, lambda ct: -ct * y / p / n


def value_and_pullback(x, y, W1, b1, W2, b2):
    z1, d_affine1 = affine(x, W1, b1)
    h, d_tanh = tanh(z1)
    z2, d_affine2 = affine(h, W2, b2)
    p, d_softmax = softmax(z2)
    loss, d_nll = nll(p, y)

    def pullback(ct=1.0):
        ct = d_softmax(d_nll(ct))
        ct, gW2, gb2 = d_affine2(ct)
        _, gW1, gb1 = d_affine1(d_tanh(ct))
        return gW1, gb1, gW2, gb2
    return loss, pullback
