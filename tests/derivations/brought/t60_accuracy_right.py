import numpy as np

def step(X, Y, W1, b1, W2, b2):
    m = X.shape[0]
    A1 = np.tanh(X @ W1 + b1)
    S = np.exp(A1 @ W2 + b2)
    P = S / S.sum(axis=1, keepdims=True)
    acc = np.mean(P.argmax(1) == Y.argmax(1))
    dZ2 = P - Y
    dZ1 = dZ2 @ W2.T * (1 - A1 ** 2)
    return acc, X.T @ dZ1 / m, dZ1.sum(0) / m, A1.T @ dZ2 / m, dZ2.sum(0) / m
