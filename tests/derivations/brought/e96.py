import torch


class Maximum(torch.autograd.Function):
    """max(a, b), element by element."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a > b)
        return torch.maximum(a, b)

    @staticmethod
    def backward(ctx, grad):
        m, = ctx.saved_tensors
        return grad * m, grad * m
