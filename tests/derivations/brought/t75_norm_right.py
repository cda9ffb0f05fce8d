import numpy as np

# RNN course homework: W and U as names, rows; hidden = sigmoid; output linear
def bwd(x, t, U, V, b, c):
    n = x.shape[0]
    h = 1 / (1 + np.exp(-(x @ U + b)))
    o = h @ V + c
    do = 2 * (o - t) / (n * t.shape[1])
    dV = h.T @ do
    dc = do.sum(0)
    dh = do @ V.T
    dz = dh * h * (1 - h)
    dU = x.T @ dz
    db = dz.sum(0)
    return {'U': dU, 'V': dV, 'b': db, 'c': dc}
