import numpy as np


class WeightedNet:
    def __init__(self, n_in, n_hid, n_out):
        self.coefs_ = [np.zeros((n_in, n_hid)), np.zeros((n_hid, n_out))]
        self.intercepts_ = [np.zeros(n_hid), np.zeros(n_out)]

    def _backprop(self, X, y, sample_weight=None):
        n_samples = X.shape[0]
        if sample_weight is None:
            sample_weight = np.full(n_samples, 1.0 / n_samples)
        activations = [X]
        activations.append(np.maximum(activations[0] @ self.coefs_[0] + self.intercepts_[0], 0))
        out = activations[1] @ self.coefs_[1] + self.intercepts_[1]
        out = np.exp(out - out.max(axis=1)[:, np.newaxis])
        activations.append(out / out.sum(axis=1)[:, np.newaxis])

        deltas = [None, None]
        coef_grads, intercept_grads = [None, None], [None, None]
        deltas[1] = (activations[2] - y) * sample_weight[:, None]
        coef_grads[1] = activations[1].T @ deltas[1]
        intercept_grads[1] = deltas[1].sum(axis=0)
        deltas[0] = deltas[1] @ self.coefs_[1].T
        deltas[0][activations[1] == 0] = 0
        coef_grads[0] = activations[0].T @ deltas[0]
        intercept_grads[0] = deltas[0].sum(axis=0)
        return coef_grads, intercept_grads
