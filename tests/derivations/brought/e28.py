import numpy as np


def forward(params, X):
    """params[l] = {'W': (n_l, n_{l-1}), 'b': (n_l, 1)} for l = 1..L; X has a sample in each column."""
    L = max(params)
    cache = {0: {'A': X}}
    for l in range(1, L + 1):
        Z = params[l]['W'] @ cache[l - 1]['A'] + params[l]['b']
        cache[l] = {'Z': Z, 'A': np.tanh(Z) if l < L else 1 / (1 + np.exp(-Z))}
    return cache


def gradients(params, X, Y):
    L = max(params)
    m = X.shape[1]
    cache = forward(params, X)
    grads = {}
    dZ = cache[L]['A'] - Y
    for l in range(L, 0, -1):
        grads[l] = {'W': dZ @ cache[l - 1]['A'].T / m, 'b': np.mean(dZ, axis=1, keepdims=True)}
        if l > 1:
            dZ = (params[l]['W'].T @ dZ) * (1 - cache[l - 1]['A'] ** 2)
    return grads
