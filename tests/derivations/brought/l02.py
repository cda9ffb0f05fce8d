import numpy as np


def sig(z):
    return 1 / (1 + np.exp(-z))


def grad(U, V, X, Y):
    H = sig(X.dot(U))
    O = H.dot(V)
    P = np.exp(O) / np.exp(O).sum(1, keepdims=True)
    E = (P - Y) / len(X)
    return {"dU": X.T.dot(E.dot(V.T)), "dV": H.T.dot(E)}
