import numpy as np

def train_batch(X, T, W1, b1, W2, b2, lr=0.05):
    """in-place SGD step; gradients are returned for logging their norms"""
    H = np.tanh(X @ W1 + b1)
    Y = H @ W2 + b2
    dY = (Y - T) / len(X)
    gW2 = H.T @ dY
    gb2 = dY.sum(0)
    dH = dY @ W2.T * (1 - H * H)
    gW1 = X.T @ dH
    gb1 = dH.sum(0)
    for p, g in ((W1, gW1), (b1, gb1), (W2, gW2), (b2, gb2)):
        p -= lr * g
    return gW1, gb1, gW2, gb2
