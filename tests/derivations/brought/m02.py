import numpy as np
rng = np.random.default_rng(4)
n, d, k, u = 24, 3, 4, 6
features = rng.normal(size=(n, d))
species = rng.integers(k, size=n)

A1 = rng.normal(size=(d, u)); c1 = np.zeros(u)
A2 = rng.normal(size=(u, k)); c2 = np.zeros(k)
rate = 0.5
for _ in range(500):
    u1 = np.tanh(features @ A1 + c1)
    s = u1 @ A2 + c2
    q = np.exp(s - s.max(1, keepdims=True)); q /= q.sum(1, keepdims=True)
    q[np.arange(n), species] -= 1; e2 = q / n
    e1 = e2 @ A2.T * (1 - u1 * u1)
    A2 -= rate * u1.T @ e2; c2 -= rate * e2.sum(0)
    A1 -= rate * features.T @ e1; c1 -= rate * e1.sum(0)
