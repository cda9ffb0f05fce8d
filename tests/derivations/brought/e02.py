import numpy as np

reg_lambda = 0.0


def predict(model, X):
    z1 = X.dot(model['W1']) + model['b1']
    a1 = np.maximum(0, z1)            # switched from tanh to ReLU
    z2 = a1.dot(model['W2']) + model['b2']
    exp_scores = np.exp(z2)
    return z1, a1, exp_scores / exp_scores.sum(axis=1, keepdims=True)


def backprop(model, X, y):
    num_examples = X.shape[0]
    z1, a1, probs = predict(model, X)
    delta3 = probs
    delta3[range(num_examples), y] -= 1
    dW2 = (a1.T).dot(delta3)
    db2 = np.sum(delta3, axis=0, keepdims=True)
    delta2 = delta3.dot(model['W2'].T) * (1 - np.power(a1, 2))
    dW1 = np.dot(X.T, delta2)
    db1 = np.sum(delta2, axis=0)
    dW2 += reg_lambda * model['W2']
    dW1 += reg_lambda * model['W1']
    return dW1, db1, dW2, db2
