import numpy as np


def forward(x, w, c, v, d):
    pre = np.einsum('nd,dh->nh', x, w) + c
    act = 1 / (1 + np.exp(-pre))
    out = np.einsum('nh,hk->nk', act, v) + d
    return pre, act, out


def grads(x, y, w, c, v, d):
    pre, act, out = forward(x, w, c, v, d)
    out = np.exp(out - out.max(-1, keepdims=True))
    out /= np.einsum('nk->n', out)[:, None]
    dout = (out - y) / len(x)
    dv = np.einsum('nk,nh->hk', dout, act)
    dd = np.einsum('nk->k', dout)
    dact = np.einsum('nk,kh->nh', dout, v)
    dpre = dact * act * (1 - act)
    dw = np.einsum('nh,nd->dh', dpre, x)
    dc = np.einsum('nh->h', dpre)
    return dw, dc, dv, dd
