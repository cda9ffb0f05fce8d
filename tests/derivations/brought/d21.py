import numpy as np


def mse_loss_and_grads(X, y, W1, b1, W2, b2):
    """House prices: tanh hidden layer, linear output, y is (N, 1)."""
    N = X.shape[0]
    hidden = np.tanh(X @ W1 + b1)
    pred = hidden @ W2 + b2
    loss = np.mean((pred - y) ** 2)

    d_pred = (pred - y) / N
    d_W2 = hidden.T @ d_pred
    d_b2 = d_pred.sum(axis=0)
    d_hidden = (d_pred @ W2.T) * (1 - hidden ** 2)
    d_W1 = X.T @ d_hidden
    d_b1 = d_hidden.sum(axis=0)
    return loss, {"W1": d_W1, "b1": d_b1, "W2": d_W2, "b2": d_b2}
