"""A derivation with two mistakes at once, as a plain function in torch: relu, sigmoid and the squared error.

python scripts/gradcheck.py target=examples/wrong_twice.py:backward model.hidden_activation=relu \
    model.output_activation=sigmoid model.loss=mse
"""

import torch


def backward(x, y, W_I, b_I, W_O, b_O):
    """Return the mean of (ŷ − y)², and its gradients."""
    z_I = x @ W_I + b_I
    h = torch.relu(z_I)
    yhat = torch.sigmoid(h @ W_O + b_O)
    delta_O = (yhat - y) / y.numel() * yhat * (1 - yhat)
    delta_I = (delta_O @ W_O.T) * (z_I > 0)
    loss = ((yhat - y) ** 2).mean()
    return loss, {"dW_I": x.T @ delta_I, "db_I": delta_I.mean(0), "dW_O": h.T @ delta_O, "db_O": delta_O.sum(0)}
