import numpy as np


def fprop(X, Wh, bh, Wy, by):
    S = X @ Wh + bh
    H = np.where(S > 0, S, np.exp(S) - 1)
    return S, H, H @ Wy + by


def bprop(X, T, Wh, bh, Wy, by):
    S, H, Y = fprop(X, Wh, bh, Wy, by)
    gY = 2 / T.size * (Y - T)
    gWy, gby = H.T @ gY, gY.sum(axis=0)
    gH = gY @ Wy.T
    gS = gH * np.where(S > 0, 1, np.exp(S))
    gWh, gbh = X.T @ gS, gS.sum(axis=0)
    gX = gS @ Wh.T
    return dict(dWh=gWh, dbh=gbh, dWy=gWy, dby=gby, dX=gX)
