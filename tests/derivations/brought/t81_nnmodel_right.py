import numpy as np

def nn_model(X, Y, n_h, num_iterations=1000, learning_rate=1.2):
    n_x, m = X.shape
    n_y = Y.shape[0]
    np.random.seed(3)
    parameters = {"W1": np.random.randn(n_h, n_x) * 0.01, "b1": np.zeros((n_h, 1)),
                  "W2": np.random.randn(n_y, n_h) * 0.01, "b2": np.zeros((n_y, 1))}
    for i in range(num_iterations):
        W1, b1, W2, b2 = (parameters[k] for k in ("W1", "b1", "W2", "b2"))
        A1 = np.tanh(W1 @ X + b1)
        A2 = 1 / (1 + np.exp(-(W2 @ A1 + b2)))
        dZ2 = A2 - Y
        dW2 = dZ2 @ A1.T / m
        db2 = dZ2.sum(axis=1, keepdims=True) / m
        dZ1 = W2.T @ dZ2 * (1 - np.power(A1, 2))
        dW1 = dZ1 @ X.T / m
        db1 = dZ1.sum(axis=1, keepdims=True) / m
        parameters["W1"] = W1 - learning_rate * dW1
        parameters["b1"] = b1 - learning_rate * db1
        parameters["W2"] = W2 - learning_rate * dW2
        parameters["b2"] = b2 - learning_rate * db2
    return parameters
