import torch
import torch.nn.functional as F

def manual_backprop(Xb, Yb, W1, b1, W2, b2):
    n = Xb.shape[0]
    hpreact = Xb @ W1 + b1
    h = torch.tanh(hpreact)
    logits = h @ W2 + b2
    loss = F.cross_entropy(logits, Yb)
    # --- manual
    dlogits = F.softmax(logits, 1)
    dlogits[range(n), Yb] -= 1

    dh = dlogits @ W2.T
    dW2 = h.T @ dlogits
    db2 = dlogits.sum(0)
    dhpreact = (1.0 - h**2) * dh
    dW1 = Xb.T @ dhpreact
    db1 = dhpreact.sum(0)
    return loss, (dW1, db1, dW2, db2)
