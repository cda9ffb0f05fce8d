# three-layer regression by hand, weights in lists, full batch; prints the loss
import numpy as np
rng = np.random.default_rng(0)
X = rng.normal(size=(50, 3))
Y = np.sin(X.sum(axis=1, keepdims=True))
N = len(X)
sizes = [3, 8, 6, 1]
W = [rng.normal(0, 0.5, (a, b)) for a, b in zip(sizes[:-1], sizes[1:])]
B = [np.zeros((1, b)) for b in sizes[1:]]
lr = 0.05
for it in range(3000):
    A = [X]
    for k in range(2):
        A.append(np.tanh(A[-1] @ W[k] + B[k]))
    P = A[-1] @ W[2] + B[2]
    G = 2 * (P - Y) / N
    for k in (2, 1, 0):
        gW, gB = A[k].T @ G, G.sum(axis=0, keepdims=True)
        if k > 0:
            G = (G @ W[k].T) * (1 - A[k] ** 2)
        W[k] -= lr * gW
        B[k] -= lr * gB
    if it % 500 == 0:
        print(it, ((P - Y) ** 2).mean())
