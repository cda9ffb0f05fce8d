import numpy as np

rng = np.random.RandomState(0)
X = rng.randn(32, 5)
labels = rng.randint(0, 3, 32)
Y = np.eye(3)[labels]
p = {"W1": 0.3 * rng.randn(5, 8), "b1": np.zeros(8), "W2": 0.3 * rng.randn(8, 3), "b2": np.zeros(3)}
v = {k: np.zeros_like(a) for k, a in p.items()}
for t in range(500):
    h = np.maximum(0, X @ p["W1"] + p["b1"])
    s = h @ p["W2"] + p["b2"]
    q = np.exp(s - s.max(1, keepdims=True))
    q /= q.sum(1, keepdims=True)
    d = (q - Y) / 32
    g = {"W2": h.T @ d, "b2": d.sum(0)}
    dh = d @ p["W2"].T * (h > 0)
    g["W1"], g["b1"] = X.T @ dh, dh.sum(0)
    for k in p:
        v[k] = 0.9 * v[k] - 0.1 * g[k]
        p[k] = p[k] + v[k]
