import torch
from torch.autograd import Function


class SmoothL1(Function):
    @staticmethod
    def forward(ctx, pred, target):
        d = pred - target
        ctx.save_for_backward(d)
        return torch.where(d.abs() < 1, 0.5 * d * d, d.abs() - 0.5).sum()

    @staticmethod
    def backward(ctx, grad_output):
        d, = ctx.saved_tensors
        g = grad_output * d.clamp(-1, 1)
        return g, -g
