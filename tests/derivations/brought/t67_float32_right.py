import torch

def backward(x, y, w1, b1, w2, b2):
    x, y = x.float(), y.float()
    w1, b1, w2, b2 = [t.float() for t in (w1, b1, w2, b2)]
    h = torch.relu(x @ w1 + b1)
    out = torch.sigmoid(h @ w2 + b2)
    d2 = (out - y) / x.size(0)
    d1 = d2 @ w2.t() * (h > 0).float()
    return x.t() @ d1, d1.sum(0), h.t() @ d2, d2.sum(0)
