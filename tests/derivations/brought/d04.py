import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def d_sigmoid(z):
    s = sigmoid(z)
    return s * (1 - s)


def feed_forward(X, weights, biases):
    activations, zs = [X], []
    for W, b in zip(weights, biases):
        zs.append(activations[-1] @ W + b)
        activations.append(sigmoid(zs[-1]))
    return activations, zs


def backprop(X, y, weights, biases):
    """Three weight layers; mean squared error on sigmoid outputs."""
    activations, zs = feed_forward(X, weights, biases)
    n = X.shape[0]
    grad_w = [np.zeros_like(w) for w in weights]
    grad_b = [np.zeros_like(b) for b in biases]

    delta3 = (activations[3] - y) * d_sigmoid(zs[2])
    grad_w[2] = activations[2].T @ delta3 / n
    grad_b[2] = np.mean(delta3, axis=0)

    delta2 = delta3 @ weights[2].T
    grad_w[1] = activations[1].T @ delta2 / n
    grad_b[1] = np.mean(delta2, axis=0)

    # chain once more: through W2, then both hidden sigmoids
    delta1 = (delta2 * d_sigmoid(zs[1])) @ weights[1].T * d_sigmoid(zs[0])
    grad_w[0] = activations[0].T @ delta1 / n
    grad_b[0] = np.mean(delta1, axis=0)
    return grad_w, grad_b
