import numpy as np


def affine(x, w, b):
    return x @ w + b


def total_loss(params, x, y, reg=1e-3):
    """Cross-entropy plus 0.5 * reg * (|W1|^2 + |W2|^2), and its gradients."""
    z1 = affine(x, params["W1"], params["b1"])
    h = np.tanh(z1)
    s = affine(h, params["W2"], params["b2"])
    s -= np.log(np.sum(np.exp(s), axis=1, keepdims=True))
    n = x.shape[0]
    loss = -s[np.arange(n), y].mean()
    for name in ("W1", "W2"):
        loss += 0.5 * reg * np.sum(params[name] ** 2)

    ds = np.exp(s)
    ds[np.arange(n), y] -= 1
    ds /= n
    dh = ds @ params["W2"].T
    dz1 = dh * (1 - h ** 2)
    grads = {"W2": h.T @ ds, "b2": ds.sum(0), "W1": x.T @ dz1, "b1": dz1.sum(0)}
    for name in params:
        grads[name] += reg * params[name]
    return loss, grads
