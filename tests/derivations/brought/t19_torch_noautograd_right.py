import torch

class MLP:
    def __init__(self, d_in, d_h, d_out, lr=1e-2, device='cpu'):
        self.lr = lr
        self.w1 = torch.randn(d_in, d_h, dtype=torch.float64, device=device)
        self.b1 = torch.zeros(d_h, dtype=torch.float64)
        self.w2 = torch.randn(d_h, d_out, dtype=torch.float64, device=device)
        self.b2 = torch.zeros(d_out, dtype=torch.float64)

    def forward(self, x):
        self.x = x
        self.h = x.mm(self.w1) + self.b1
        self.h_relu = self.h.clamp(min=0)
        return self.h_relu.mm(self.w2) + self.b2

    def backward(self, y_pred, y):
        grad_y_pred = 2.0 * (y_pred - y)
        self.grad_w2 = self.h_relu.t().mm(grad_y_pred)
        self.grad_b2 = grad_y_pred.sum(dim=0)
        grad_h_relu = grad_y_pred.mm(self.w2.t())
        grad_h = grad_h_relu.clone()
        grad_h[self.h < 0] = 0
        self.grad_w1 = self.x.t().mm(grad_h)
        self.grad_b1 = grad_h.sum(dim=0)

    def update(self):
        with torch.no_grad():
            self.w1 -= self.lr * self.grad_w1
            self.b1 -= self.lr * self.grad_b1
            self.w2 -= self.lr * self.grad_w2
            self.b2 -= self.lr * self.grad_b2
