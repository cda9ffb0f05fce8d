"""Digits with one hidden layer, all weights in one dictionary."""
import numpy as np


def logistic(z):
    return 1.0 / (1.0 + np.exp(-z))


def predict(params, batch):
    hidden = logistic(np.dot(batch, params["Wh"]) + params["bh"])
    logits = np.dot(hidden, params["Wo"]) + params["bo"]
    logits = logits - np.max(logits, axis=1, keepdims=True)
    probs = np.exp(logits) / np.sum(np.exp(logits), axis=1, keepdims=True)
    return hidden, probs


def compute_gradients(params, batch, targets):
    hidden, probs = predict(params, batch)
    grads = {name: np.zeros_like(value) for name, value in params.items()}
    err_out = probs - targets
    grads["Wo"] += hidden.T.dot(err_out)
    grads["bo"] += err_out.sum(axis=0)
    err_hidden = err_out.dot(params["Wo"].T) * hidden * (1 - hidden)
    grads["Wh"] += batch.T.dot(err_hidden)
    grads["bh"] += err_hidden.sum(axis=0)
    for name in grads:
        grads[name] /= batch.shape[0]
    return grads


def sgd(params, grads, lr=0.1):
    for name in params:
        params[name] -= lr * grads[name]
    return params
