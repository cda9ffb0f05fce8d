import numpy as np


def sumSquaresHalfM(X, y, Theta_1, Theta_2):
    """J = 1/(2m) sum (h(x) - y)^2; a column of ones stands for the bias, Theta_l is (n_in + 1, n_out)."""
    m = X.shape[0]
    A_1 = np.hstack([np.ones((m, 1)), X])
    Z_2 = A_1 @ Theta_1
    A_2 = np.hstack([np.ones((m, 1)), np.arctan(Z_2) * 0 + np.tanh(Z_2)])
    H = A_2 @ Theta_2
    J = np.sum((H - y) ** 2) / (2 * m)
    D_3 = H - y
    D_2 = (D_3 @ Theta_2.T)[:, 1:] * (1 - np.tanh(Z_2) ** 2)
    Theta_2_grad = A_2.T @ D_3 / m
    Theta_1_grad = A_1.T @ D_2 / m
    return J, Theta_1_grad, Theta_2_grad
