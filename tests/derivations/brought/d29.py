# gradient descent for a 3-class problem, y one-hot, samples in rows
import numpy as np


def softmax(s):
    s = np.exp(s - s.max(axis=1)[:, None])
    return s / s.sum(axis=1)[:, None]


def calc_loss(X, y, W1, b1, W2, b2):
    h = np.tanh(X.dot(W1) + b1)
    yhat = softmax(h.dot(W2) + b2)
    return -np.sum(y * np.log(yhat)) / y.shape[0]


def calc_grads(X, y, W1, b1, W2, b2):
    h = np.tanh(X.dot(W1) + b1)
    yhat = softmax(h.dot(W2) + b2)
    n = y.shape[0]
    dW2 = h.T.dot(yhat - y) / n
    db2 = (yhat - y).sum(axis=0) / n
    dh = (y - yhat).dot(W2.T) / n
    dz = (1 - h ** 2) * dh
    dW1 = X.T.dot(dz)
    db1 = dz.sum(axis=0)
    return dW1, db1, dW2, db2
