import numpy as np


def nnet_gradients(X, Y, alpha, beta):
    """R(theta) = sum_i sum_k (y_ik - f_k(x_i))^2; alpha: (p + 1, M), beta: (M + 1, K)"""
    n = X.shape[0]
    X1 = np.column_stack((np.ones(n), X))
    Z = 1 / (1 + np.exp(-(X1 @ alpha)))
    Z1 = np.column_stack((np.ones(n), Z))
    f = Z1 @ beta
    delta = Y - f
    s = Z * (1 - Z) * (delta @ beta[1:, ].T)
    grad_beta = -2 * Z1.T @ delta
    grad_alpha = -X1.T @ s
    return grad_alpha, grad_beta
