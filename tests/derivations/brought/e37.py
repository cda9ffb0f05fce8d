import numpy as np

T = 2.0     # temperature


def softmax(z):
    e = np.exp((z - z.max(axis=1, keepdims=True)) / T)
    return e / e.sum(axis=1, keepdims=True)


def loss(x, y, W1, b1, W2, b2):
    h = np.tanh(x @ W1 + b1)
    p = softmax(h @ W2 + b2)
    return -(y * np.log(p)).sum(1).mean() + 0.05 * ((W1 ** 2).sum() + (W2 ** 2).sum())


def backward(x, y, W1, b1, W2, b2):
    h = np.tanh(x @ W1 + b1)
    p = softmax(h @ W2 + b2)
    dz = (p - y) / len(x)
    dz1 = dz @ W2.T * (1 - h ** 2)
    return dict(dW1=x.T @ dz1 + 0.1 * W1, db1=dz1.sum(axis=0), dW2=h.T @ dz + 0.1 * W2, db2=dz.sum(axis=0))
