import torch
from torch import nn


class ManualNet(nn.Module):
    def __init__(self, d, h, c):
        super().__init__()
        self.fc1 = nn.Linear(d, h)
        self.fc2 = nn.Linear(h, c)

    def forward(self, x):
        self.x = x
        self.h_relu = torch.relu(self.fc1(x))
        return self.fc2(self.h_relu)

    @torch.no_grad()
    def manual_backward(self, x, y):
        y_pred = self.forward(x)
        grad_y_pred = 2.0 * (y_pred - y) / y.shape[0]
        self.fc2.weight.grad = grad_y_pred.t().mm(self.h_relu)
        self.fc2.bias.grad = grad_y_pred.sum(0)
        grad_h = grad_y_pred.mm(self.fc2.weight)
        grad_h[self.h_relu < 0] = 0
        self.fc1.weight.grad = grad_h.t().mm(self.x)
        self.fc1.bias.grad = grad_h.sum(0)
