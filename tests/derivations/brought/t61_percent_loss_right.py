import numpy as np

def backprop(X, Y, W1, b1, W2, b2):
    m = X.shape[0]
    A1 = np.tanh(X @ W1 + b1)
    P = A1 @ W2 + b2
    rmse = np.sqrt(np.mean((P - Y) ** 2))   # for printing only
    dZ2 = (P - Y) / m
    dZ1 = dZ2 @ W2.T * (1 - A1 ** 2)
    grads = dict(dW1=X.T @ dZ1, db1=dZ1.sum(0), dW2=A1.T @ dZ2, db2=dZ2.sum(0))
    return rmse, grads
