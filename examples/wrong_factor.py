"""A wrong derivation, as a plain function in numpy: sigmoid, softmax and cross-entropy, and one factor is missing.

python scripts/gradcheck.py target=examples/wrong_factor.py:backward model.hidden_activation=sigmoid
"""

import numpy as np


def backward(x, y, W_I, b_I, W_O, b_O):
    """Return the gradients; y (B, C) has a one in each row."""
    h = 1 / (1 + np.exp(-(x @ W_I + b_I)))
    e = np.exp(h @ W_O + b_O)
    yhat = e / e.sum(1, keepdims=True)
    delta_O = (yhat - y) / len(x)
    delta_I = delta_O @ W_O.T
    return {
        "delta_O": delta_O,
        "delta_I": delta_I,
        "dW_I": x.T @ delta_I,
        "db_I": delta_I.sum(0),
        "dW_O": h.T @ delta_O,
        "db_O": delta_O.sum(0),
    }
