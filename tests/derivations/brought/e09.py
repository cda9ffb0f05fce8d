# ex4 of the machine learning course, from my Octave solution
import numpy as np


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def sigmoidGradient(z):
    g = sigmoid(z)
    return g * (1 - g)


def nnCost(Theta1, Theta2, X, Y, lamb=1.0):
    m = X.shape[0]
    J = 0.0
    Theta1_grad = np.zeros(Theta1.shape)
    Theta2_grad = np.zeros(Theta2.shape)
    Delta1 = np.zeros(Theta1.shape)
    Delta2 = np.zeros(Theta2.shape)
    for t in range(1, m + 1):
        a1 = np.vstack(([[1.0]], X[t - 1, :].reshape(-1, 1)))
        z2 = Theta1.dot(a1)
        a2 = np.vstack(([[1.0]], sigmoid(z2)))
        z3 = Theta2.dot(a2)
        a3 = sigmoid(z3)
        yt = Y[t - 1, :].reshape(-1, 1)
        J = J + float(np.sum(-yt * np.log(a3) - (1 - yt) * np.log(1 - a3)))
        delta3 = a3 - yt
        delta2 = Theta2[:, 1:].T.dot(delta3) * sigmoidGradient(z2)
        Delta1 = Delta1 + delta2.dot(a1.T)
        Delta2 = Delta2 + delta3.dot(a2.T)
    J = J / m + lamb / (2 * m) * (np.sum(Theta1[:, 1:] ** 2) + np.sum(Theta2[:, 1:] ** 2))
    Theta1_grad = Delta1 / m
    Theta2_grad = Delta2 / m
    Theta2_grad[:, 1:] = Theta2_grad[:, 1:] + lamb / m * Theta2[:, 1:]
    return J, Theta1_grad, Theta2_grad
