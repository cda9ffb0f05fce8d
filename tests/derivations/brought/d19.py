import numpy as np


def relu(Z):
    return np.maximum(0, Z)


def softmax(Z):
    ex = np.exp(Z - Z.max(axis=0))
    return ex / ex.sum(axis=0)


def one_hot_encode(Y, classes=3):
    out = np.zeros((classes, Y.size))
    out[Y, np.arange(Y.size)] = 1
    return out


def forward(X, W1, b1, W2, b2):
    Z1 = W1 @ X + b1
    A1 = relu(Z1)
    Z2 = W2 @ A1 + b2
    A2 = softmax(Z2)
    return Z1, A1, Z2, A2


def back_prop(Z1, A1, Z2, A2, W1, W2, X, Y):
    m = Y.size
    dZ2 = A2 - one_hot_encode(Y)
    dW2 = dZ2 @ A1.T / m
    dB2 = np.sum(dZ2, axis=1).reshape(-1, 1) / m
    dZ1 = (W2.T @ dZ2) * (Z1 > 0).astype(float)
    dW1 = dZ1 @ X.T / m
    dB1 = np.sum(dZ1, axis=1).reshape(-1, 1) / m
    return dW1, dB1, dW2, dB2


def get_accuracy(A2, Y):
    return np.mean(np.argmax(A2, axis=0) == Y)
