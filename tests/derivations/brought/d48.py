import torch


def einsum_backward(x, y, w1, b1, w2, b2):
    """b: batch, i: input, h: hidden, o: output. Weights are (i, h) and (h, o)."""
    pre = torch.einsum("bi,ih->bh", x, w1) + b1
    act = torch.sigmoid(pre)
    out = torch.einsum("bh,ho->bo", act, w2) + b2
    d_out = 2 * (out - y) / out.numel()
    d_w2 = torch.einsum("bh,bo->ho", act, d_out)
    d_b2 = torch.einsum("bo->o", d_out)
    d_act = torch.einsum("bo,oh->bh", d_out, w2)
    d_pre = d_act * act * (1 - act)
    d_w1 = torch.einsum("bi,bh->ih", x, d_pre)
    d_b1 = torch.einsum("bh->h", d_pre)
    return d_w1, d_b1, d_w2, d_b2
