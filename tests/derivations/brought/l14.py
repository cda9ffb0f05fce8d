import numpy as np


def loglik_grads(x, counts, w, a, v, b):
    """counts ~ Poisson(exp(v tanh(w x + a) + b)); gradient of the mean negative log-likelihood."""
    h = np.tanh(x @ w + a)
    mu = np.exp(h @ v + b)
    g = (mu - counts) / counts.size
    gh = (g @ v.T) * (1 - h**2)
    return dict(w=x.T @ gh, a=gh.sum(0), v=h.T @ g, b=g.sum(0))
