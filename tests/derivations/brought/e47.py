import numpy as np


def gradients(params, X, Y):
    """params: W1..WL, b1..bL; columns."""
    L = len(params) // 2
    m = X.shape[1]
    A = {0: X}
    for l in range(1, L):
        A[l] = np.tanh(params[f'W{l}'] @ A[l - 1] + params[f'b{l}'])
    Z = params[f'W{L}'] @ A[L - 1] + params[f'b{L}']
    E = np.exp(Z - Z.max(axis=0, keepdims=True))
    A[L] = E / E.sum(axis=0, keepdims=True)
    grads = {'d' + k: np.zeros_like(v) for k, v in params.items()}
    dZ = A[L] - Y
    for l in range(L, 1, -1):
        grads[f'dW{l}'] = dZ @ A[l - 1].T / m
        grads[f'db{l}'] = dZ.sum(axis=1, keepdims=True) / m
        dZ = params[f'W{l}'].T @ dZ * (1 - A[l - 1] ** 2)
    return grads
