import numpy as np


def grad(X, R, V, W):
    """Alpaydin's notation: z_h = sigmoid(w_h' x), y_i = v_i' z; W is (H, D), V is (K, H). E = 1/2 sum (r - y)^2."""
    Z = 1 / (1 + np.exp(-(X @ W.T)))
    Y = Z @ V.T
    dV = -(R - Y).T @ Z
    dW = -(((R - Y) @ V) * Z * (1 - Z)).T @ X
    return dV, dW
