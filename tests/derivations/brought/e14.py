"""MNIST in JAX's style, but with the gradients by hand: params is a list of (W, b) tuples."""
import numpy as np
import numpy.random as npr


def init_random_params(scale, layer_sizes, rng=npr.RandomState(0)):
    return [(scale * rng.randn(m, n), scale * rng.randn(n)) for m, n in zip(layer_sizes[:-1], layer_sizes[1:])]


def logsumexp(a):
    m = a.max(axis=1, keepdims=True)
    return m + np.log(np.sum(np.exp(a - m), axis=1, keepdims=True))


def predict(params, inputs):
    activations = [inputs]
    for w, b in params[:-1]:
        activations.append(np.tanh(np.dot(activations[-1], w) + b))
    final_w, final_b = params[-1]
    logits = np.dot(activations[-1], final_w) + final_b
    return activations, logits - logsumexp(logits)


def loss(params, batch):
    inputs, targets = batch
    preds = predict(params, inputs)[1]
    return -np.mean(np.sum(preds * targets, axis=1))


def grad_loss(params, batch):
    inputs, targets = batch
    activations, log_probs = predict(params, inputs)
    ct = (np.exp(log_probs) * targets.sum(1, keepdims=True) - targets) / inputs.shape[0]
    grads = []
    for (w, b), a in zip(reversed(params), reversed(activations)):
        grads.insert(0, (np.dot(a.T, ct), ct.sum(axis=0)))
        ct = np.dot(ct, w.T) * (1 - a ** 2)
    return grads
