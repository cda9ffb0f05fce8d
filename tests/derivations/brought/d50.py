"""Parameters and gradients are nested dictionaries, as in haiku."""
import numpy as np


def init(rng, sizes):
    return {
        f"layer{i}": {"W": rng.standard_normal((m, n)) / np.sqrt(m), "b": np.zeros(n)}
        for i, (m, n) in enumerate(zip(sizes, sizes[1:]), start=1)
    }


def apply(params, x):
    trace = [x]
    names = sorted(params)
    for name in names:
        x = x @ params[name]["W"] + params[name]["b"]
        if name != names[-1]:
            x = np.maximum(x, 0)
        trace.append(x)
    return trace


def grad(params, x, y):
    trace = apply(params, x)
    logits = trace.pop()
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    g = (p - y) / y.shape[0]
    grads = {}
    for name in sorted(params, reverse=True):
        a = trace.pop()
        grads[name] = {"dW": a.T @ g, "db": g.sum(0)}
        g = np.where(a > 0, g @ params[name]["W"].T, 0.0)
    return grads
