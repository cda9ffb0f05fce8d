import numpy as np

C0 = np.sqrt(2 / np.pi)


def gelu(z):
    return 0.5 * z * (1 + np.tanh(C0 * (z + 0.044715 * z ** 3)))


def gelu_backward(z):
    t = np.tanh(C0 * (z + 0.044715 * z ** 3))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t ** 2) * C0 * (1 + 0.044715 * z ** 2)


def ffn_backward(x, target, W_up, b_up, W_down, b_down):
    z = x @ W_up + b_up
    out = gelu(z) @ W_down + b_down
    d_out = 2 * (out - target) / target.size
    d_z = (d_out @ W_down.T) * gelu_backward(z)
    return x.T @ d_z, d_z.sum(0), gelu(z).T @ d_out, d_out.sum(0)
