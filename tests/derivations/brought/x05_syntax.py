import numpy as np

def backward(x, y, W1, b1, W2, b2):
    h = np.tanh(x @ W1 + b1)
    dz2 = (h @ W2 + b2 - y) / len(x
    return {"dW2": h.T @ dz2, "db2": dz2.sum(0)}
