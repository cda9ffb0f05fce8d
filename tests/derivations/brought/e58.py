# Neural network of "The Elements of Statistical Learning", 11.4, translated from R
import numpy as np


def nnet_gradients(X, Y, alpha, beta):
    """alpha: (p + 1, M), beta: (M + 1, K), intercepts in the first row. R(theta) = sum_i sum_k (y_ik - f_k(x_i))^2"""
    n = X.shape[0]
    X1 = np.column_stack((np.ones(n), X))                       # cbind(1, X)
    Z = 1 / (1 + np.exp(-(X1 @ alpha)))
    Z1 = np.column_stack((np.ones(n), Z))
    f = Z1 @ beta
    delta = -2 * (Y - f)                                        # n x K
    s = Z * (1 - Z) * (delta @ beta[1:, ].T)                    # n x M
    return X1.T @ s, Z1.T @ delta
