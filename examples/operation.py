"""A single operation as a `torch.autograd.Function`: its backward pass works in a test of its own and not in a network.

python scripts/gradcheck.py target=examples/operation.py:Swish
"""

import torch


class Swish(torch.autograd.Function):
    """z σ(z)."""

    @staticmethod
    def forward(ctx, z):
        """Return z σ(z)."""
        ctx.save_for_backward(z)
        return z * torch.sigmoid(z)

    @staticmethod
    def backward(ctx, grad_output):
        """Return ∂L/∂z."""
        (z,) = ctx.saved_tensors
        s = torch.sigmoid(z)
        return s + z * s * (1 - s)
