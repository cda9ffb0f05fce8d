import torch
from torch.autograd import Function


class MyLinear(Function):
    """y = x W^T + b, as nn.Linear."""

    @staticmethod
    def forward(ctx, x, W, b):
        ctx.save_for_backward(x, W)
        return x @ W.t() + b

    @staticmethod
    def backward(ctx, dy):
        x, W = ctx.saved_tensors
        dx = dW = db = None
        if ctx.needs_input_grad[0]:
            dx = dy @ W
        if ctx.needs_input_grad[1]:
            dW = dy.t() @ x
        if ctx.needs_input_grad[2]:
            db = torch.einsum("bo->o", dy)
        return dx, dW, db
