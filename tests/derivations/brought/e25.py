from typing import NamedTuple

import numpy as np


class Params(NamedTuple):
    w_hidden: np.ndarray
    b_hidden: np.ndarray
    w_output: np.ndarray
    b_output: np.ndarray


def sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * z))


def sgd(p: Params, xs: np.ndarray, labels: np.ndarray, rate: float = 0.1) -> Params:
    h = sigmoid(xs @ p.w_hidden.T + p.b_hidden)
    s = h @ p.w_output.T + p.b_output
    probs = np.exp(s) / np.exp(s).sum(axis=-1)[:, np.newaxis]
    err = (probs - labels) / xs.shape[0]
    err_h = err @ p.w_output * h * (1 - h)
    return p._replace(
        w_hidden=p.w_hidden - rate * err_h.T @ xs,
        b_hidden=p.b_hidden - rate * err_h.sum(axis=0),
        w_output=p.w_output - rate * err.T @ h,
        b_output=p.b_output - rate * err.sum(axis=0),
    )
