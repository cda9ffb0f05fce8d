import numpy as np


def softmax(z, temperature=1.0):
    z = z / temperature
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def loss(x, y, W1, b1, W2, b2, temperature=2.0):
    h = np.tanh(x @ W1 + b1)
    return -(y * np.log(softmax(h @ W2 + b2, temperature))).sum(1).mean()


def backward(x, y, W1, b1, W2, b2, temperature=1.0):
    h = np.tanh(x @ W1 + b1)
    p = softmax(h @ W2 + b2, temperature)
    dz = (p - y) / temperature / len(x)
    dh = dz @ W2.T
    dz1 = dh * (1 - h ** 2)
    return dict(dW1=x.T @ dz1, db1=dz1.sum(axis=0), dW2=h.T @ dz, db2=dz.sum(axis=0))
