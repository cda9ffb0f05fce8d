"""For scipy.optimize.minimize(..., jac=True): one flat vector in, cost and flat gradient out."""
import numpy as np


def unpack(theta, n_in, n_hid, n_out):
    i = n_in * n_hid
    W1 = theta[:i].reshape(n_in, n_hid)
    b1 = theta[i:i + n_hid]
    i += n_hid
    W2 = theta[i:i + n_hid * n_out].reshape(n_hid, n_out)
    b2 = theta[i + n_hid * n_out:]
    return W1, b1, W2, b2


def cost_and_grad(theta, X, y, n_in, n_hid, n_out, weight_decay=1e-2):
    W1, b1, W2, b2 = unpack(theta, n_in, n_hid, n_out)
    N = X.shape[0]
    a1 = np.tanh(X @ W1 + b1)
    z = a1 @ W2 + b2
    z -= z.max(axis=1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    J = -np.sum(y * logp) / N + 0.5 * weight_decay * (np.sum(W1 ** 2) + np.sum(W2 ** 2))
    d2 = (np.exp(logp) - y) / N
    d1 = d2 @ W2.T * (1 - a1 ** 2)
    grad = np.concatenate([
        (X.T @ d1 + weight_decay * W1).ravel(),
        d1.sum(axis=0),
        (a1.T @ d2 + weight_decay * W2).ravel(),
        d2.sum(axis=0),
    ])
    return J, grad
