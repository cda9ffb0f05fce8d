import numpy as np

Xs = np.random.randn(30, 3)
Ys = np.random.randn(30, 2)
v = np.random.randn(2, 4)
w = np.random.randn(4, 3)
for epoch in range(5):
    for x, y in zip(Xs, Ys):
        h = np.tanh(w @ x)
        e = v @ h - y
        dw = np.outer((v.T @ e) * (1 - h**2), x)
        v -= 0.1 * np.outer(e, h)
        w -= 0.1 * dw
