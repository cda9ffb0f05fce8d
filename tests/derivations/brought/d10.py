import torch


def net(x, W1, b1, W2, b2):
    # weights are stored as in nn.Linear, (out_features, in_features)
    h = torch.sigmoid(x @ W1.T + b1)
    return h, torch.softmax(h @ W2.T + b2, dim=-1)


def grads_by_hand(x, y, W1, b1, W2, b2):
    """Compare with autograd: same names, same shapes."""
    B = x.size(0)
    h, p = net(x, W1, b1, W2, b2)
    onehot = torch.zeros_like(p)
    onehot.scatter_(1, y.view(-1, 1), 1.0)
    dz2 = p - onehot
    dW2 = dz2.T @ h / B
    db2 = dz2.sum(dim=0)
    dz1 = (dz2 @ W2) * h * (1 - h)
    dW1 = dz1.T @ x / B
    db1 = dz1.sum(dim=0) / B
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}
