import numpy as np
import math

def identity(x): return x
def identity_prime(x): return np.ones_like(x)

def gaussian(x): return np.exp(-x ** 2)
def gaussian_derivative(x): return -2 * x * np.exp(-x ** 2)

def sinc(x): return np.sin(x) / x
def dsinc(x): return np.cos(x) / x - np.sin(x) / x ** 2

def softsign(x): return x / (1 + abs(x))
def softsign_d(x): return 1 / (1 + abs(x)) ** 2

def hinge(y, f): return np.mean(np.maximum(0, 1 - y * f))
def hinge_grad(y, f): return np.where(y * f < 1, -y, 0) / y.size

def rmse(pred, target): return np.sqrt(np.mean((pred - target) ** 2))
def rmse_grad(pred, target): return (pred - target) / (pred.size * rmse(pred, target))

def prelu(x, a): return np.where(x > 0, x, a * x)
def prelu_backward(dout, x, a): return np.where(x > 0, dout, a * dout), np.sum(dout * np.minimum(x, 0))

def tanh_pure(x): return math.tanh(x)
def tanh_pure_grad(x): return 1 - math.tanh(x) ** 2

def cost(A, Y): return np.sum((A - Y) ** 2) / (2 * Y.shape[1])
def cost_backward(A, Y): return (A - Y) / Y.shape[1]

def attention_forward(Q, K, V):
    S = Q @ K.T / np.sqrt(Q.shape[1])
    E = np.exp(S - S.max(1, keepdims=True))
    P = E / E.sum(1, keepdims=True)
    return P @ V, (Q, K, V, P)

def attention_backward(dO, cache):
    Q, K, V, P = cache
    dP = dO @ V.T
    dS = P * (dP - (dP * P).sum(1, keepdims=True))
    return dS @ K / np.sqrt(Q.shape[1]), dS.T @ Q / np.sqrt(Q.shape[1]), P.T @ dO

def maxpool(x):
    n, c, h, w = x.shape
    r = x.reshape(n, c, h // 2, 2, w // 2, 2)
    out = r.max(axis=(3, 5))
    return out, (x, r, out)

def maxpool_backward(dout, cache):
    x, r, out = cache
    return ((r == out[:, :, :, None, :, None]) * dout[:, :, :, None, :, None]).reshape(x.shape)

class Dropout:
    def __init__(self, p=0.5, seed=3):
        self.p, self.rng = p, np.random.default_rng(seed)
    def forward(self, x):
        self.mask = (self.rng.random(x.shape) > self.p) / (1 - self.p)
        return x * self.mask
    def backward(self, grad):
        return grad * self.mask

class Flatten:
    def forward(self, x):
        self.shape = x.shape
        return x.reshape(len(x), -1)
    def backward(self, dout):
        return dout.reshape(self.shape)

class MSELoss:
    def __call__(self, y_pred, y):
        self.y_pred, self.y = y_pred, y
        return ((y_pred - y) ** 2).mean()
    def backward(self):
        return 2.0 * (self.y_pred - self.y) / np.prod(self.y.shape)

class BCELoss:
    @staticmethod
    def forward(p, t):
        return -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))
    @staticmethod
    def gradient(p, t):
        return (p - t) / (p * (1 - p)) / p.size

class Embedding:
    def __init__(self, W):
        self.W, self.dW = W, np.zeros_like(W)
    def forward(self, idx):
        self.idx = idx
        return self.W[idx]
    def backward(self, dout):
        self.dW[...] = 0
        np.add.at(self.dW, self.idx, dout)

class Scale:
    def __init__(self, dim):
        self.g = np.ones(dim)
    def forward(self, x):
        self.x = x
        return x * self.g
    def backward(self, dy):
        self.grad_g = (dy * self.x).sum(axis=0)
        return dy * self.g

class Log:
    def forward(self, x):
        self.x = x
        return np.log(x)
    def backward(self, dout):
        return dout / self.x
