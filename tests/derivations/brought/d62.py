import numpy as np


def f(x):
    return 1 / (1 + np.exp(-x))


def f_prime(x):
    return f(x) * (1 - f(x))


def deltas_and_gradients(X, T, V, c, W, d):
    """X -> (V, c) -> f -> (W, d) -> f, error 1/2 |o - t|^2, as many outputs as hidden units."""
    net_h = X @ V + c
    H = f(net_h)
    net_o = H @ W + d
    O = f(net_o)
    delta_o = (O - T) * f_prime(net_o)
    delta_h = (delta_o * f_prime(net_h)) @ W.T
    grad_W = H.T @ delta_o
    grad_d = delta_o.sum(axis=0)
    grad_V = X.T @ delta_h
    grad_c = delta_h.sum(axis=0)
    return grad_V, grad_c, grad_W, grad_d
