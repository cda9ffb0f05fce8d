import numpy as np


def multi_batch_gradient(x, y, W0, b0, W1, b1):
    """Accumulates over mini-batches of two and divides by their number."""
    grads = None
    starts = list(range(0, len(x), 2))
    for s in starts:
        xb, yb = x[s:s + 2], y[s:s + 2]
        h = np.tanh(xb @ W0 + b0)
        d1 = (h @ W1 + b1 - yb) / len(xb)
        d0 = d1 @ W1.T * (1 - h ** 2)
        g = [xb.T @ d0, d0.sum(0), h.T @ d1, d1.sum(0)]
        grads = g if grads is None else [p + q for p, q in zip(grads, g)]
    return [g / len(starts) for g in grads]
