"""A right derivation, as a `torch.autograd.Function`: tanh behind the hidden layer, softmax at the output.

python scripts/gradcheck.py target=examples/right.py:TwoLayers
"""

import torch


class TwoLayers(torch.autograd.Function):
    """ŷ = softmax(h W_O + b_O), h = tanh(x W_I + b_I)."""

    @staticmethod
    def forward(ctx, x, W_I, b_I, W_O, b_O):
        """Return ŷ (B, C) of x (B, D)."""
        h = torch.tanh(x @ W_I + b_I)
        yhat = torch.softmax(h @ W_O + b_O, -1)
        ctx.save_for_backward(x, W_I, W_O, h, yhat)
        return yhat

    @staticmethod
    def backward(ctx, dL_dyhat):
        """Return ∂L/∂ of x, W_I, b_I, W_O, b_O."""
        x, W_I, W_O, h, yhat = ctx.saved_tensors
        delta_O = yhat * (dL_dyhat - (yhat * dL_dyhat).sum(-1, keepdim=True))
        delta_I = (delta_O @ W_O.T) * (1 - h**2)
        return delta_I @ W_I.T, x.T @ delta_I, delta_I.sum(0), h.T @ delta_O, delta_O.sum(0)
