import torch


def manual_grads(X, Y, W1, b1, W2, b2):
    """Char model without embedding, gradients by hand (exercise 1)."""
    n = X.shape[0]
    emb_act = torch.tanh(X @ W1 + b1)
    logits = emb_act @ W2 + b2
    counts = logits.exp()
    counts_sum = counts.sum(1, keepdim=True)
    counts_sum_inv = 1 / counts_sum
    probs = counts * counts_sum_inv
    logprobs = probs.log()

    dlogprobs = torch.zeros_like(logprobs)
    dlogprobs[torch.arange(n), Y] = -1.0 / n
    dprobs = dlogprobs / probs
    dcounts = counts_sum_inv * dprobs
    dlogits = counts * dcounts

    dW2 = emb_act.T @ dlogits
    db2 = dlogits.sum(0)
    demb_act = dlogits @ W2.T
    dpre = demb_act * (1 - emb_act.pow(2))
    dW1 = X.T @ dpre
    db1 = dpre.sum(0)
    return dW1, db1, dW2, db2
