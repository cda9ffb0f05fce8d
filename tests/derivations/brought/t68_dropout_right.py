import numpy as np

def forward_backward(X, y, W1, b1, W2, b2, keep_prob=0.8, train=True):
    N = X.shape[0]
    h = np.maximum(0, X @ W1 + b1)
    mask = (np.random.rand(*h.shape) < keep_prob) / keep_prob
    hd = h * mask
    s = hd @ W2 + b2
    p = np.exp(s - s.max(1, keepdims=True)); p /= p.sum(1, keepdims=True)
    ds = (p - y) / N
    dW2 = hd.T @ ds
    dh = ds @ W2.T * mask
    dh[h <= 0] = 0
    return X.T @ dh, dh.sum(0), dW2, ds.sum(0)
