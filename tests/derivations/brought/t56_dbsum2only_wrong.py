import numpy as np

def relu(z): return np.maximum(z, 0)
def softmax(z):
    e = np.exp(z - z.max(0))
    return e / e.sum(0)

def backward_prop(X, Y, W1, b1, W2, b2):
    m = X.shape[1]
    Z1 = W1.dot(X) + b1
    A1 = relu(Z1)
    A2 = softmax(W2.dot(A1) + b2)
    dZ2 = A2 - Y
    dW2 = 1 / m * dZ2.dot(A1.T)
    db2 = np.sum(dZ2, 1, keepdims=True)
    dZ1 = W2.T.dot(dZ2) * (Z1 > 0)
    dW1 = 1 / m * dZ1.dot(X.T)
    db1 = 1 / m * np.sum(dZ1, 1, keepdims=True)
    return dW1, db1, dW2, db2
