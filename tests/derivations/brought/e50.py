# four-layer net on XOR, batch gradient descent
import numpy as np

np.random.seed(42)
inputs = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
expected = np.array([[0], [1], [1], [0]])

def sigmoid(x):
    return 1 / (1 + np.exp(-x))

def d_sigmoid(s):
    return s * (1 - s)

w1 = np.random.uniform(-1, 1, (3, 5))
w2 = np.random.uniform(-1, 1, (5, 4))
w3 = np.random.uniform(-1, 1, (4, 1))
lr = 0.5
losses = []
for epoch in range(20000):
    # forward
    a1 = sigmoid(inputs @ w1)
    a2 = sigmoid(a1 @ w2)
    out = sigmoid(a2 @ w3)
    losses.append(np.mean((expected - out) ** 2))
    # backward
    error = expected - out
    d_out = error * d_sigmoid(out)
    d_a2 = d_out.dot(w3.T) * d_sigmoid(a2)
    d_a1 = d_a2.dot(w2.T) * d_sigmoid(a2.mean())
    # update
    w3 += a2.T.dot(d_out) * lr
    w2 += a1.T.dot(d_a2) * lr
    w1 += inputs.T.dot(d_a1) * lr
