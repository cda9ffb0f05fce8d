import numpy as np

data = np.genfromtxt('train.csv', delimiter=',', skip_header=1)
np.random.shuffle(data)
X_train = data[:, 1:].T / 255.0
Y_train = np.eye(10)[data[:, 0].astype(int)].T
n_features, n_samples = X_train.shape
hidden_units = 32


def softmax(Z):
    e = np.exp(Z - np.max(Z, axis=0, keepdims=True))
    return e / np.sum(e, axis=0, keepdims=True)


def sigmoid(Z):
    return 1 / (1 + np.exp(-Z))


def gradient_step(W1, b1, W2, b2, X, Y, learning_rate):
    m = X.shape[1]
    # forward
    A1 = sigmoid(W1 @ X + b1)
    A2 = softmax(W2 @ A1 + b2)
    # backward
    dZ2 = A2 - Y
    dW2 = dZ2 @ A1.T / m
    db2 = dZ2.sum(axis=1, keepdims=True) / m
    dZ1 = W2.T @ dZ2 * A1 * (1 - A1)
    dW1 = dZ1 @ X.T / m
    db1 = dZ1.sum(axis=1, keepdims=True) / m
    return (W1 - learning_rate * dW1, b1 - learning_rate * db1,
            W2 - learning_rate * dW2, b2 - learning_rate * db2)


W1 = np.random.randn(hidden_units, n_features) * 0.01
b1 = np.zeros((hidden_units, 1))
W2 = np.random.randn(10, hidden_units) * 0.01
b2 = np.zeros((10, 1))
for i in range(500):
    W1, b1, W2, b2 = gradient_step(W1, b1, W2, b2, X_train, Y_train, 0.5)
np.savez('weights.npz', W1=W1, b1=b1, W2=W2, b2=b2)
