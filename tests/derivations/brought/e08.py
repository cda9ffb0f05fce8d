import numpy as np


class NeuralNetMLP(object):
    def __init__(self, n_features, n_hidden, n_output, l2=0.3, eta=0.05):
        self.l2, self.eta, self.n_output = l2, eta, n_output
        self.w_h = np.random.normal(0, .1, (n_features, n_hidden))
        self.b_h = np.zeros(n_hidden)
        self.w_out = np.random.normal(0, .1, (n_hidden, n_output))
        self.b_out = np.zeros(n_output)

    def _sigmoid(self, z):
        return 1. / (1. + np.exp(-np.clip(z, -250, 250)))

    def _forward(self, X):
        z_h = np.dot(X, self.w_h) + self.b_h
        a_h = self._sigmoid(z_h)
        z_out = np.dot(a_h, self.w_out) + self.b_out
        a_out = self._sigmoid(z_out)
        return z_h, a_h, z_out, a_out

    def _compute_cost(self, y_enc, output):
        L2_term = (self.l2 / 2 * (np.sum(self.w_h ** 2.) + np.sum(self.w_out ** 2.)))
        term1 = -y_enc * (np.log(output))
        term2 = (1. - y_enc) * np.log(1. - output)
        return np.sum(term1 - term2) + L2_term

    def partial_fit(self, X, y_enc):
        z_h, a_h, z_out, a_out = self._forward(X)
        sigma_out = a_out - y_enc
        sigmoid_derivative_h = a_h * (1. - a_h)
        sigma_h = (np.dot(sigma_out, self.w_out.T) * sigmoid_derivative_h)
        grad_w_h = np.dot(X.T, sigma_h)
        grad_b_h = np.sum(sigma_h, axis=0)
        grad_w_out = np.dot(a_h.T, sigma_out)
        grad_b_out = np.sum(sigma_out, axis=0)
        # Regularization and weight updates
        delta_w_h = (grad_w_h - self.l2 * self.w_h)
        delta_b_h = grad_b_h  # bias is not regularized
        self.w_h -= self.eta * delta_w_h
        self.b_h -= self.eta * delta_b_h
        delta_w_out = (grad_w_out - self.l2 * self.w_out)
        delta_b_out = grad_b_out  # bias is not regularized
        self.w_out -= self.eta * delta_w_out
        self.b_out -= self.eta * delta_b_out
        return self
