# Committee machine / physicist's notation: eta = learning rate, alpha = momentum
import numpy as np


class Perceptron2:
    eta = 0.05
    alpha = 0.9

    def __init__(self, N, K, M):
        self.J = np.random.randn(K, N) / np.sqrt(N)
        self.v = np.random.randn(M, K) / np.sqrt(K)
        self.theta = np.zeros(K)
        self.phi = np.zeros(M)
        self.dJ, self.dv, self.dtheta, self.dphi = 0.0, 0.0, 0.0, 0.0

    def g(self, u):
        return np.tanh(u)

    def gprime(self, u):
        return 1.0 / np.cosh(u) ** 2

    def update(self, xi, tau):
        # local fields
        u = self.J @ xi - self.theta
        sigma_h = self.g(u)
        s = self.v @ sigma_h - self.phi
        # errors
        delta_o = tau - s
        delta_h = self.gprime(u) * (self.v.T @ delta_o)
        # changes
        self.dv = self.eta * np.outer(delta_o, sigma_h) + self.alpha * self.dv
        self.dphi = -self.eta * delta_o + self.alpha * self.dphi
        self.dJ = self.eta * np.outer(delta_h, xi) + self.alpha * self.dJ
        self.dtheta = -self.eta * delta_h + self.alpha * self.dtheta
        self.v = self.v + self.dv
        self.phi = self.phi + self.dphi
        self.J = self.J + self.dJ
        self.theta = self.theta + self.dtheta
