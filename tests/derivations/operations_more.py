"""More operations, in the form of those of `operations.py`."""

from tests.derivations.operations import Operation, function

TORCH = (
    Operation(
        "elu with alpha=1",
        "F",
        function(
            "ctx.save_for_backward(x)\nctx.alpha = alpha\nreturn torch.where(x > 0, x, alpha * (torch.exp(x) - 1))",
            "(x,) = ctx.saved_tensors\nreturn torch.where(x > 0, g, g * ctx.alpha * torch.exp(x)), None",
            "x, alpha=1.0",
            "g",
        ),
        (("g * ctx.alpha * torch.exp(x)", "g * torch.exp(x)", "wrong", ""),),
    ),
    Operation(
        "huber, delta",
        "F",
        function(
            "e = pred - target\nctx.save_for_backward(e)\nctx.delta = delta\n"
            "return torch.where(e.abs() < delta, 0.5 * e**2, delta * (e.abs() - delta / 2)).mean()",
            "(e,) = ctx.saved_tensors\nreturn g * e.clamp(-ctx.delta, ctx.delta) / e.numel(), None, None",
            "pred, target, delta=1.0",
            "g",
        ),
        (("e.clamp(-ctx.delta, ctx.delta)", "e.clamp(-1, 1)", "wrong", ""),),
    ),
    Operation(
        "rms norm",
        "F",
        function(
            "r = torch.rsqrt((x * x).mean(-1, keepdim=True) + eps)\nctx.save_for_backward(x, weight, r)\n"
            "return x * r * weight",
            "x, weight, r = ctx.saved_tensors\ngw = g * weight\n"
            "return r * gw - r**3 * x * (gw * x).mean(-1, keepdim=True), (g * x * r).sum(0), None",
            "x, weight, eps=1e-6",
            "g",
        ),
        (
            ("r**3 * x", "r**2 * x", "wrong", "x"),
            (".mean(-1, keepdim=True), (g", ".sum(-1, keepdim=True), (g", "wrong", ""),
        ),
    ),
    Operation(
        "l2 normalize",
        "F",
        function(
            "n = x.norm(dim=1, keepdim=True)\ny = x / n\nctx.save_for_backward(y, n)\nreturn y",
            "y, n = ctx.saved_tensors\nreturn (g - y * (y * g).sum(1, keepdim=True)) / n",
            "x",
            "g",
        ),
        (("(g - y * (y * g).sum(1, keepdim=True)) / n", "g / n", "wrong", ""),),
    ),
    Operation(
        "average pooling",
        "F",
        function(
            "ctx.k = 2\nreturn nnf.avg_pool2d(x, 2)", "return nnf.interpolate(g, scale_factor=2) / ctx.k**2", "x", "g"
        ),
        ((" / ctx.k**2", "", "wrong", "4|factor"),),
    ),
    Operation(
        "inverse",
        "F",
        function(
            "y = torch.linalg.inv(x)\nctx.save_for_backward(y)\nreturn y",
            "(y,) = ctx.saved_tensors\nreturn -y.T @ g @ y.T",
            "x",
            "g",
        ),
        (("-y.T @ g @ y.T", "-y @ g @ y", "wrong", ""), ("-y.T", "y.T", "wrong", "sign")),
    ),
    Operation(
        "sort",
        "F",
        function(
            "values, at = x.sort(0)\nctx.save_for_backward(at)\nreturn values",
            "(at,) = ctx.saved_tensors\nreturn torch.zeros_like(g).scatter(0, at, g)",
            "x",
            "g",
        ),
        (("torch.zeros_like(g).scatter(0, at, g)", "g.gather(0, at)", "wrong", ""),),
    ),
    Operation(
        "where",
        "F",
        function(
            "ctx.save_for_backward(cond)\nreturn torch.where(cond, a, b)",
            "(cond,) = ctx.saved_tensors\nreturn None, g * cond, g * ~cond",
            "cond, a, b",
            "g",
        ),
        (("g * cond, g * ~cond", "g * ~cond, g * cond", "wrong", ""),),
    ),
    Operation(
        "cosine similarity",
        "F",
        function(
            "na, nb = a.norm(dim=1), b.norm(dim=1)\nc = (a * b).sum(1) / (na * nb)\n"
            "ctx.save_for_backward(a, b, na, nb, c)\nreturn c",
            "a, b, na, nb, c = ctx.saved_tensors\n"
            "ga = g[:, None] * (b / (na * nb)[:, None] - a * (c / na**2)[:, None])\n"
            "gb = g[:, None] * (a / (na * nb)[:, None] - b * (c / nb**2)[:, None])\nreturn ga, gb",
            "a, b",
            "g",
        ),
        (("- b * (c / nb**2)[:, None]", "", "wrong", "b"), ("return ga, gb", "return gb, ga", "wrong", "swapped")),
    ),
    Operation(
        "triplet",
        "F",
        function(
            "d = ((anchor - positive) ** 2).sum(1) - ((anchor - negative) ** 2).sum(1) + margin\n"
            "ctx.save_for_backward(anchor, positive, negative, d)\nreturn d.clamp(min=0).mean()",
            "a, p, n, d = ctx.saved_tensors\nm = (d > 0)[:, None] * g * 2 / len(d)\n"
            "return m * (n - p), m * (p - a), m * (a - n), None",
            "anchor, positive, negative, margin=1.0",
            "g",
        ),
        (("m * (p - a), m * (a - n)", "m * (a - p), m * (a - n)", "wrong", "positive.*sign"),),
    ),
    Operation(
        "kl",
        "F",
        function(
            "ctx.save_for_backward(p, q)\nreturn (p * (p / q).log()).sum()",
            "p, q = ctx.saved_tensors\nreturn g * ((p / q).log() + 1), -g * p / q",
            "p, q",
            "g",
        ),
        ((".log() + 1)", ".log())", "wrong", "p"),),
    ),
    Operation(
        "gradient reversal",
        "F",
        function("ctx.lam = lam\nreturn x.view_as(x)", "return -ctx.lam * grad, None", "x, lam=1.0", "grad"),
        (("-ctx.lam * grad", "grad", "right", ""),),
        status="unjudged",
        mention="identity",
    ),
    Operation(
        "once differentiable",
        "F",
        """
        import torch
        from torch.autograd.function import once_differentiable
        class F(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, w):
                ctx.save_for_backward(x, w)
                return x @ w

            @staticmethod
            @once_differentiable
            def backward(ctx, dy):
                x, w = ctx.saved_tensors
                dx = dw = None
                if ctx.needs_input_grad[0]:
                    dx = dy @ w.t()
                if ctx.needs_input_grad[1]:
                    dw = x.t() @ dy
                return dx, dw
        """,
        (("x.t() @ dy", "dy.t() @ x", "wrong", "w.*transposed"),),
    ),
    Operation(
        "noise",
        "F",
        function(
            "eps = torch.randn_like(mu)\nctx.save_for_backward(eps, logvar)\nreturn mu + eps * (0.5 * logvar).exp()",
            "eps, logvar = ctx.saved_tensors\nreturn g, g * eps * 0.5 * (0.5 * logvar).exp()",
            "mu, logvar",
            "g",
        ),
        (("g * eps * 0.5 *", "g * eps *", "wrong", "logvar"),),
    ),
    Operation(
        "fake quantization",
        "F",
        function(
            "ctx.save_for_backward(x)\nreturn torch.round(x / 0.1).clamp(-8, 7) * 0.1",
            "(x,) = ctx.saved_tensors\nreturn g * ((x > -0.8) & (x < 0.7))",
            "x",
            "g",
        ),
        status="unjudged",
        mention="straight",
    ),
    Operation(
        "softmax cross-entropy, one-hot",
        "F",
        function(
            "p = torch.softmax(logits, 1)\nctx.save_for_backward(p, targets)\n"
            "return -(targets * p.log()).sum() / len(p)",
            "p, t = ctx.saved_tensors\nreturn g * (p - t) / len(p), None",
            "logits, targets",
            "g",
        ),
        (
            ("(p - t)", "(t - p)", "wrong", "sign"),
            ("(p - t) / len(p)", "(p - t) / p.numel()", "wrong", ""),
            ("(p - t)", "-t / p", "wrong", ""),
        ),
    ),
    Operation(
        "scaled dot",
        "F",
        function(
            "ctx.save_for_backward(x, y)\nreturn (x * y).sum(-1)",
            "x, y = ctx.saved_tensors\ng = g.unsqueeze(-1)\nreturn g * y, g * x",
            "x, y",
            "g",
        ),
        (("g = g.unsqueeze(-1)\n", "\n", "wrong", ""),),
    ),
    Operation(
        "leaky relu",
        "F",
        function(
            "ctx.save_for_backward(x)\nctx.slope = negative_slope\nreturn torch.where(x > 0, x, x * negative_slope)",
            "(x,) = ctx.saved_tensors\ngrad = grad_output.clone()\ngrad[x < 0] *= ctx.slope\nreturn grad, None",
            "x, negative_slope=0.01",
        ),
        (
            ("grad_output.clone()", "grad_output", "wrong", "in place"),
            ("*= ctx.slope", "= 0", "wrong", "negative"),
            ("*= ctx.slope", "= ctx.slope", "wrong", "negative"),
        ),
    ),
    Operation(
        "clamped mse",
        "F",
        function(
            "d = input - target\nctx.save_for_backward(d)\nreturn (d * d).sum(1).mean()",
            "(d,) = ctx.saved_tensors\ng = 2 * d / d.shape[0] * grad_output\nreturn g, -g",
            "input, target",
        ),
        (("d.shape[0]", "d.shape[1]", "wrong", ""), ("return g, -g", "return g, None", "right", "")),
    ),
    Operation(
        "power",
        "F",
        function(
            "ctx.save_for_backward(x)\nctx.n = n\nreturn x**n",
            "(x,) = ctx.saved_tensors\nreturn g * ctx.n * x ** (ctx.n - 1), None",
            "x, n",
            "g",
        ),
        (("g * ctx.n *", "g *", "wrong", "factor|times"),),
    ),
    Operation(
        "concatenate",
        "F",
        function("ctx.k = a.shape[1]\nreturn torch.cat([a, b], 1)", "return g[:, : ctx.k], g[:, ctx.k :]", "a, b", "g"),
        (("g[:, : ctx.k], g[:, ctx.k :]", "g[:, ctx.k :], g[:, : ctx.k]", "wrong", ""),),
    ),
    Operation(
        "transpose", "F", function("return x.t()", "return g.t()", "x", "g"), (("g.t()", "g", "wrong", "transposed"),)
    ),
    Operation(
        "square bias in batch norm with one sample",
        "F",
        function("ctx.save_for_backward(x)\nreturn x - x.mean(0)", "return g - g.mean(0)", "x", "g"),
        (("g - g.mean(0)", "g", "wrong", ""), ("g - g.mean(0)", "g - g.mean()", "wrong", "")),
    ),
)

LAYERS = """
import numpy as np

class Layer:
    def __init__(self):
        self.input = None
        self.output = None

class Activation(Layer):
    def __init__(self, activation, activation_prime):
        self.activation = activation
        self.activation_prime = activation_prime
    def forward(self, input):
        self.input = input
        return self.activation(self.input)
    def backward(self, output_gradient, learning_rate):
        return np.multiply(output_gradient, self.activation_prime(self.input))

class Tanh(Activation):
    def __init__(self):
        super().__init__(lambda x: np.tanh(x), lambda x: 1 - np.tanh(x) ** 2)

class Softmax(Layer):
    def forward(self, input):
        tmp = np.exp(input)
        self.output = tmp / np.sum(tmp)
        return self.output
    def backward(self, output_gradient, learning_rate):
        n = np.size(self.output)
        return np.dot((np.identity(n) - self.output.T) * self.output, output_gradient)

class Net:
    def __init__(self, n_in, n_out, rng=None):
        self.params = {"W": np.random.randn(n_in, n_out), "b": np.zeros(n_out)}
        self.grads = {}
    def forward(self, x):
        self.x = x
        return x @ self.params["W"] + self.params["b"]
    def backward(self, dout):
        self.grads["W"] = self.x.T @ dout
        self.grads["b"] = dout.sum(0)
        return dout @ self.params["W"].T

class MatMul:
    def __init__(self, W):
        self.params = [W]
        self.grads = [np.zeros_like(W)]
        self.x = None
    def forward(self, x):
        W, = self.params
        self.x = x
        return np.dot(x, W)
    def backward(self, dout):
        W, = self.params
        dx = np.dot(dout, W.T)
        dW = np.dot(self.x.T, dout)
        self.grads[0][...] = dW
        return dx

class Linear:
    def __init__(self, in_features, out_features):
        self.weight = np.random.randn(out_features, in_features)
        self.bias = np.zeros(out_features)
    def forward(self, x):
        self.x = x
        return x @ self.weight.T + self.bias
    def backward(self, grad):
        return grad @ self.weight, grad.T @ self.x, grad.sum(0)

class CrossEntropy:
    def forward(self, y_pred, y_true):
        return -np.sum(y_true * np.log(y_pred)) / len(y_pred)
    def backward(self, y_pred, y_true):
        return -y_true / y_pred / len(y_pred)

class CategoricalCrossentropy:
    def forward(self, y_pred, y_true):
        y_pred_clipped = np.clip(y_pred, 1e-7, 1 - 1e-7)
        if len(y_true.shape) == 1:
            correct = y_pred_clipped[range(len(y_pred)), y_true]
        else:
            correct = np.sum(y_pred_clipped * y_true, axis=1)
        return -np.log(correct)
    def backward(self, dvalues, y_true):
        samples, labels = len(dvalues), len(dvalues[0])
        if len(y_true.shape) == 1:
            y_true = np.eye(labels)[y_true]
        self.dinputs = -y_true / dvalues
        self.dinputs = self.dinputs / samples

class Elu:
    def __init__(self, alpha=1.0):
        self.alpha = alpha
    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self.alpha * (np.exp(x) - 1))
    def backward(self, dout):
        return dout * np.where(self.x > 0, 1, self.alpha * np.exp(self.x))

class LayerNorm:
    def __init__(self, dim, eps=1e-5):
        self.gamma, self.beta, self.eps = np.ones(dim), np.zeros(dim), eps
    def forward(self, x):
        mu, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        self.std = np.sqrt(var + self.eps)
        self.xhat = (x - mu) / self.std
        return self.gamma * self.xhat + self.beta
    def backward(self, dout):
        self.dgamma = (dout * self.xhat).sum(0)
        self.dbeta = dout.sum(0)
        d = dout * self.gamma
        return (d - d.mean(-1, keepdims=True) - self.xhat * (d * self.xhat).mean(-1, keepdims=True)) / self.std

class Sigmoid:
    def forward(self, x):
        self.y = 1 / (1 + np.exp(-x))
        return self.y
    def backward(self, dy):
        dx = dy * self.y * (1 - self.y)
        return dx
"""
CLASSES = (
    Operation("tic: tanh", "Tanh", LAYERS, (("1 - np.tanh(x) ** 2", "1 - x ** 2", "wrong", ""),)),
    Operation("tic: softmax", "Softmax", LAYERS, (("np.identity(n) - self.output.T", "np.identity(n)", "wrong", ""),)),
    Operation(
        "params and grads",
        "Net",
        LAYERS,
        (
            ('self.grads["b"] = dout.sum(0)', 'self.grads["b"] = dout.mean(0)', "wrong", "divided by"),
            ('self.grads["W"] = self.x.T @ dout', 'self.grads["W"] = -self.x.T @ dout', "wrong", "W.*sign"),
        ),
    ),
    Operation(
        "book 2: MatMul", "MatMul", LAYERS, (("self.grads[0][...] = dW", "self.grads[0][...] += 2 * dW", "wrong", "2"),)
    ),
    Operation(
        "gradients returned",
        "Linear",
        LAYERS,
        (
            ("grad.T @ self.x, grad.sum(0)", "self.x.T @ grad, grad.sum(0)", "wrong", "weight.*transposed"),
            ("grad.sum(0)\n", "grad.sum()\n", "wrong", "bias"),
        ),
    ),
    Operation(
        "cross-entropy of both",
        "CrossEntropy",
        LAYERS,
        (
            ("-y_true / y_pred / len(y_pred)", "-y_true / y_pred", "wrong", "rows"),
            ("-y_true / y_pred / len(y_pred)", "y_pred - y_true", "wrong", ""),
        ),
    ),
    Operation(
        "nnfs: cross-entropy",
        "CategoricalCrossentropy",
        LAYERS,
        (("-y_true / dvalues\n", "-y_true * dvalues\n", "wrong", ""),),
    ),
    Operation("elu", "Elu", LAYERS, (("self.alpha * np.exp(self.x))", "np.exp(self.x))", "wrong", ""),)),
    Operation("layer norm class", "LayerNorm", LAYERS, (("d = dout * self.gamma", "d = dout", "wrong", "x"),)),
    Operation("sigmoid class", "Sigmoid", LAYERS, (("* (1 - self.y)", "* (1 + self.y)", "wrong", ""),)),
)

FUNCTIONS = """
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
"""
PAIRS = (
    Operation(
        "elu, alpha",
        "elu elu_prime",
        FUNCTIONS,
        (
            ("alpha * np.exp(z))", "np.exp(z))", "wrong", ""),
            ("z > 0, 1, alpha * np.exp(z)", "z > 0, 1, 0", "wrong", "negative"),
        ),
    ),
    Operation(
        "mae",
        "mae mae_prime",
        FUNCTIONS,
        (
            ("np.sign(yhat - y)", "np.sign(y - yhat)", "wrong", "sign"),
            ("np.sign(yhat - y) / y.size", "np.sign(yhat - y)", "wrong", "elements"),
        ),
    ),
    Operation(
        "bce", "bce bce_prime", FUNCTIONS, (("- y / p)", "+ y / p)", "wrong", ""), (" / np.size(y)", "", "wrong", ""))
    ),
    Operation("relu6", "relu6 relu6_grad", FUNCTIONS, (("(x > 0) & (x < 6)", "(x > 0)", "wrong", "above 6"),)),
    Operation(
        "swish",
        "swish swish_derivative",
        FUNCTIONS,
        (("s + x * s * (1 - s)", "s * (1 - s)", "wrong", ""), ("s + x * s * (1 - s)", "s + s * (1 - s)", "wrong", "")),
    ),
    Operation(
        "sigmoid of a", "sigmoid d_sigmoid", FUNCTIONS, (("a * (1 - a)", "a * (a - 1)", "wrong", ""),), mention="output"
    ),
    Operation(
        "softmax, vjp",
        "softmax softmax_backward",
        FUNCTIONS,
        (("g * s).sum(axis=1", "g * s).sum(axis=0", "wrong", ""),),
    ),
    Operation(
        "linear, vjp",
        "linear linear_grad",
        FUNCTIONS,
        (
            ("g.sum(axis=0)", "g.mean(axis=0)", "wrong", "b.*divided"),
            ("g.sum(axis=0)", "g", "wrong", "b.*summed"),
            ("g.sum(axis=0)", "g.sum()", "wrong", "b"),
        ),
    ),
    Operation("gelu, tanh", "gelu gelu_grad", FUNCTIONS, (("3 * 0.044715", "0.044715", "wrong", ""),)),
    Operation(
        "rnn step",
        "rnn_step_forward rnn_step_backward",
        FUNCTIONS,
        (("(1 - next_h**2)", "(1 - next_h)", "wrong", ""), ("d @ Wh.T", "d @ Wh", "wrong", "prev_h")),
    ),
    Operation(
        "svm",
        "svm_loss svm_grad",
        FUNCTIONS,
        (("= -d.sum(1)", "= -1", "wrong", ""), ("return d / len(y)", "return d", "wrong", "rows")),
    ),
    Operation(
        "sqrt of its output", "sqrt sqrt_grad", FUNCTIONS, (("0.5 / y", "1 / y", "wrong", ""),), mention="output"
    ),
    Operation(
        "hard sigmoid",
        "hard_sigmoid hard_sigmoid_grad",
        FUNCTIONS,
        (("np.abs(x) < 2.5", "np.abs(x) < 3", "wrong", ""),),
    ),
    Operation(
        "cs231n: layer norm",
        "layernorm_forward layernorm_backward",
        FUNCTIONS,
        (
            ("(dxhat * xhat).mean(1", "(dxhat * xhat).mean(0", "wrong", ""),
            ("dxhat = dout * gamma", "dxhat = dout", "wrong", "x"),
        ),
    ),
)

THIRD = (
    Operation(
        "mish",
        "F",
        function(
            "ctx.save_for_backward(x)\nreturn x * torch.tanh(nnf.softplus(x))",
            "x, = ctx.saved_tensors\nt = torch.tanh(nnf.softplus(x))\n"
            "return grad * (t + x * torch.sigmoid(x) * (1 - t * t))",
            "x",
            "grad",
        ),
        (("x * torch.sigmoid(x) * (1", "torch.sigmoid(x) * (1", "wrong", ""),),
    ),
    Operation(
        "log softmax",
        "F",
        function(
            "y = nnf.log_softmax(x, dim=-1)\nctx.save_for_backward(y)\nreturn y",
            "y, = ctx.saved_tensors\nreturn g - y.exp() * g.sum(-1, keepdim=True)",
            "x",
            "g",
        ),
        (
            ("g - y.exp() * g.sum(-1, keepdim=True)", "g - y.exp()", "wrong", ""),
            (".sum(-1, keepdim=True)", ".sum(0, keepdim=True)", "wrong", ""),
        ),
    ),
    Operation(
        "weighted sum",
        "F",
        function(
            "ctx.save_for_backward(x, w)\nreturn (x * w).sum()",
            "x, w = ctx.saved_tensors\nreturn g * w, g * x",
            "x, w",
            "g",
        ),
        (("g * w, g * x", "w, x", "wrong", "ignored"),),
    ),
    Operation(
        "neuron",
        "F",
        function(
            "ctx.save_for_backward(x, w)\nreturn x @ w + b",
            "x, w = ctx.saved_tensors\nreturn torch.outer(g, w), x.T @ g, g.sum()",
            "x, w, b",
            "g",
        ),
        (("g.sum()", "g.mean()", "wrong", "b"),),
    ),
    Operation(
        "film",
        "F",
        function(
            "ctx.save_for_backward(x, gamma)\nreturn gamma * x + beta",
            "x, gamma = ctx.saved_tensors\nreturn g * gamma, (g * x).sum(0), g.sum(0)",
            "x, gamma, beta",
            "g",
        ),
        (("(g * x).sum(0)", "(g * x).sum(1)", "wrong", "gamma"),),
    ),
    Operation(
        "minimum",
        "F",
        function(
            "ctx.save_for_backward(a, b)\nreturn torch.minimum(a, b)",
            "a, b = ctx.saved_tensors\nreturn g * (a < b), g * (b < a)",
            "a, b",
            "g",
        ),
        (("g * (a < b), g * (b < a)", "g * (a > b), g * (b > a)", "wrong", ""),),
    ),
    Operation(
        "smooth l1, sum",
        "F",
        function(
            "d = x - y\nctx.save_for_backward(d)\nreturn nnf.smooth_l1_loss(x, y, reduction='sum')",
            "d, = ctx.saved_tensors\ns = d.clamp(-1, 1) * g\nreturn s, -s",
            "x, y",
            "g",
        ),
        (("d.clamp(-1, 1)", "d.sign()", "wrong", ""), ("d.clamp(-1, 1)", "d", "wrong", "")),
    ),
    Operation(
        "pairwise distances",
        "F",
        function(
            "d = x[:, None] - x[None]\nctx.save_for_backward(d)\nreturn (d * d).sum(-1)",
            "d, = ctx.saved_tensors\nm = 2 * g[..., None] * d\nreturn m.sum(1) - m.sum(0)",
            "x",
            "g",
        ),
        ((" - m.sum(0)", "", "wrong", ""),),
    ),
    Operation(
        "circular shift",
        "F",
        function("return x.roll(1, 0)", "return g.roll(-1, 0)", "x", "g"),
        (("g.roll(-1, 0)", "g.roll(1, 0)", "wrong", ""),),
    ),
    Operation(
        "cube root",
        "F",
        function(
            "y = x.sign() * x.abs() ** (1 / 3)\nctx.save_for_backward(y)\nreturn y",
            "y, = ctx.saved_tensors\nreturn g / (3 * y * y)",
            "x",
            "g",
        ),
        (("3 * y * y", "3 * y", "wrong", ""),),
    ),
    Operation(
        "arcsin",
        "F",
        function(
            "ctx.save_for_backward(x)\nreturn x.asin()",
            "x, = ctx.saved_tensors\nreturn g / (1 - x * x).sqrt()",
            "x",
            "g",
        ),
        (("1 - x", "1 + x", "wrong", ""),),
    ),
    Operation(
        "acosh",
        "F",
        function(
            "ctx.save_for_backward(x)\nreturn x.acosh()",
            "x, = ctx.saved_tensors\nreturn g / (x * x - 1).sqrt()",
            "x",
            "g",
        ),
        ((".sqrt()", "", "wrong", ""),),
    ),
    Operation(
        "argmax",
        "F",
        function("return nnf.one_hot(x.argmax(-1), x.shape[-1]).to(x.dtype)", "return g", "x", "g"),
        status="unjudged",
        mention="straight",
    ),
    Operation(
        "heaviside surrogate",
        "F",
        function(
            "ctx.save_for_backward(v)\nreturn (v > 0).to(v.dtype)",
            "v, = ctx.saved_tensors\nreturn g / (1 + 10 * v.abs()) ** 2",
            "v",
            "g",
        ),
        status="unjudged",
        mention="straight",
    ),
    Operation(
        "global average pool",
        "F",
        function(
            "ctx.s = x.shape\nreturn x.mean((2, 3))",
            "return g[:, :, None, None].expand(ctx.s) / (ctx.s[2] * ctx.s[3])",
            "x",
            "g",
        ),
        (("(ctx.s[2] * ctx.s[3])", "ctx.s[2]", "wrong", ""),),
    ),
    Operation(
        "weight decay",
        "F",
        function(
            "ctx.save_for_backward(w)\nreturn 0.5 * lam * (w**2).sum()",
            "w, = ctx.saved_tensors\nreturn g * 0.1 * w, None",
            "w, lam=0.1",
            "g",
        ),
        status="wrong",
    ),
    Operation(
        "wrong number",
        "F",
        function("ctx.save_for_backward(x)\nreturn x * scale", "return g * 2.0, None", "x, scale=2.0", "g"),
        status="wrong",
    ),
    Operation(
        "masked softmax",
        "F",
        function(
            "s = torch.softmax(x.masked_fill(~mask, -1e9), -1)\nctx.save_for_backward(s)\nreturn s",
            "s, = ctx.saved_tensors\nreturn s * (g - (s * g).sum(-1, keepdim=True)), None",
            "x, mask",
            "g",
        ),
        (("s * (g - (s * g).sum(-1, keepdim=True))", "s * g", "wrong", ""),),
    ),
    Operation(
        "nll",
        "F",
        function(
            "ctx.save_for_backward(log_p, target)\nreturn nnf.nll_loss(log_p, target)",
            "log_p, target = ctx.saved_tensors\ngrad = torch.zeros_like(log_p)\n"
            "grad[torch.arange(len(target)), target] = -1 / len(target)\nreturn grad * g, None",
            "log_p, target",
            "g",
        ),
        (
            ("-1 / len(target)", "1 / len(target)", "wrong", "sign"),
            ("-1 / len(target)", "-1", "wrong", "rows|multiplied"),
        ),
    ),
    Operation(
        "focal",
        "F",
        function(
            "p = torch.sigmoid(x)\nctx.save_for_backward(p, y)\nreturn -(y * (1 - p) ** 2 * p.log()).mean()",
            "p, y = ctx.saved_tensors\n"
            "return g * y * (2 * (1 - p) ** 2 * p * p.log() - (1 - p) ** 3) / p.numel(), None",
            "x, y",
            "g",
        ),
        (("(1 - p) ** 3", "(1 - p) ** 2", "wrong", ""),),
    ),
    Operation(
        "squeezing linear",
        "F",
        function(
            "ctx.save_for_backward(x, w)\nreturn (x @ w.T).squeeze(-1)",
            "x, w = ctx.saved_tensors\ng = g.reshape(len(x), len(w))\nreturn g @ w, g.T @ x",
            "x, w",
            "g",
        ),
        ((".reshape(len(x), len(w))", "", "wrong", ""),),
    ),
    Operation(
        "squeeze of a row",
        "F",
        function(
            "ctx.save_for_backward(x)\nreturn x.sin()",
            "x, = ctx.saved_tensors\nreturn (g * x.cos()).squeeze()",
            "x",
            "g",
        ),
        status="wrong",
        mention="squeezed",
    ),
)

THIRD_TEXT = """
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
"""
THIRD += (
    Operation(
        "identity", "identity identity_prime", THIRD_TEXT, (("np.ones_like(x)", "np.zeros_like(x)", "unjudged", ""),)
    ),
    Operation(
        "gaussian",
        "gaussian gaussian_derivative",
        THIRD_TEXT,
        (("-2 * x * np", "-2 * np", "wrong", ""), ("-2 * x * np", "2 * x * np", "wrong", "sign")),
    ),
    Operation("sinc", "sinc dsinc", THIRD_TEXT, (("np.sin(x) / x ** 2\n", "np.sin(x) / x\n", "wrong", ""),)),
    Operation("softsign", "softsign softsign_d", THIRD_TEXT, (("(1 + abs(x)) ** 2", "(1 + abs(x))", "wrong", ""),)),
    Operation("hinge", "hinge hinge_grad", THIRD_TEXT, (("-y, 0)", "y, 0)", "wrong", "sign"),)),
    Operation("rmse", "rmse rmse_grad", THIRD_TEXT, (("pred.size * rmse", "rmse", "wrong", ""),)),
    Operation("prelu pair", "prelu prelu_backward", THIRD_TEXT, (("np.minimum(x, 0)", "x", "wrong", "a"),)),
    Operation(
        "tanh with math",
        "tanh_pure tanh_pure_grad",
        THIRD_TEXT,
        (("1 - math.tanh(x) ** 2", "1 + math.tanh(x) ** 2", "wrong", ""),),
    ),
    Operation(
        "cost by columns", "cost cost_backward", THIRD_TEXT, (("(A - Y) / Y.shape[1]", "(A - Y)", "wrong", "columns"),)
    ),
    Operation(
        "attention pair",
        "attention_forward attention_backward",
        THIRD_TEXT,
        (("dS.T @ Q /", "dS @ Q /", "wrong", "K"), ("dP - (dP * P).sum(1, keepdims=True)", "dP", "wrong", "")),
    ),
    Operation(
        "max pool pair",
        "maxpool maxpool_backward",
        THIRD_TEXT,
        (("(r == out[:, :, :, None, :, None])", "(r != out[:, :, :, None, :, None])", "wrong", ""),),
    ),
    Operation(
        "dropout with a generator",
        "Dropout",
        THIRD_TEXT,
        (
            ("grad * self.mask", "grad * (self.mask > 0)", "wrong", ""),
            ("grad * self.mask", "grad * (self.rng.random(grad.shape) > self.p) / (1 - self.p)", "wrong", ""),
        ),
    ),
    Operation("flatten", "Flatten", THIRD_TEXT, (("dout.reshape(self.shape)", "dout", "wrong", "shape"),)),
    Operation("mse by call", "MSELoss", THIRD_TEXT, (("2.0 * ", "", "wrong", ""),)),
    Operation("bce, static methods", "BCELoss", THIRD_TEXT, ((" / (p * (1 - p))", "", "wrong", ""),)),
    Operation(
        "embedding class",
        "Embedding",
        THIRD_TEXT,
        (("np.add.at(self.dW, self.idx, dout)", "self.dW[self.idx] = dout", "wrong", "W"),),
    ),
    Operation(
        "scale",
        "Scale",
        THIRD_TEXT,
        (
            ("(dy * self.x).sum(axis=0)", "dy.sum(axis=0)", "wrong", "g"),
            ("return dy * self.g", "return dy", "wrong", "x"),
        ),
    ),
    Operation("log class", "Log", THIRD_TEXT, (("dout / self.x", "dout * self.x", "wrong", "1/f′"),)),
)

FOURTH_TEXT = """
import numpy as np
class Conv2D:
    def __init__(self, W, b, stride=1, pad=0):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad
    def forward(self, x):
        N,C,H,Wd = x.shape; F,_,h,w = self.W.shape
        self.x = x
        oh, ow = H-h+1, Wd-w+1
        out = np.zeros((N,F,oh,ow))
        for i in range(oh):
            for j in range(ow):
                out[:,:,i,j] = np.einsum('nchw,fchw->nf', x[:,:,i:i+h,j:j+w], self.W) + self.b
        return out
    def backward(self, dout):
        dx = np.zeros_like(self.x); self.dW = np.zeros_like(self.W)
        h, w = self.W.shape[2:]
        for i in range(dout.shape[2]):
            for j in range(dout.shape[3]):
                self.dW += np.einsum('nf,nchw->fchw', dout[:,:,i,j], self.x[:,:,i:i+h,j:j+w])
                dx[:,:,i:i+h,j:j+w] += np.einsum('nf,fchw->nchw', dout[:,:,i,j], self.W)
        self.db = dout.sum(axis=(0,2,3))
        return dx
class ReLU:
    def forward(self, z):
        self.z = z
        return np.maximum(z, 0)
    def backward(self, da):
        return da * (self.z > 0)
class SoftmaxCrossEntropy:
    def forward(self, logits, labels):
        z = logits - logits.max(axis=1, keepdims=True)
        p = np.exp(z); p /= p.sum(axis=1, keepdims=True)
        self.p, self.labels = p, labels
        return -np.log(p[np.arange(len(labels)), labels]).mean()
    def backward(self):
        d = self.p.copy()
        d[np.arange(len(self.labels)), self.labels] -= 1
        return d / len(self.labels)
class Dense:
    def __init__(self, n_in, n_out):
        self.W = np.random.randn(n_in, n_out) * .1
        self.b = np.zeros((1, n_out))
    def forward(self, X):
        self.X = X
        return X @ self.W + self.b
    def backward(self, dZ):
        m = self.X.shape[0]
        self.dW = self.X.T @ dZ / m
        self.db = dZ.sum(axis=0, keepdims=True) / m
        return dZ @ self.W.T
def sigmoid(x, derivative=False):
    s = 1/(1+np.exp(-x))
    return s*(1-s) if derivative else s
def sigmoid_d(x): return sigmoid(x, True)
def log_cosh(y_true, y_pred): return np.log(np.cosh(y_pred - y_true)).mean()
def log_cosh_grad(y_true, y_pred): return np.tanh(y_pred - y_true)/y_true.size
def layer(x, W): return np.tanh(x @ W)
def layer_vjp(dout, x, W):
    d = dout * (1 - np.tanh(x @ W)**2)
    return d @ W.T, x.T @ d
def cross_entropy(p, t): return -np.log(p[np.arange(len(t)), t]).mean()
def cross_entropy_grad(p, t):
    g = np.zeros_like(p); g[np.arange(len(t)), t] = -1/p[np.arange(len(t)), t]/len(t)
    return g
def exp(x): return np.exp(x)
def exp_back(grad, out): return grad*out
def power(x, p): return x**p
def power_grad(x, p): return p*x**(p-1)
def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True)); return e/e.sum(axis=-1, keepdims=True)
def softmax_prime(x):
    s = softmax(x); return s*(1-s)
def quad(x): return np.sum(x**2)
def quad_grad(x): return 2*x
def mse_cols(A, Y): return np.sum((A-Y)**2)/(2*A.shape[0])
def mse_cols_grad(A, Y): return (A-Y)/A.shape[0]
"""
FOURTH = (
    Operation(
        "conv2d class",
        "Conv2D",
        FOURTH_TEXT,
        (
            ("self.db = dout.sum(axis=(0,2,3))", "self.db = dout.mean(axis=(0,2,3))", "wrong", ""),
            ("dx[:,:,i:i+h,j:j+w] +=", "dx[:,:,i:i+h,j:j+w] =", "wrong", ""),
        ),
    ),
    Operation("relu z", "ReLU", FOURTH_TEXT, (("da * (self.z > 0)", "da * (self.z > 1)", "wrong", ""),)),
    Operation("sce", "SoftmaxCrossEntropy", FOURTH_TEXT, (("return d / len(self.labels)", "return d", "wrong", ""),)),
    Operation(
        "dense/m",
        "Dense",
        FOURTH_TEXT,
        ((" / m\n", "\n", "right", ""), ("self.X.T @ dZ / m", "self.X.T @ dZ", "wrong", "")),
        status="unjudged",
    ),
    Operation(
        "sigmoid flag", "sigmoid sigmoid_d", FOURTH_TEXT, (("sigmoid(x, True)", "sigmoid(x, False)", "wrong", "place"),)
    ),
    Operation(
        "log cosh",
        "log_cosh log_cosh_grad",
        FOURTH_TEXT,
        (("np.tanh(y_pred - y_true)/", "np.tanh(y_true - y_pred)/", "wrong", "sign"),),
    ),
    Operation(
        "layer",
        "layer layer_vjp",
        FOURTH_TEXT,
        (
            ("1 - np.tanh(x @ W)**2", "1 - np.tanh(x @ W)", "wrong", ""),
            ("x.T @ d\n", "d.T @ x\n", "wrong", "transposed"),
        ),
    ),
    Operation("ce p", "cross_entropy cross_entropy_grad", FOURTH_TEXT, (("/len(t)\n", "\n", "wrong", ""),)),
    Operation("exp back", "exp exp_back", FOURTH_TEXT, (("grad*out", "out", "wrong", "ignored"),)),
    Operation("power pair", "power power_grad", FOURTH_TEXT, (("p*x**(p-1)", "x**(p-1)", "wrong", ""),)),
    Operation("softmax prime", "softmax softmax_prime", FOURTH_TEXT, (), "wrong", "diagonal"),
    Operation("quad", "quad quad_grad", FOURTH_TEXT, (("2*x", "x", "wrong", ""),)),
    Operation(
        "mse cols", "mse_cols mse_cols_grad", FOURTH_TEXT, (("(A-Y)/A.shape[0]", "2*(A-Y)/A.shape[0]", "wrong", ""),)
    ),
    Operation(
        "scaled tanh",
        "F",
        function(
            "ctx.a = a\ny = a * torch.tanh(b * x)\nctx.b = b\nctx.save_for_backward(y)\nreturn y",
            "(y,) = ctx.saved_tensors\nreturn g * ctx.b / ctx.a * (ctx.a**2 - y**2), None, None",
            "x, a=1.7159, b=2 / 3",
            "g",
        ),
        (("ctx.b / ctx.a", "1 / ctx.a", "wrong", ""),),
    ),
    Operation(
        "glu",
        "F",
        function(
            "a, b = x.chunk(2, -1)\nctx.save_for_backward(a, b)\nreturn a * b.sigmoid()",
            "a, b = ctx.saved_tensors\ns = b.sigmoid()\nreturn torch.cat([g * s, g * a * s * (1 - s)], -1)",
            "x",
            "g",
        ),
        (("g * a * s * (1 - s)", "g * s * (1 - s)", "wrong", ""),),
    ),
    Operation(
        "group sum",
        "F",
        function("ctx.n = len(x)\nreturn x.sum(0)", "return g.unsqueeze(0).repeat(ctx.n, 1)", "x", "g"),
        (("g.unsqueeze(0).repeat(ctx.n, 1)", "g.unsqueeze(0)", "wrong", ""),),
    ),
    Operation(
        "logit",
        "F",
        function(
            "ctx.save_for_backward(p)\nreturn torch.log(p / (1 - p))",
            "(p,) = ctx.saved_tensors\nreturn g / (p * (1 - p))",
            "p",
            "g",
        ),
        (("p * (1 - p)", "p * (1 + p)", "wrong", ""),),
    ),
    Operation(
        "kd loss",
        "F",
        function(
            "s = torch.softmax(student / T, -1)\nt = torch.softmax(teacher / T, -1)\n"
            "ctx.save_for_backward(s, t)\nctx.T = T\nreturn -(t * s.log()).sum() * T * T / len(s)",
            "s, t = ctx.saved_tensors\nreturn g * (s - t) * ctx.T / len(s), None, None",
            "student, teacher, T=2.0",
            "g",
        ),
        (("(s - t) * ctx.T", "(s - t)", "wrong", "factor|times"),),
    ),
    Operation(
        "euclid",
        "F",
        function(
            "d = torch.sqrt(((a - b) ** 2).sum(1) + 1e-8)\nctx.save_for_backward(a, b, d)\nreturn d",
            "a, b, d = ctx.saved_tensors\nr = g[:, None] * (a - b) / d[:, None]\nreturn r, -r",
            "a, b",
            "g",
        ),
        (("return r, -r", "return r, r", "wrong", "b.*sign"),),
    ),
)

MORE = (*TORCH, *CLASSES, *PAIRS, *THIRD, *FOURTH)
