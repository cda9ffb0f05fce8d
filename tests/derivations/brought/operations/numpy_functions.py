import numpy as np

def elu(z, alpha=1.0):
    return np.where(z >= 0, z, alpha * (np.exp(z) - 1))

def elu_prime(z, alpha=1.0):
    return np.where(z > 0, 1, alpha * np.exp(z))

def mae(y, yhat):
    return np.mean(np.abs(y - yhat))

def mae_prime(y, yhat):
    return np.sign(yhat - y) / y.size

def bce(y, p):
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return np.mean(-y * np.log(p) - (1 - y) * np.log(1 - p))

def bce_prime(y, p):
    return ((1 - y) / (1 - p) - y / p) / np.size(y)

def relu6(x):
    return np.minimum(np.maximum(0, x), 6)

def relu6_grad(x):
    return ((x > 0) & (x < 6)).astype(float)

def swish(x):
    return x / (1 + np.exp(-x))

def swish_derivative(x):
    s = 1 / (1 + np.exp(-x))
    return s + x * s * (1 - s)

def sigmoid(z):
    return 1 / (1 + np.exp(-z))

def d_sigmoid(a):
    return a * (1 - a)

def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)

def softmax_backward(g, s):
    return s * (g - (g * s).sum(axis=1, keepdims=True))

def linear(x, w, b):
    return x @ w + b

def linear_grad(g, x, w):
    return g @ w.T, x.T @ g, g.sum(axis=0)

def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

def gelu_grad(x):
    t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)

def rnn_step_forward(x, prev_h, Wx, Wh, b):
    next_h = np.tanh(x @ Wx + prev_h @ Wh + b)
    return next_h, (x, prev_h, Wx, Wh, next_h)

def rnn_step_backward(dnext_h, cache):
    x, prev_h, Wx, Wh, next_h = cache
    d = dnext_h * (1 - next_h**2)
    return d @ Wx.T, d @ Wh.T, x.T @ d, prev_h.T @ d, d.sum(0)

def svm_loss(scores, y):
    correct = scores[np.arange(len(y)), y][:, None]
    margins = np.maximum(0, scores - correct + 1)
    margins[np.arange(len(y)), y] = 0
    return margins.sum() / len(y)

def svm_grad(scores, y):
    correct = scores[np.arange(len(y)), y][:, None]
    d = (scores - correct + 1 > 0).astype(float)
    d[np.arange(len(y)), y] = 0
    d[np.arange(len(y)), y] = -d.sum(1)
    return d / len(y)

def sqrt(x):
    return np.sqrt(x)

def sqrt_grad(y):
    return 0.5 / y

def hard_sigmoid(x):
    return np.clip(0.2 * x + 0.5, 0, 1)

def hard_sigmoid_grad(x):
    return np.where(np.abs(x) < 2.5, 0.2, 0)

def layernorm_forward(x, gamma, beta, ln_param):
    eps = ln_param.get("eps", 1e-5)
    mu, var = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    std = np.sqrt(var + eps)
    xhat = (x - mu) / std
    return gamma * xhat + beta, (xhat, std, gamma)

def layernorm_backward(dout, cache):
    xhat, std, gamma = cache
    dxhat = dout * gamma
    dx = (dxhat - dxhat.mean(1, keepdims=True) - xhat * (dxhat * xhat).mean(1, keepdims=True)) / std
    return dx, (dout * xhat).sum(0), dout.sum(0)
