import numpy as np

def sigmoid(z):
    return 1 / (1 + np.exp(-z))

def gradient_descent(X, y, alpha=0.01, num_iters=1000):
    m, n = X.shape
    w = np.zeros(n)
    b = 0.0
    for i in range(num_iters):
        err = sigmoid(X @ w + b) - y
        w = w - alpha * X.T @ err / m
        b = b - alpha * err.mean()
    return w, b
