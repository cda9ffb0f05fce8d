import numpy as np


def sigma(v):
    return 1.0 / (1.0 + np.exp(-v))


def phi_prime(v):
    return sigma(v) * (1 - sigma(v))


def bp_algorithm(x, d, w1, theta1, w2, theta2):
    """Haykin: local gradients delta, induced local fields v. Column vectors; x: (m0, 1), d: (m2, 1)."""
    v1 = w1 @ x + theta1
    y1 = sigma(v1)
    v2 = w2 @ y1 + theta2
    y2 = sigma(v2)
    e = d - y2
    delta2 = e * phi_prime(y2)
    delta1 = phi_prime(v1) * (w2.T @ delta2)
    return -delta1 @ x.T, -delta1, -delta2 @ y1.T, -delta2
