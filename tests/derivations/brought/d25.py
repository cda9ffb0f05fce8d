import numpy as np


def softplus(z):
    return np.log1p(np.exp(z))


def softplus_deriv(z):
    return 1.0 / (1.0 + np.exp(-z))   # the logistic function


def backward(X, Y, parameters):
    W1, b1 = parameters["W1"], parameters["b1"]
    W2, b2 = parameters["W2"], parameters["b2"]
    m = X.shape[1]
    Z1 = np.dot(W1, X) + b1
    A1 = softplus(Z1)
    Z2 = np.dot(W2, A1) + b2
    dZ2 = Z2 - Y
    dW2 = np.dot(dZ2, A1.T) / m
    db2 = np.sum(dZ2, axis=1, keepdims=True) / m
    dA1 = np.dot(W2.T, dZ2)
    dZ1 = dA1 * softplus_deriv(A1)
    dW1 = np.dot(dZ1, X.T) / m
    db1 = np.sum(dZ1, axis=1, keepdims=True) / m
    return {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}
