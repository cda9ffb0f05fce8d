import numpy as np

ALPHA = 0.1


def leaky_relu(x):
    return np.where(x > 0, x, ALPHA * x)


def leaky_relu_grad(x):
    dx = np.ones_like(x)
    dx[x < 0] = -ALPHA
    return dx


def softmax(x):
    x = np.exp(x - np.max(x, axis=1, keepdims=True))
    return x / np.sum(x, axis=1, keepdims=True)


def loss_and_gradients(params, X, y):
    W1, b1, W2, b2 = params['W1'], params['b1'], params['W2'], params['b2']
    z1 = X @ W1 + b1
    a1 = leaky_relu(z1)
    p = softmax(a1 @ W2 + b2)
    n = len(y)
    loss = -np.log(p[np.arange(n), y]).sum() / n
    dz2 = p
    dz2[np.arange(n), y] -= 1
    dz2 /= n
    grads = {'W2': a1.T @ dz2, 'b2': dz2.sum(axis=0)}
    dz1 = dz2 @ W2.T * leaky_relu_grad(z1)
    grads['W1'] = X.T @ dz1
    grads['b1'] = dz1.sum(axis=0)
    return loss, grads
