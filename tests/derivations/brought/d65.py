import torch


class SoftplusBeta(torch.autograd.Function):
    """log(1 + exp(beta x)) / beta, smooth ReLU."""

    @staticmethod
    def forward(ctx, x, beta=2.0):
        ctx.save_for_backward(x)
        ctx.beta = beta
        return torch.log1p(torch.exp(beta * x)) / beta

    @staticmethod
    def backward(ctx, grad_output):
        x, = ctx.saved_tensors
        return grad_output * torch.sigmoid(x), None
