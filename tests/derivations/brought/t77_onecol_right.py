import numpy as np

def sigmoid(z): return 1 / (1 + np.exp(-z))

def grads(X, y, W1, b1, W2, b2):
    n = len(X)
    A1 = sigmoid(X @ W1 + b1)
    A2 = sigmoid(A1 @ W2 + b2)          # (n, 1)
    dZ2 = A2 - y.reshape(-1, 1)
    dW2 = A1.T @ dZ2 / n
    db2 = dZ2.sum(axis=0) / n
    dZ1 = dZ2 @ W2.T * A1 * (1 - A1)
    return X.T @ dZ1 / n, dZ1.sum(0) / n, dW2, db2
