import numpy as np

def leaky(z, a=0.01):
    return np.where(z > 0, z, a * z)

def d_leaky(z, a=0.01):
    return np.where(z > 0, 1, 0)

def sigm(z):
    return 1 / (1 + np.exp(-z))

def forward(model, X):
    cache = {}
    cache['Z1'] = model['W1'] @ X + model['b1']
    cache['A1'] = leaky(cache['Z1'])
    cache['Z2'] = model['W2'] @ cache['A1'] + model['b2']
    cache['A2'] = leaky(cache['Z2'])
    cache['Z3'] = model['W3'] @ cache['A2'] + model['b3']
    cache['A3'] = sigm(cache['Z3'])
    return cache

def bce(A3, Y):
    return -np.sum(Y * np.log(A3) + (1 - Y) * np.log(1 - A3)) / Y.shape[1]

def backward(model, X, Y):
    m = X.shape[1]
    c = forward(model, X)
    dZ3 = c['A3'] - Y
    dW3 = dZ3 @ c['A2'].T / m
    db3 = np.sum(dZ3, axis=1, keepdims=True) / m
    dZ2 = (model['W3'].T @ dZ3) * d_leaky(c['Z2'])
    dW2 = dZ2 @ c['A1'].T / m
    db2 = np.sum(dZ2, axis=1, keepdims=True) / m
    dZ1 = (model['W2'].T @ dZ2) * d_leaky(c['Z1'])
    dW1 = dZ1 @ X.T / m
    db1 = np.sum(dZ1, axis=1, keepdims=True) / m
    return bce(c['A3'], Y), {'dW1': dW1, 'db1': db1, 'dW2': dW2, 'db2': db2, 'dW3': dW3, 'db3': db3}
