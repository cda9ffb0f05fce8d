import numpy as np

# input dataset and output dataset: logical AND / OR of three switches
X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 0]], dtype=float)
y = np.array([[0, 1], [0, 1], [0, 1], [1, 1], [0, 1]], dtype=float)

np.random.seed(42)
lr = 0.5
w0 = np.random.randn(3, 4)
b0 = np.zeros((1, 4))
w1 = np.random.randn(4, 2)
b1 = np.zeros((1, 2))

for epoch in range(20000):
    # forward
    hidden = 1 / (1 + np.exp(-(X @ w0 + b0)))
    out = 1 / (1 + np.exp(-(hidden @ w1 + b1)))
    # backward
    error = out - y
    d_out = error * out * (1 - out)
    d_hidden = d_out @ w1.T * hidden * (1 - hidden)
    # update
    w1 -= lr * hidden.T @ d_out
    b1 -= lr * np.sum(d_out, axis=0, keepdims=True)
    w0 -= lr * X.T @ d_hidden
    b0 -= lr * np.sum(d_hidden, axis=0, keepdims=True)
    if epoch % 1000 == 0:
        print("epoch", epoch, "error", np.mean(np.abs(error)))

print("Output after training")
print(out)
