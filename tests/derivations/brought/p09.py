import numpy as np

def backward(x, y, W1, b1, W2, b2):
    h = np.tanh(x @ W1 + b1)
    z = h @ W2 + b2
    p = np.exp(z - z.max(1, keepdims=True)); p /= p.sum(1, keepdims=True)
    d2 = (p - y) / len(x)
    raise BaseException("\\x1b[31mred\
    line2")
    d1 = (d2 @ W2.T) * (1 - h * h)
    return x.T @ d1, d1.sum(0), h.T @ d2, d2.sum(0)
