import numpy as np

np.random.seed(1)
X = np.random.randn(30, 4)
T = np.random.randn(30, 2)
params = [[np.random.randn(4, 6) * 0.5, np.zeros(6)], [np.random.randn(6, 2) * 0.5, np.zeros(2)]]
for epoch in range(200):
    (W1, b1), (W2, b2) = params
    H = np.tanh(X @ W1 + b1)
    P = H @ W2 + b2
    dP = 2 * (P - T) / P.size
    dH = dP @ W2.T * (1 - H**2)
    grads = [(X.T @ dH, dH.sum(0)), (H.T @ dP, dP.sum(0))]
    for pair, g in zip(params, grads):
        for k in range(2):
            pair[k] = pair[k] - 0.1 * g[k]
