"""Three weight matrices, both hidden layers equally wide, torch."""
import torch


def backward_pass(X, Y, W1, b1, W2, b2, W3, b3):
    N = X.shape[0]
    h1 = torch.tanh(X @ W1 + b1)
    h2 = torch.tanh(h1 @ W2 + b2)
    probs = torch.softmax(h2 @ W3 + b3, dim=1)

    d3 = probs.clone()
    d3[torch.arange(N), Y] -= 1
    d3 /= N
    d2 = (d3 @ W3.T) * (1 - h2 ** 2)
    d1 = (d2 @ W2.T) * (1 - h1 ** 2)

    grads = {}
    grads["W3"], grads["b3"] = h2.T @ d3, d3.sum(0)
    grads["W2"], grads["b2"] = h2.T @ d2, d2.sum(0)
    grads["W1"], grads["b1"] = X.T @ d1, d1.sum(0)
    return grads
