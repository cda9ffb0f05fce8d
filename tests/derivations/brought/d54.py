import numpy as np

rng = np.random.default_rng(3)
W1 = rng.normal(size=(2, 8))
b1 = np.zeros(8)
W2 = rng.normal(size=(8, 1))
b2 = np.zeros(1)
lr = 0.1


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def forward(X):
    h = np.tanh(X @ W1 + b1)
    return h, sigmoid(h @ W2 + b2)


def train_step(X, y):
    global W2, b2
    h, p = forward(X)
    d2 = (p - y) / len(X)
    d1 = d2 @ W2.T * (1 - h ** 2)
    W2 = W2 - lr * h.T @ d2
    b2 = b2 - lr * d2.sum(axis=0)
    W1_new = W1 - lr * X.T @ d1
    b1_new = b1 - lr * d1.sum(axis=0)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
