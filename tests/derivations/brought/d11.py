"""Training loop without optim: torch.no_grad and -=. The input happens to be as wide as the hidden layer."""
import torch

lr = 1e-1


def train_step(X, Y, W1, b1, W2, b2):
    Z1 = X @ W1 + b1
    A1 = torch.tanh(Z1)
    Yhat = A1 @ W2 + b2
    n = Y.shape[0]
    dYhat = 2.0 * (Yhat - Y) / n
    dW2 = A1.T @ dYhat
    db2 = dYhat.sum(0)
    dA1 = dYhat @ W2.T
    dZ1 = dA1 * (1 - A1 * A1)
    dW1 = dZ1.T @ X
    db1 = dZ1.sum(0)
    with torch.no_grad():
        W1 -= lr * dW1
        b1 -= lr * db1
        W2 -= lr * dW2
        b2 -= lr * db2
    return W1, b1, W2, b2
