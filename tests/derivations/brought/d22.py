import numpy as np


def grads(inputs, targets, w1, b1, w2, b2):
    z = np.einsum("bi,ij->bj", inputs, w1) + b1
    h = np.maximum(z, 0.0)
    out = np.einsum("bj,jk->bk", h, w2) + b2
    e = (out - targets) / inputs.shape[0]
    gw2 = np.einsum("bj,bk->jk", h, e)
    gb2 = np.einsum("bk->k", e)
    eh = np.einsum("bk,jk,bj->bj", e, w2, (z > 0).astype(z.dtype))
    gw1 = np.einsum("bi,bj->ij", inputs, eh)
    gb1 = np.einsum("bj->j", eh)
    return gw1, gb1, gw2, gb2
