import numpy as np


def nonlin(x, deriv=False):
    s = 1 / (1 + np.exp(-x))
    if deriv:
        return s * (1 - s)
    return s


X = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1]])
y = np.array([[0, 1], [1, 0], [1, 1], [0, 0], [1, 0]])

np.random.seed(1)
# three layers of weights, mean 0
syn0 = 2 * np.random.random((4, 5)) - 1
syn1 = 2 * np.random.random((5, 3)) - 1
syn2 = 2 * np.random.random((3, 2)) - 1

for j in range(60000):
    l0 = X
    l1 = nonlin(np.dot(l0, syn0))
    l2 = nonlin(np.dot(l1, syn1))
    l3 = nonlin(np.dot(l2, syn2))

    l3_error = y - l3
    if (j % 10000) == 0:
        print("Error:" + str(np.mean(np.abs(l3_error))))
    l3_delta = l3_error * nonlin(l3, deriv=True)
    l2_delta = l3_delta.dot(syn2.T) * nonlin(l2, deriv=True)
    l1_delta = l2_delta.dot(syn1.T) * nonlin(l1, deriv=True)

    syn2 += l2.T.dot(l3_delta)
    syn1 += l1.T.dot(l2_delta)
    syn0 += l0.T.dot(l1_delta)
