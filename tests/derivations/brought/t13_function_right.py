import torch
from torch.autograd import Function

class MyLinearReLU(Function):
    @staticmethod
    def forward(ctx, input, weight, bias):
        z = input.mm(weight.t()) + bias
        ctx.save_for_backward(input, weight, z)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, grad_output):
        input, weight, z = ctx.saved_tensors
        g = grad_output.clone()
        g[z < 0] = 0
        return g.mm(weight), g.t().mm(input), g.sum(0)
