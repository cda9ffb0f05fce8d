import torch


def backward(x, y, W1, b1, W2, b2):
    z = x @ W1 + b1
    s = torch.sigmoid(z)
    h = z * s
    e = h @ W2 + b2 - y
    d2 = 2 * e / e.numel()
    d1 = d2 @ W2.T * (s + s * (1 - s))
    return {"W1": x.T @ d1, "b1": d1.sum(0), "W2": h.T @ d2, "b2": d2.sum(0)}
