"""What loss.backward() would do, by hand: fills in .grad as PyTorch does, to compare with autograd afterwards."""
import torch
import torch.nn.functional as F


def manual_backward(x, y, w1, b1, w2, b2):
    with torch.no_grad():
        pre = x @ w1 + b1
        act = pre.clamp(min=0)
        logits = act @ w2 + b2
        dlogits = F.softmax(logits, dim=1)
        dlogits[torch.arange(x.shape[0]), y] -= 1.0
        dlogits = dlogits / x.shape[0]
        w2.grad = act.t() @ dlogits
        b2.grad = dlogits.sum(0)
        dact = dlogits @ w2.t()
        dpre = dact.masked_fill(pre <= 0, 0.0)
        w1.grad = x.t() @ dpre
        b1.grad = dpre.sum(0)


def autograd_reference(x, y, w1, b1, w2, b2):
    ps = [p.clone().requires_grad_() for p in (w1, b1, w2, b2)]
    out = torch.relu(x @ ps[0] + ps[1]) @ ps[2] + ps[3]
    F.cross_entropy(out, y).backward()
    return [p.grad for p in ps]
