"""The ones are already the first column of X, and the first column of every Theta belongs to them."""
import numpy as np


def g(z):
    return 1 / (1 + np.exp(-z))


def cost_and_gradient(Theta1, Theta2, X, y):
    m = X.shape[0]
    a1 = X
    a2 = np.hstack([np.ones((m, 1)), g(a1.dot(Theta1.T))])
    h = g(a2.dot(Theta2.T))
    J = (-y * np.log(h) - (1 - y) * np.log(1 - h)).sum() / m
    Delta1 = np.zeros(Theta1.shape)
    Delta2 = np.zeros(Theta2.shape)
    for t in range(m):
        d3 = h[t] - y[t]
        d2 = Theta2.T.dot(d3) * a2[t] * (1 - a2[t])
        Delta2 += np.outer(d3, a2[t])
        Delta1 += np.outer(d2[1:], a1[t])
    return J, Delta1 / m, Delta2 / m
