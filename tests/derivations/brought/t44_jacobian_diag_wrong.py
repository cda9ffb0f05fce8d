import numpy as np

def softmax(v):
    e = np.exp(v - v.max())
    return e / e.sum()

def backprop_sample(x, t, W1, b1, W2, b2):
    """one sample, plain vectors, weights (out, in)"""
    z1 = W1 @ x + b1
    h = np.log(1 + np.exp(z1))            # softplus
    y = softmax(W2 @ h + b2)
    dL_dy = y - t                         # L = 1/2 |y - t|^2
    J = np.diag(y * (1 - y))
    dz2 = J @ dL_dy
    gW2 = np.outer(dz2, h)
    gb2 = dz2
    dh = W2.T @ dz2
    dz1 = dh / (1 + np.exp(-z1))
    gW1 = np.outer(dz1, x)
    gb1 = dz1
    return {"W1": gW1, "b1": gb1, "W2": gW2, "b2": gb2}
