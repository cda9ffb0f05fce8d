import numpy as np


def grads32(x, y, W1, b1, W2, b2):
    """Everything in single precision, as on the GPU."""
    x, W1, b1, W2, b2 = (np.asarray(v, dtype=np.float32) for v in (x, W1, b1, W2, b2))
    y = np.asarray(y, dtype=np.float32)
    z = x @ W1 + b1
    a = 1 / (1 + np.exp(-z))
    logits = a @ W2 + b2
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    d2 = (e / e.sum(axis=1, keepdims=True) - y) / np.float32(len(x))
    d1 = d2 @ W2.T * a * (1 - a)
    return {"W1": x.T @ d1, "b1": d1.sum(0), "W2": a.T @ d2, "b2": d2.sum(0)}
