import numpy as np


class MLPBias:
    """Bias is column 0 of the weight matrices; samples are columns, with a row of ones on top."""

    def __init__(self, layers):
        self.Ws = [np.random.randn(n_out, n_in + 1) / np.sqrt(n_in) for n_in, n_out in zip(layers, layers[1:])]

    @staticmethod
    def add_ones(A):
        return np.vstack([np.ones((1, A.shape[1])), A])

    def forward(self, X):
        self.A0 = self.add_ones(X)
        self.H = np.tanh(self.Ws[0] @ self.A0)
        self.A1 = self.add_ones(self.H)
        scores = self.Ws[1] @ self.A1
        e = np.exp(scores - scores.max(axis=0))
        return e / e.sum(axis=0)

    def backward(self, X, T):
        P = self.forward(X)
        N = X.shape[1]
        delta_out = (P - T) / N
        dW2 = delta_out @ self.A1.T
        back = self.Ws[1][:, :-1].T @ delta_out     # without the bias
        delta_hid = back * (1 - self.H ** 2)
        dW1 = delta_hid @ self.A0.T
        return dW1, dW2
