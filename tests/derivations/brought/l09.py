import numpy as np


def grads(params, x, y):
    h = np.tanh(params["hidden"]["w"] @ x + params["hidden"]["b"])
    o = params["output"]["w"] @ h + params["output"]["b"]
    e = o - y
    d = (params["output"]["w"].T @ e) * (1 - h**2)
    return {"hidden": {"w": np.outer(d, x), "b": d}, "output": {"w": np.outer(e, h), "b": e}}
