import numpy as np
np.random.seed(1)
X = np.array([[0,0,1],[0,1,1],[1,0,1],[1,1,1]])
y = np.array([[0],[1],[1],[0]])
w0 = 2*np.random.random((3,4)) - 1
w1 = 2*np.random.random((4,1)) - 1
for it in range(60000):
    l0 = X
    l1 = 1/(1+np.exp(-(l0 @ w0)))
    l2 = 1/(1+np.exp(-(l1 @ w1)))
    l2_error = y - l2
    l2_delta = l2_error * l2*(1-l2)
    l1_error = l2_error.dot(w1.T)
    l1_delta = l1_error * l1*(1-l1)
    w1 += 0.1 * l1.T.dot(l2_delta)
    w0 += 0.1 * l0.T.dot(l1_delta)
    if it % 10000 == 0:
        print(np.mean(np.abs(l2_error)))
