import numpy as np

X = np.random.randn(12, 3)
T = np.random.randn(12, 2)
W1, W2 = np.random.randn(3, 4), np.random.randn(4, 2)
th1, th2 = 0.1 * np.ones(4), 0.2 * np.ones(2)
for i in range(10):
    H = np.tanh(X @ W1 - th1)
    E = H @ W2 - th2 - T
    G = E @ W2.T * (1 - H**2)
    W1 -= 0.01 * X.T @ G
    th1 += 0.01 * G.sum(0)
    W2 -= 0.01 * H.T @ E
    th2 += 0.01 * E.sum(0)
