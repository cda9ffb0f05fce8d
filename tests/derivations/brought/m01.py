import numpy as np
def forward(X, parameters):
    A, caches = X, []
    L = len(parameters) // 2
    for l in range(1, L + 1):
        Z = parameters["W" + str(l)] @ A + parameters["b" + str(l)]
        caches.append((A, Z))
        A = 1 / (1 + np.exp(-Z)) if l == L else np.maximum(0, Z)
    return A, caches
def backward(X, Y, parameters):
    AL, caches = forward(X, parameters)
    m = X.shape[1]; grads = {}; dZ = AL - Y
    for l in range(len(caches), 1, -1):
        A, Z = caches[l - 1]
        grads["dW" + str(l)] = dZ @ A.T / m
        grads["db" + str(l)] = dZ.sum(axis=1, keepdims=True) / m
        dZ = parameters["W" + str(l)].T @ dZ * (caches[l - 2][1] > 0)
    grads["dW1"] = dZ @ X.T / m; grads["db1"] = dZ.sum(axis=1, keepdims=True) / m
    return grads
