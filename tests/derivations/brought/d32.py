"""Four weight layers, torch tensors in a list, last layer linear. Mean over the batch, sum over outputs."""
import torch


def forward(X, weights, biases):
    cache = [X]
    A = X
    for i, (W, b) in enumerate(zip(weights, biases)):
        Z = torch.addmm(b, A, W)
        A = torch.tanh(Z) if i + 1 < len(weights) else Z
        cache.append(A)
    return cache


def backward(X, Y, weights, biases):
    cache = forward(X, weights, biases)
    dW, db = [], []
    delta = 2 * (cache.pop() - Y) / X.shape[0]
    for W in weights[::-1]:
        A = cache.pop()
        dW.insert(0, A.T.mm(delta))
        db.insert(0, delta.sum(0))
        if cache:
            delta = delta.mm(W.T) * (1 - A * A)
    return dW, db
