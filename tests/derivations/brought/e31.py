import numpy as np


def clip_by_norm(gs, max_norm=1000.0):
    norm = np.sqrt(sum(np.sum(g ** 2) for g in gs))
    return [g * min(1.0, max_norm / (norm + 1e-12)) for g in gs]


def bprop(xb, yb, wxh, bh, why, by):
    hraw = xb.dot(wxh) + bh
    h = np.maximum(0.1 * hraw, hraw)
    o = h.dot(why) + by
    do = (o - yb) / xb.shape[0]
    dwhy = h.T.dot(do)
    dby = do.sum(axis=0)
    dh = do.dot(why.T)
    dhraw = dh * np.where(hraw > 0, 1.0, 0.1)
    dwxh = xb.T.dot(dhraw)
    dbh = dhraw.sum(axis=0)
    for dparam in [dwxh, dbh, dwhy, dby]:
        np.clip(dparam, -50, 50, out=dparam)    # clip to mitigate exploding gradients
    return clip_by_norm([dwxh, dbh, dwhy, dby])
