import numpy as np

def my_loss(x, y, W1, b1, W2, b2):
    h = np.tanh(x @ W1 + b1)
    return np.log(np.cosh(h @ W2 + b2 - y)).sum(1).mean()

def my_grads(x, y, W1, b1, W2, b2):
    h = np.tanh(x @ W1 + b1)
    e = np.tanh(h @ W2 + b2 - y) / len(x)
    d = (e @ W2.T) * (1 - h**2)
    return x.T @ d, d.sum(0), h.T @ e, e.sum(0)
