import numpy as np

def step(params, x, y, lr=0.1, weight_decay=0.0):
    W1, b1, W2, b2 = params['W1'], params['b1'], params['W2'], params['b2']
    h = np.tanh(x @ W1 + b1)
    p = np.exp(h @ W2 + b2)
    p = p / p.sum(axis=1, keepdims=True)
    d2 = (p - y) / x.shape[0]
    d1 = d2 @ W2.T * (1 - h ** 2)
    new = {}
    new['W2'] = W2 - lr * (h.T @ d2 + weight_decay * W2)
    new['b2'] = b2 - lr * d2.sum(0)
    new['W1'] = W1 - lr * (x.T @ d1 - weight_decay * W1)
    new['b1'] = b1 - lr * d1.sum(0)
    return new
