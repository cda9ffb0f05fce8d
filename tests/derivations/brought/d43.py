"""Fit sin(x) with ten hidden units and look at it."""
import argparse
import sys

import numpy as np


def forward(x, p):
    h = np.tanh(x @ p["W1"] + p["b1"])
    return h, h @ p["W2"] + p["b2"]


def loss_fn(p, x, y):
    return 0.5 * np.mean(np.sum((forward(x, p)[1] - y) ** 2, axis=1))


def grad_fn(p, x, y):
    h, out = forward(x, p)
    d_out = (out - y) / len(x)
    d_pre = (1 - h * h) * (d_out @ p["W2"].T)
    return {"W1": x.T @ d_pre, "b1": d_pre.sum(0), "W2": h.T @ d_out, "b2": d_out.sum(0)}


def main(argv):
    import matplotlib.pyplot as plt

    args = argparse.ArgumentParser()
    args.add_argument("--steps", type=int, required=True)
    steps = args.parse_args(argv).steps
    x = np.linspace(-3, 3, 200)[:, None]
    y = np.sin(x)
    p = {"W1": np.random.randn(1, 10), "b1": np.zeros(10), "W2": np.random.randn(10, 1), "b2": np.zeros(1)}
    for _ in range(steps):
        g = grad_fn(p, x, y)
        for k in p:
            p[k] -= 0.05 * g[k]
    plt.plot(x, y, x, forward(x, p)[1])
    plt.show()


if __name__ == "__main__":
    main(sys.argv[1:])
