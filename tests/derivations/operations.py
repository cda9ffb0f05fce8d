"""Single operations as people write them, right ones and ones with a mistake, and what must be said of each."""

from textwrap import dedent
from typing import NamedTuple


class Operation(NamedTuple):
    """An operation, and edits of it: what is replaced, by what, the status, and an expression for what is said."""

    name: str
    target: str  # a class, two functions "f f_grad", or a call after "call:"
    text: str
    edits: tuple[tuple[str, str, str, str], ...] = ()
    status: str = "right"
    mention: str = ""


def function(forward: str, backward: str, arguments: str, grad: str = "grad_output") -> str:
    """The text of a `torch.autograd.Function` called F."""

    def body(lines: str) -> str:
        return "".join(f"        {line}\n" for line in dedent(lines).strip().splitlines())

    return (
        "import torch\nimport torch.nn.functional as nnf\n\nclass F(torch.autograd.Function):\n"
        f"    @staticmethod\n    def forward(ctx, {arguments}):\n{body(forward)}\n"
        f"    @staticmethod\n    def backward(ctx, {grad}):\n{body(backward)}"
    )


LINEAR = """
ctx.save_for_backward(input, weight, bias)
out = input.mm(weight.t())
return out if bias is None else out + bias
"""
# The public examples.
EXAMPLES = (
    Operation(
        "isrlu",
        "F",
        function(
            "neg = tensor.clamp(max=0)\nscale = torch.rsqrt(1.0 + alpha * neg**2)\nctx.scale = scale\n"
            "return tensor * scale",
            "return ctx.scale**3, None",
            "tensor, alpha=1",
            "grad_out",
        ),
        status="wrong",
        mention=r"grad_out is ignored.*chain rule.*grad_out \* ctx\.scale ?\*\* ?3",
    ),
    Operation(
        "linear, transposed",
        "F",
        function(
            LINEAR,
            """
            input, weight, bias = ctx.saved_tensors
            grad_input = grad_output.mm(weight)
            grad_weight = input.t().mm(grad_output)
            grad_bias = grad_output.sum(0) if bias is not None else None
            return grad_input, grad_weight, grad_bias
            """,
            "input, weight, bias=None",
        ),
        status="wrong",
        mention=r"weight.*transposed.*\(3, 5\).*\(5, 3\)",
    ),
    Operation(
        "linear, squeezed",
        "F",
        function(
            LINEAR,
            "input, weight, bias = ctx.saved_tensors\n"
            "return grad_output.mm(weight), grad_output.t().mm(input), grad_output.sum(0).squeeze(0)",
            "input, weight, bias=None",
        ),
        status="wrong",
        mention=r"bias.*squeezed.*\(\).*\(1,\)",
    ),
    Operation(
        "sum, saved tensors",
        "F",
        function(
            "ctx.save_for_backward(x)\nreturn x.sum()",
            "x = ctx.saved_tensors\nreturn torch.ones_like(x) * grad_output",
            "x",
        ),
        status="wrong",
        mention=r"saved_tensors is a tuple.*x, = ctx\.saved_tensors",
    ),
    Operation(
        "binarize",
        "F",
        function(
            "ctx.save_for_backward(x)\nreturn x.sign()",
            "(x,) = ctx.saved_tensors\nreturn grad_output * (x.abs() <= 1)",
            "x",
        ),
        (
            ("grad_output * (x.abs() <= 1)", "torch.zeros_like(x)", "right", ""),
            ("x.sign()", "torch.ones_like(x)", "wrong", ""),
        ),
        status="unjudged",
        mention=r"zero.*straight-through",
    ),
    Operation(
        "mse, upstream ignored",
        "F",
        function(
            "ctx.save_for_backward(pred, target)\nreturn ((pred - target) ** 2).mean()",
            "pred, target = ctx.saved_tensors\nreturn 2 * (pred - target) / pred.numel(), None",
            "pred, target",
        ),
        (
            ("2 * (pred", "grad_output * 2 * (pred", "right", ""),
            ("2 * (pred", "grad_output * (pred", "wrong", "factor"),
            ("2 * (pred - target) / pred.numel()", "grad_output * 2 * (pred - target)", "wrong", "number of elements"),
            ("2 * (pred - target) /", "grad_output * 2 * (target - pred) /", "wrong", "sign"),
        ),
        status="wrong",
        mention="grad_output is ignored",
    ),
    Operation(
        "elu class",
        "call: e=ELU(); (e.function(x), e.gradient(x))",
        """
        import numpy as np
        class ELU:
            def __init__(self, alpha=0.7, lam=1.3):
                self.alpha, self.lam = alpha, lam

            def function(self, x):
                return self.lam * np.where(x > 0, x, self.alpha * (np.exp(x) - 1))

            def gradient(self, x):
                return np.where(x > 0, self.lam, self.lam * (self.function(x) + self.alpha))
        """,
        (("self.lam * (self.function(x) + self.alpha)", "self.function(x) + self.alpha * self.lam", "right", ""),),
        status="wrong",
        mention="negative x",
    ),
    Operation(
        "elu class by name",
        "ELU",
        """
        import numpy as np
        class ELU:
            def __init__(self, alpha=0.7, lam=1.3):
                self.alpha, self.lam = alpha, lam

            def function(self, x):
                return self.lam * np.where(x > 0, x, self.alpha * (np.exp(x) - 1))

            def gradient(self, x):
                return np.where(x > 0, self.lam, self.lam * (self.function(x) + self.alpha))
        """,
        (("self.lam * (self.function(x) + self.alpha)", "self.function(x) + self.alpha * self.lam", "right", ""),),
        status="wrong",
        mention="negative x",
    ),
    Operation(
        "relu_grad",
        "relu relu_grad",
        """
        import numpy as np
        def relu(x):
            return np.maximum(0, x)

        def relu_grad(x):
            grad = np.zeros(x)
            grad[x >= 0] = 1
            return grad
        """,
        (
            ("np.zeros(x)", "np.zeros_like(x)", "right", ""),
            ("np.zeros(x)", "np.zeros(x.shape)", "right", ""),
            ("np.zeros(x)", "np.ones_like(x)", "wrong", "negative x"),
        ),
        status="wrong",
        mention=r"np\.zeros_like\(x\)",
    ),
    Operation(
        "relu_grad in a call",
        "call: (relu(x), relu_grad(x))",
        """
        import numpy as np
        def relu(x):
            return np.maximum(0, x)

        def relu_grad(x):
            grad = np.zeros(x)
            grad[x >= 0] = 1
            return grad
        """,
        (("np.zeros(x)", "np.zeros_like(x)", "right", ""),),
        status="wrong",
        mention=r"np\.zeros_like\(x\)",
    ),
    Operation(
        "relu above -1",
        "F",
        function(
            "ctx.save_for_backward(x)\nreturn x.clamp(min=0)", "(x,) = ctx.saved_tensors\nreturn g * (x > -1)", "x", "g"
        ),
        (
            ("x > -1", "x > 0", "right", ""),
            ("g * (x > -1)", "g", "wrong", "negative x"),
            ("g * (x > -1)", "(x > 0).double()", "wrong", "g is ignored"),
            ("g * (x > -1)", "g * (g > 0)", "wrong", ""),
            ("g * (x > -1)", "g * (x < 0)", "wrong", ""),
            ("g * (x > -1)", "g * x.clamp(min=0)", "wrong", "in the place of"),
            ("return g * (x > -1)", "g[x < 0] = 0\n        return g", "wrong", "in place"),
            ("return x.clamp(min=0)", "return x.clamp_(min=0)", "wrong", ""),
            ("g * (x > -1)", "None", "wrong", "None"),
            ("g * (x > -1)", "g * (x > 0), None, None", "right", ""),
            ("g * (x > -1)", "g * (x > 0), g", "wrong", "2 gradients"),
            ("g * (x > -1)", "g * (x > 0) * torch.rand(1)", "wrong", "random"),
        ),
        status="wrong",
        mention=r"negative x, between −1\.?0* and −0\.\d+: at x = −0\.\d+ yours is 1.*right is 0.*x > -1",
    ),
)

FUNCTIONS = (
    Operation(
        "softmax",
        "F",
        function(
            "s = torch.softmax(x, dim)\nctx.save_for_backward(s)\nctx.dim = dim\nreturn s",
            "(s,) = ctx.saved_tensors\nreturn s * (grad_output - (grad_output * s).sum(ctx.dim, keepdim=True)), None",
            "x, dim",
        ),
        (
            (
                "s * (grad_output - (grad_output * s).sum(ctx.dim, keepdim=True))",
                "grad_output * s * (1 - s)",
                "wrong",
                "diagonal",
            ),
        ),
    ),
    Operation(
        "layer norm",
        "F",
        function(
            """
            mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
            rstd = 1 / torch.sqrt(var + eps)
            xhat = (x - mean) * rstd
            ctx.save_for_backward(xhat, rstd, gamma)
            return xhat * gamma + beta
            """,
            """
            xhat, rstd, gamma = ctx.saved_tensors
            g = dy * gamma
            dx = rstd * (g - g.mean(-1, keepdim=True) - xhat * (g * xhat).mean(-1, keepdim=True))
            return dx, (dy * xhat).sum(0), dy.sum(0), None
            """,
            "x, gamma, beta, eps=1e-5",
            "dy",
        ),
        (
            ("g = dy * gamma", "g = dy", "wrong", "x"),
            (" - g.mean(-1, keepdim=True)", "", "wrong", "x"),
            ("dy.sum(0), None", "dy.sum(1), None", "wrong", "axis"),
            ("(dy * xhat).sum(0)", "dy * xhat", "right", "sums"),
            ("(dy * xhat).sum(0)", "(dy * xhat).mean(0)", "wrong", "divided by"),
        ),
    ),
    Operation(
        "linear without bias",
        "F",
        function(
            "ctx.save_for_backward(x, w)\nreturn x @ w",
            "x, w = ctx.saved_tensors\nreturn g @ w.T, x.T @ g",
            "x, w",
            "g",
        ),
        (
            ("x.T @ g", "x.T @ g / len(x)", "wrong", "divided by 4"),
            ("g @ w.T, x.T @ g", "x.T @ g, g @ w.T", "wrong", "swapped|shape"),
            ("g @ w.T, x.T @ g", "g @ w.T", "wrong", "1 gradient"),
            ("g @ w.T, x.T @ g", "g @ w, x.T @ g", "wrong", "RuntimeError.*transpos"),
            ("g @ w.T, x.T @ g", "g @ w.T, None", "right", "no gradient for w is returned"),
            ("g @ w.T, x.T @ g", "torch.ones_like(g) @ w.T, x.T @ g", "wrong", "g is ignored"),
        ),
    ),
    Operation(
        "log-sum-exp",
        "F",
        function(
            "m = x.max(1, keepdim=True)[0]\nout = m[:, 0] + torch.log(torch.exp(x - m).sum(1))\n"
            "ctx.save_for_backward(x, out)\nreturn out",
            "x, out = ctx.saved_tensors\nreturn grad_output[:, None] * torch.exp(x - out[:, None])",
            "x",
        ),
        (
            ("torch.exp(x - out[:, None])", "torch.exp(x)", "wrong", ""),
            ("grad_output[:, None] * ", "", "wrong", "grad_output is ignored"),
        ),
    ),
    Operation(
        "cross-entropy with labels",
        "F",
        function(
            """
            p = torch.softmax(logits, 1)
            ctx.save_for_backward(p, labels)
            return -torch.log(p[torch.arange(len(p)), labels]).mean()
            """,
            """
            p, labels = ctx.saved_tensors
            grad = p.clone()
            grad[torch.arange(len(p)), labels] -= 1
            return grad_output * grad / len(p), None
            """,
            "logits, labels",
        ),
        (
            (" / len(p)", "", "wrong", "multiplied by 4|number of rows"),
            ("grad_output * grad", "grad", "wrong", "ignored"),
            ("-= 1", "+= 1", "wrong", ""),
            ("grad = p.clone()", "grad = p", "right", ""),
        ),
    ),
    Operation(
        "huber",
        "F",
        function(
            """
            e = pred - target
            ctx.save_for_backward(e)
            ctx.delta = delta
            return torch.where(e.abs() <= delta, 0.5 * e**2, delta * (e.abs() - 0.5 * delta)).sum()
            """,
            """
            (e,) = ctx.saved_tensors
            grad = torch.where(e.abs() <= ctx.delta, e, ctx.delta * e.sign()) * grad_output
            return grad, -grad, None
            """,
            "pred, target, delta=1.0",
        ),
        (
            ("ctx.delta * e.sign()", "ctx.delta", "wrong", "pred"),
            ("grad, -grad, None", "grad, grad, None", "wrong", "target.*sign"),
            ("grad, -grad, None", "-grad, grad, None", "wrong", "sign|swapped"),
            ("grad, -grad, None", "grad, -grad", "wrong", "2 gradients"),
        ),
    ),
    Operation(
        "gelu",
        "F",
        function(
            "ctx.save_for_backward(x)\nreturn 0.5 * x * (1 + torch.erf(x / 2**0.5))",
            """
            (x,) = ctx.saved_tensors
            cdf = 0.5 * (1 + torch.erf(x / 2**0.5))
            pdf = torch.exp(-0.5 * x * x) / (2 * torch.pi) ** 0.5
            return grad_output * (cdf + x * pdf)
            """,
            "x",
        ),
        (("cdf + x * pdf", "cdf", "wrong", ""), ("x * pdf)", "pdf)", "wrong", "")),
    ),
    Operation(
        "swish with a learnable parameter",
        "F",
        function(
            "ctx.save_for_backward(x, beta)\nreturn x * torch.sigmoid(beta * x)",
            """
            x, beta = ctx.saved_tensors
            s = torch.sigmoid(beta * x)
            return g * (s + beta * x * s * (1 - s)), (g * x * x * s * (1 - s)).sum()
            """,
            "x, beta",
            "g",
        ),
        (
            (").sum()", ")", "right", "sums"),
            ("g * x * x *", "g * x *", "wrong", "beta"),
            ("beta * x * s * (1 - s))", "x * s * (1 - s))", "wrong", "x"),
        ),
    ),
    Operation(
        "embedding",
        "F",
        function(
            "ctx.save_for_backward(indices)\nctx.rows = len(weight)\nreturn weight[indices]",
            """
            (indices,) = ctx.saved_tensors
            grad = torch.zeros(ctx.rows, grad_output.shape[-1], dtype=grad_output.dtype)
            grad.index_add_(0, indices, grad_output)
            return None, grad
            """,
            "indices, weight",
        ),
        (("grad.index_add_(0, indices, grad_output)", "grad[indices] = grad_output", "wrong", "weight"),),
    ),
    Operation(
        "outer",
        "F",
        function(
            "ctx.save_for_backward(a, b)\nreturn torch.outer(a, b)",
            "a, b = ctx.saved_tensors\nreturn g @ b, a @ g",
            "a, b",
            "g",
        ),
        (("g @ b, a @ g", "b @ g, g @ a", "wrong", ""), ("g @ b, a @ g", "g @ b, -(a @ g)", "wrong", "sign")),
    ),
    Operation(
        "cumsum",
        "F",
        function("return x.cumsum(0)", "return grad_output.flip(0).cumsum(0).flip(0)", "x"),
        ((".flip(0).cumsum(0).flip(0)", ".cumsum(0)", "wrong", ""), (".flip(0).cumsum(0).flip(0)", "", "wrong", "")),
    ),
    Operation(
        "clip",
        "F",
        function(
            "ctx.save_for_backward(x)\nreturn x.clamp(-6, 6)",
            "(x,) = ctx.saved_tensors\nreturn grad_output * (x > -6) * (x < 6)",
            "x",
        ),
        (
            (" * (x < 6)", "", "wrong", "x > 6|above 6|x = [67]"),
            (" * (x < 6)", " * (x < 5)", "wrong", "between"),
            ("grad_output * (x > -6) * (x < 6)", "grad_output", "wrong", r"\|x\|"),
        ),
    ),
    Operation(
        "norm",
        "F",
        function(
            "out = x.norm()\nctx.save_for_backward(x, out)\nreturn out",
            "x, out = ctx.saved_tensors\nreturn grad_output * x / out",
            "x",
        ),
        ((" / out", "", "wrong", ""), ("grad_output * x", "x", "wrong", "ignored")),
    ),
    Operation(
        "exp with setup_context",
        "F",
        """
        import torch
        class F(torch.autograd.Function):
            @staticmethod
            def forward(x):
                return x.exp()

            @staticmethod
            def setup_context(ctx, inputs, output):
                ctx.save_for_backward(output)

            @staticmethod
            def backward(ctx, g):
                out, = ctx.saved_tensors
                return g * out
        """,
        (("(output)", "(*inputs)", "wrong", ""), ("g * out", "g / out", "wrong", "1/f′")),
    ),
    Operation(
        "mul",
        "F",
        function(
            "ctx.save_for_backward(x, y)\nreturn x * y", "x, y = ctx.saved_tensors\nreturn g * y, g * x", "x, y", "g"
        ),
        (("g * y, g * x", "g * x, g * y", "wrong", "swapped"), ("g * y, g * x", "g, g", "wrong", "")),
    ),
    Operation(
        "divide",
        "F",
        function(
            "ctx.save_for_backward(a, b)\nreturn a / b",
            "a, b = ctx.saved_tensors\nreturn g / b, -g * a / b**2",
            "a, b",
            "g",
        ),
        (("-g * a", "g * a", "wrong", "b.*sign"),),
    ),
    Operation(
        "max pooling",
        "F",
        function(
            """
            n, c, l = x.shape
            out, at = x.reshape(n, c, l // 2, 2).max(-1)
            ctx.save_for_backward(at)
            return out
            """,
            """
            (at,) = ctx.saved_tensors
            hot = nnf.one_hot(at, 2)
            return (hot * grad_output[..., None]).flatten(2)
            """,
            "x",
        ),
        (
            ("hot * grad_output[..., None]", "torch.ones_like(hot) * grad_output[..., None]", "wrong", ""),
            (".flatten(2)", "", "wrong", "shape"),
        ),
    ),
    Operation(
        "conv1d",
        "F",
        function(
            "ctx.save_for_backward(x, weight)\nreturn nnf.conv1d(x, weight, bias)",
            """
            x, weight = ctx.saved_tensors
            k = weight.shape[-1]
            grad_x = nnf.conv1d(nnf.pad(grad_output, (k - 1, k - 1)), weight.flip(-1).transpose(0, 1))
            grad_w = torch.einsum("nol,nclk->ock", grad_output, x.unfold(2, k, 1)[:, :, : grad_output.shape[-1]])
            return grad_x, grad_w, grad_output.sum((0, 2))
            """,
            "x, weight, bias",
        ),
        (
            (".flip(-1)", "", "wrong", "x"),
            ("sum((0, 2))", "sum(0)", "wrong", "bias.*shape"),
            ("sum((0, 2))", "mean((0, 2))", "wrong", "bias"),
        ),
    ),
    Operation(
        "dropout",
        "F",
        function(
            "mask = (torch.rand_like(x) > p) / (1 - p)\nctx.save_for_backward(mask)\nreturn x * mask",
            "(mask,) = ctx.saved_tensors\nreturn grad_output * mask, None",
            "x, p",
        ),
        (
            ("grad_output * mask", "grad_output * (mask > 0)", "wrong", "factor"),
            ("grad_output * mask", "grad_output * (torch.rand_like(mask) > 0.5) * 2", "wrong", "random"),
            ("grad_output * mask", "grad_output", "wrong", ""),
        ),
    ),
    Operation(
        "log",
        "F",
        function("ctx.save_for_backward(x)\nreturn x.log()", "(x,) = ctx.saved_tensors\nreturn g / x", "x", "g"),
        (("g / x", "g * x", "wrong", "1/f′"), ("g / x", "g / x / x", "wrong", "twice")),
    ),
    Operation(
        "round",
        "F",
        function("return x.round()", "return g", "x", "g"),
        (("return g", "return torch.zeros_like(g)", "right", "zero"),),
        status="unjudged",
        mention="straight-through",
    ),
    Operation(
        "linear with bias",
        "F",
        function(
            LINEAR,
            """
                 x, w, b = ctx.saved_tensors
                 return grad_output @ w, grad_output.T @ x, grad_output.sum(0) if b is not None else None
                 """,
            "input, weight, bias=None",
        ),
        (
            ("grad_output.sum(0)", "grad_output.sum(1)", "wrong", "bias.*axis"),
            ("grad_output.sum(0)", "grad_output.sum()", "wrong", "bias.*scalar|bias.*shape"),
            ("grad_output.sum(0)", "grad_output.mean(0)", "wrong", "bias.*divided by 4"),
            ("grad_output.sum(0)", "grad_output", "right", "PyTorch sums"),
            ("grad_output.sum(0) if b is not None else None", "grad_output.sum(0)", "wrong", "None"),
            ("grad_output.T @ x", "grad_output.T @ x + w", "wrong", "weight"),
        ),
    ),
    Operation(
        "bce with logits",
        "F",
        function(
            "ctx.save_for_backward(logits, target)\nreturn nnf.binary_cross_entropy_with_logits(logits, target)",
            "z, t = ctx.saved_tensors\nreturn g * (torch.sigmoid(z) - t) / z.numel(), None",
            "logits, target",
            "g",
        ),
        (
            (
                "(torch.sigmoid(z) - t)",
                "(torch.sigmoid(z) - t) * torch.sigmoid(z) * (1 - torch.sigmoid(z))",
                "wrong",
                "",
            ),
            ("(torch.sigmoid(z) - t)", "(z - t)", "wrong", ""),
        ),
    ),
    Operation(
        "bce",
        "F",
        function(
            "ctx.save_for_backward(p, y)\nreturn -(y * p.log() + (1 - y) * (1 - p).log()).mean()",
            "p, y = ctx.saved_tensors\nreturn g * (p - y) / (p * (1 - p)) / p.numel(), None",
            "p, y",
            "g",
        ),
        ((" / (p * (1 - p))", "", "wrong", ""),),
    ),
    Operation(
        "prelu",
        "F",
        function(
            "ctx.save_for_backward(x, weight)\nreturn torch.where(x > 0, x, weight * x)",
            "x, weight = ctx.saved_tensors\nreturn g * torch.where(x > 0, 1.0, weight), (g * x * (x < 0)).sum(0)",
            "x, weight",
            "g",
        ),
        (("(x < 0)", "(x > 0)", "wrong", "weight"), ("1.0, weight)", "1.0, x)", "wrong", "negative|x <")),
    ),
    Operation(
        "two outputs",
        "F",
        function(
            "ctx.save_for_backward(x)\nreturn x.sin(), x.cos()",
            "(x,) = ctx.saved_tensors\nreturn g * x.cos() - h * x.sin()",
            "x",
            "g, h",
        ),
        (("- h", "+ h", "wrong", ""),),
    ),
    Operation(
        "max and its index",
        "F",
        function(
            "out, at = x.max(1)\nctx.save_for_backward(at)\nctx.shape = x.shape\n"
            "ctx.mark_non_differentiable(at)\nreturn out, at",
            "(at,) = ctx.saved_tensors\n"
            "return torch.zeros(ctx.shape, dtype=g.dtype).scatter(1, at[:, None], g[:, None])",
            "x",
            "g, _",
        ),
        (("torch.zeros", "torch.ones", "wrong", ""),),
    ),
    Operation(
        "mean",
        "F",
        function(
            "ctx.n, ctx.shape = x.numel(), x.shape\nreturn x.mean()",
            "return grad_output.expand(ctx.shape) / ctx.n",
            "x",
        ),
        (
            (" / ctx.n", "", "wrong", "number of elements"),
            ("grad_output.expand(ctx.shape)", "grad_output", "wrong", "shape"),
            ("grad_output.expand", "torch.ones(()).expand", "wrong", "grad_output is ignored"),
        ),
    ),
    Operation(
        "variance",
        "F",
        function(
            "ctx.save_for_backward(x)\nreturn x.var(0)",
            "(x,) = ctx.saved_tensors\nreturn g * 2 * (x - x.mean(0)) / (len(x) - 1)",
            "x",
            "g",
        ),
        (("(len(x) - 1)", "len(x)", "wrong", "factor|times"),),
    ),
    Operation(
        "float32 alone",
        "F",
        function(
            "ctx.save_for_backward(x)\nassert x.dtype == torch.float32\nreturn x.tanh()",
            "(x,) = ctx.saved_tensors\nreturn g * (1 - x.tanh() ** 2)",
            "x",
            "g",
        ),
        ((" ** 2", "", "wrong", ""),),
    ),
    Operation(
        "in-place relu",
        "F",
        function(
            "ctx.mark_dirty(x)\nx.clamp_(min=0)\nctx.save_for_backward(x)\nreturn x",
            "(y,) = ctx.saved_tensors\nreturn g * (y > 0)",
            "x",
            "g",
        ),
        (("ctx.mark_dirty(x)\n", "pass\n", "wrong", "in place.*mark_dirty"),),
    ),
    Operation(
        "scaled by a row",
        "F",
        function(
            "ctx.save_for_backward(x, scale)\nreturn x * scale",
            "x, scale = ctx.saved_tensors\nreturn g * scale, (g * x).sum(0)",
            "x, scale",
            "g",
        ),
        (("(g * x).sum(0)", "g.sum(0)", "wrong", "scale"),),
    ),
    Operation(
        "bmm",
        "F",
        function(
            "ctx.save_for_backward(a, b)\nreturn torch.bmm(a, b)",
            "a, b = ctx.saved_tensors\nreturn g.bmm(b.mT), a.mT.bmm(g)",
            "a, b",
            "g",
        ),
        (("a.mT.bmm(g)", "g.mT.bmm(a)", "wrong", "b.*transposed"),),
    ),
    Operation(
        "attention",
        "F",
        function(
            """
            p = torch.softmax(q @ k.T / q.shape[-1] ** 0.5, -1)
            ctx.save_for_backward(q, k, v, p)
            return p @ v
            """,
            """
            q, k, v, p = ctx.saved_tensors
            dp = g @ v.T
            ds = p * (dp - (dp * p).sum(-1, keepdim=True)) / q.shape[-1] ** 0.5
            return ds @ k, ds.T @ q, p.T @ g
            """,
            "q, k, v",
            "g",
        ),
        (
            ("ds @ k, ds.T @ q", "ds @ k, ds @ q", "wrong", "k"),
            ("keepdim=True)) / q.shape[-1] ** 0.5", "keepdim=True))", "wrong", ""),
        ),
    ),
)

ZERO_BOOK = """
import numpy as np

def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)

def cross_entropy_error(y, t):
    if t.size == y.size:
        t = t.argmax(axis=1)
    return -np.sum(np.log(y[np.arange(len(y)), t] + 1e-7)) / len(y)

class Relu:
    def __init__(self):
        self.mask = None
    def forward(self, x):
        self.mask = (x <= 0)
        out = x.copy()
        out[self.mask] = 0
        return out
    def backward(self, dout):
        dout[self.mask] = 0
        dx = dout
        return dx

class Sigmoid:
    def __init__(self):
        self.out = None
    def forward(self, x):
        self.out = 1 / (1 + np.exp(-x))
        return self.out
    def backward(self, dout):
        return dout * (1.0 - self.out) * self.out

class Affine:
    def __init__(self, W, b):
        self.W, self.b, self.x, self.dW, self.db = W, b, None, None, None
    def forward(self, x):
        self.x = x
        return np.dot(x, self.W) + self.b
    def backward(self, dout):
        dx = np.dot(dout, self.W.T)
        self.dW = np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0)
        return dx

class SoftmaxWithLoss:
    def __init__(self):
        self.loss, self.y, self.t = None, None, None
    def forward(self, x, t):
        self.t, self.y = t, softmax(x)
        self.loss = cross_entropy_error(self.y, self.t)
        return self.loss
    def backward(self, dout=1):
        batch_size = self.t.shape[0]
        if self.t.size == self.y.size:
            dx = (self.y - self.t) / batch_size
        else:
            dx = self.y.copy()
            dx[np.arange(batch_size), self.t] -= 1
            dx = dx / batch_size
        return dx

class MulLayer:
    def forward(self, x, y):
        self.x, self.y = x, y
        return x * y
    def backward(self, dout):
        dx = dout * self.y
        dy = dout * self.x
        return dx, dy

class Dropout:
    def __init__(self, dropout_ratio=0.5):
        self.dropout_ratio, self.mask = dropout_ratio, None
    def forward(self, x, train_flg=True):
        if train_flg:
            self.mask = np.random.rand(*x.shape) > self.dropout_ratio
            return x * self.mask
        return x * (1.0 - self.dropout_ratio)
    def backward(self, dout):
        return dout * self.mask
"""
NNFS = """
import numpy as np

class Layer_Dense:
    def __init__(self, n_inputs, n_neurons):
        self.weights = 0.01 * np.random.randn(n_inputs, n_neurons)
        self.biases = np.zeros((1, n_neurons))
    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.dot(inputs, self.weights) + self.biases
    def backward(self, dvalues):
        self.dweights = np.dot(self.inputs.T, dvalues)
        self.dbiases = np.sum(dvalues, axis=0, keepdims=True)
        self.dinputs = np.dot(dvalues, self.weights.T)

class Activation_ReLU:
    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.maximum(0, inputs)
    def backward(self, dvalues):
        self.dinputs = dvalues.copy()
        self.dinputs[self.inputs <= 0] = 0

class Activation_Softmax:
    def forward(self, inputs):
        exp_values = np.exp(inputs - np.max(inputs, axis=1, keepdims=True))
        self.output = exp_values / np.sum(exp_values, axis=1, keepdims=True)
    def backward(self, dvalues):
        self.dinputs = np.empty_like(dvalues)
        for index, (single_output, single_dvalues) in enumerate(zip(self.output, dvalues)):
            single_output = single_output.reshape(-1, 1)
            jacobian = np.diagflat(single_output) - np.dot(single_output, single_output.T)
            self.dinputs[index] = np.dot(jacobian, single_dvalues)
"""
CLASSES = (
    Operation(
        "book: Relu",
        "Relu",
        ZERO_BOOK,
        (
            ("x <= 0", "x >= 0", "right", ""),
            ("        dout[self.mask] = 0\n", "", "wrong", "negative x"),
            ("out = x.copy()", "out = x", "wrong", "in place"),
        ),
        mention="in place",
    ),
    Operation(
        "book: Sigmoid",
        "Sigmoid",
        ZERO_BOOK,
        (
            ("dout * (1.0 - self.out) * self.out", "(1.0 - self.out) * self.out", "wrong", "dout is ignored"),
            ("dout * (1.0 - self.out) * self.out", "dout * self.out", "wrong", "in the place of"),
        ),
    ),
    Operation(
        "book: Affine",
        "Affine",
        ZERO_BOOK,
        (
            ("np.sum(dout, axis=0)", "np.sum(dout, axis=1)", "wrong", "b"),
            ("np.dot(self.x.T, dout)", "np.dot(dout.T, self.x)", "wrong", "W.*transposed"),
            ("np.sum(dout, axis=0)", "dout", "wrong", "b.*not summed"),
            ("np.sum(dout, axis=0)", "dout.mean(axis=0)", "wrong", "b.*divided by 4"),
            ("np.dot(dout, self.W.T)", "np.dot(dout, self.W)", "wrong", "ValueError"),
        ),
    ),
    Operation(
        "book: SoftmaxWithLoss",
        "SoftmaxWithLoss",
        ZERO_BOOK,
        (
            ("(self.y - self.t) / batch_size", "self.y - self.t", "wrong", "number of rows"),
            ("            dx = dx / batch_size\n", "", "wrong", "number of rows"),
        ),
        mention="dout.*ignored",
    ),
    Operation("book: MulLayer", "MulLayer", ZERO_BOOK, (("return dx, dy", "return dy, dx", "wrong", "swapped"),)),
    Operation("book: Dropout", "Dropout", ZERO_BOOK, (("dout * self.mask", "dout", "wrong", ""),)),
    Operation(
        "nnfs: dense",
        "Layer_Dense",
        NNFS,
        (
            ("np.dot(self.inputs.T, dvalues)", "np.dot(dvalues.T, self.inputs)", "wrong", "weights.*transposed"),
            ("np.sum(dvalues, axis=0, keepdims=True)", "np.sum(dvalues, axis=0)", "wrong", "biases.*shape"),
        ),
    ),
    Operation("nnfs: relu", "Activation_ReLU", NNFS, (("self.inputs <= 0", "self.inputs <= 1", "wrong", "between"),)),
    Operation(
        "nnfs: softmax",
        "Activation_Softmax",
        NNFS,
        (
            (
                "np.diagflat(single_output) - np.dot(single_output, single_output.T)",
                "np.diagflat(single_output * (1 - single_output))",
                "wrong",
                "diagonal",
            ),
        ),
    ),
    Operation(
        "dense that steps in backward",
        "Dense",
        """
        import numpy as np
        class Dense:
            def __init__(self, input_size, output_size):
                self.weights = np.random.randn(output_size, input_size)
                self.bias = np.random.randn(output_size, 1)

            def forward(self, input):
                self.input = input
                return np.dot(self.weights, self.input) + self.bias

            def backward(self, output_gradient, learning_rate):
                weights_gradient = np.dot(output_gradient, self.input.T)
                input_gradient = np.dot(self.weights.T, output_gradient)
                self.weights -= learning_rate * weights_gradient
                self.bias -= learning_rate * output_gradient
                return input_gradient
        """,
        (
            ("self.weights.T, output_gradient", "self.weights.T, 2 * output_gradient", "wrong", "factor 2|2 times"),
            ("-= learning_rate * output_gradient", "+= learning_rate * output_gradient", "wrong", "bias.*sign"),
        ),
    ),
    Operation(
        "mse without an upstream gradient",
        "MSE",
        """
        import numpy as np
        class MSE:
            def forward(self, pred, target):
                self.diff = pred - target
                return np.mean(self.diff ** 2)

            def backward(self):
                return 2 * self.diff / self.diff.size
        """,
        (("2 * self.diff", "self.diff", "wrong", "factor|half|times"), (" / self.diff.size", "", "wrong", "elements")),
    ),
    Operation(
        "a class whose derivative takes the output",
        "Tanh",
        """
        import numpy as np
        class Tanh:
            def __call__(self, x):
                return np.tanh(x)

            def derivative(self, a):
                return 1 - a ** 2
        """,
        (("a ** 2", "a", "wrong", ""), ("1 - a ** 2", "1 - np.tanh(a) ** 2", "right", "")),
        mention="output",
    ),
    Operation(
        "linear class in torch, float32",
        "Linear",
        """
        import torch
        class Linear:
            def __init__(self, n_in, n_out):
                self.w, self.b = torch.randn(n_in, n_out), torch.zeros(n_out)

            def forward(self, x):
                self.x = x
                return x @ self.w + self.b

            def backward(self, grad):
                self.grad_w, self.grad_b = self.x.T @ grad, grad.sum(0)
                return grad @ self.w.T
        """,
        (("grad.sum(0)", "grad.sum(0) / 2", "wrong", "b.*half|b.*factor|b.*times"),),
    ),
    Operation(
        "batch norm",
        "BatchNorm",
        """
        import numpy as np
        class BatchNorm:
            def __init__(self, gamma, beta, eps=1e-5):
                self.gamma, self.beta, self.eps = gamma, beta, eps

            def forward(self, x):
                self.std = np.sqrt(x.var(axis=0) + self.eps)
                self.xhat = (x - x.mean(axis=0)) / self.std
                return self.gamma * self.xhat + self.beta

            def backward(self, dout):
                self.dgamma = (dout * self.xhat).sum(axis=0)
                self.dbeta = dout.sum(axis=0)
                n = len(dout)
                return self.gamma / (n * self.std) * (n * dout - self.dbeta - self.xhat * self.dgamma)
        """,
        ((" - self.xhat * self.dgamma", "", "wrong", "x"), ("self.gamma / (n *", "1 / (n *", "wrong", "x")),
    ),
)

CS231N = """
import numpy as np

def affine_forward(x, w, b):
    out = x.reshape(len(x), -1).dot(w) + b
    cache = (x, w, b)
    return out, cache

def affine_backward(dout, cache):
    x, w, b = cache
    dx = dout.dot(w.T).reshape(x.shape)
    dw = x.reshape(len(x), -1).T.dot(dout)
    db = dout.sum(axis=0)
    return dx, dw, db

def relu_forward(x):
    return np.maximum(0, x), x

def relu_backward(dout, cache):
    dx, x = None, cache
    dx = dout * (x > 0)
    return dx

def batchnorm_forward(x, gamma, beta, bn_param):
    mode, eps = bn_param["mode"], bn_param.get("eps", 1e-5)
    N, D = x.shape
    mu, var = x.mean(0), x.var(0)
    bn_param["running_mean"] = 0.1 * mu + 0.9 * bn_param.get("running_mean", np.zeros(D))
    xhat = (x - mu) / np.sqrt(var + eps)
    return gamma * xhat + beta, (xhat, gamma, var + eps)

def batchnorm_backward(dout, cache):
    xhat, gamma, v = cache
    N = len(dout)
    dbeta = dout.sum(0)
    dgamma = (dout * xhat).sum(0)
    dx = gamma / np.sqrt(v) / N * (N * dout - dbeta - xhat * dgamma)
    return dx, dgamma, dbeta

def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    p = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((N, F, 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            window = p[:, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
            out[:, :, i, j] = np.tensordot(window, w, 3 * [1] and ([1, 2, 3], [1, 2, 3])) + b
    return out, (x, w, b, conv_param)

def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    HH, WW = w.shape[2:]
    p = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dp, dw = np.zeros_like(p), np.zeros_like(w)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            rows, columns = slice(i * stride, i * stride + HH), slice(j * stride, j * stride + WW)
            dw += np.tensordot(dout[:, :, i, j], p[:, :, rows, columns], ([0], [0]))
            dp[:, :, rows, columns] += np.tensordot(dout[:, :, i, j], w, ([1], [0]))
    dx = dp[:, :, pad : dp.shape[2] - pad, pad : dp.shape[3] - pad]
    return dx, dw, dout.sum(axis=(0, 2, 3))

def dropout_forward(x, dropout_param):
    p, mask = dropout_param["p"], None
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = (np.random.rand(*x.shape) < p) / p
    return x * mask, (dropout_param, mask)

def dropout_backward(dout, cache):
    return dout * cache[1]
"""
PAIR = """
import numpy as np

def tanh(z):
    return np.tanh(z)

def tanh_prime(z):
    return 1 - np.tanh(z) ** 2

def sigmoid(x):
    return 1 / (1 + np.exp(-x))

def sigmoid_prime(z):
    return sigmoid(z) * (1 - sigmoid(z))

def sigmoid_derivative(x):
    return x * (1 - x)

def mse(y_true, y_pred):
    return np.mean(np.power(y_true - y_pred, 2))

def mse_prime(y_true, y_pred):
    return 2 * (y_pred - y_true) / np.size(y_true)

def leaky_relu(x, alpha):
    return np.where(x > 0, x, alpha * x)

def leaky_relu_grad(x, alpha):
    return np.where(x > 0, 1, alpha)

def softmax(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()

def softmax_grad(s):
    jacobian = np.diag(s)
    for i in range(len(s)):
        for j in range(len(s)):
            jacobian[i][j] = s[i] * (1 - s[i]) if i == j else -s[i] * s[j]
    return jacobian

def relu(Z):
    A = np.maximum(0, Z)
    return A, Z

def relu_backward(dA, cache):
    dZ = np.array(dA, copy=True)
    dZ[cache <= 0] = 0
    return dZ

def linear_forward(A, W, b):
    return np.dot(W, A) + b, (A, W, b)

def linear_backward(dZ, cache):
    A_prev, W, b = cache
    m = A_prev.shape[1]
    dW = np.dot(dZ, A_prev.T) / m
    db = np.sum(dZ, axis=1, keepdims=True) / m
    dA_prev = np.dot(W.T, dZ)
    return dA_prev, dW, db
"""
PURE = """
import math
def softplus(x):
    return math.log(1 + math.exp(x))

def softplus_prime(x):
    return 1 / (1 + math.exp(-x))

def step(x):
    return 1 if x > 0 else 0

def step_prime(x):
    return 0
"""
PAIRS = (
    Operation(
        "cs231n: affine",
        "affine_forward affine_backward",
        CS231N,
        (
            ("db = dout.sum(axis=0)", "db = dout.sum(axis=1)", "wrong", "b.*axis"),
            (".T.dot(dout)", ".T.dot(dout) / len(x)", "wrong", "w.*divided by 4"),
            ("return dx, dw, db", "return dw, dx, db", "wrong", "shape|swapped"),
            ("return dx, dw, db", "return dx, dw", "wrong", "2 gradients"),
        ),
    ),
    Operation(
        "cs231n: relu",
        "relu_forward relu_backward",
        CS231N,
        (
            ("dx = dout * (x > 0)", "dx = x > 0", "wrong", "dout is ignored"),
            ("dx = dout * (x > 0)", "dx = np.maximum(0, dout)", "wrong", ""),
        ),
    ),
    Operation(
        "cs231n: batch norm",
        "batchnorm_forward batchnorm_backward",
        CS231N,
        (("dgamma = (dout * xhat).sum(0)", "dgamma = (dout * xhat).mean(0)", "wrong", "gamma.*divided by"),),
    ),
    Operation(
        "cs231n: conv",
        "conv_forward_naive conv_backward_naive",
        CS231N,
        (
            ("axis=(0, 2, 3)", "axis=(0, 1, 2)", "wrong", "b.*"),
            ("dp[:, :, rows, columns] +=", "dp[:, :, rows, columns] =", "wrong", "x"),
        ),
    ),
    Operation(
        "cs231n: dropout",
        "dropout_forward dropout_backward",
        CS231N,
        (("dout * cache[1]", "dout * cache[1] * cache[0]['p']", "wrong", "half|factor"),),
    ),
    Operation(
        "tanh",
        "tanh tanh_prime",
        PAIR,
        (
            ("1 - np.tanh(z) ** 2", "1 - z ** 2", "right", "output"),
            ("1 - np.tanh(z) ** 2", "1 - np.tanh(z)", "wrong", ""),
            ("1 - np.tanh(z) ** 2", "np.tanh(z)", "wrong", "in the place of"),
            ("1 - np.tanh(z) ** 2", "np.cosh(z) ** 2", "wrong", "1/f′"),
            ("1 - np.tanh(z) ** 2", "(1 - np.tanh(z) ** 2) ** 2", "wrong", "twice"),
            ("1 - np.tanh(z) ** 2", "1 - np.tanh(np.tanh(z)) ** 2", "wrong", "output"),
            ("1 - np.tanh(z) ** 2", "np.ones_like(z)", "wrong", "constant 1"),
            ("1 - np.tanh(z) ** 2", "1.0", "wrong", ""),
        ),
    ),
    Operation(
        "sigmoid",
        "sigmoid sigmoid_prime",
        PAIR,
        (("sigmoid(z) * (1 - sigmoid(z))", "sigmoid(z) * (1 - z)", "wrong", ""),),
    ),
    Operation(
        "sigmoid of the output",
        "sigmoid sigmoid_derivative",
        PAIR,
        (("x * (1 - x)", "x * (1 + x)", "wrong", ""),),
        mention="output",
    ),
    Operation(
        "mse of keras's names",
        "mse mse_prime",
        PAIR,
        (
            ("2 * (y_pred - y_true)", "2 * (y_true - y_pred)", "wrong", "sign"),
            ("2 * (y_pred - y_true)", "(y_pred - y_true)", "wrong", "factor|half|times"),
        ),
    ),
    Operation(
        "leaky relu", "leaky_relu leaky_relu_grad", PAIR, (("x > 0, 1, alpha)", "x > 0, 1, 0)", "wrong", "negative x"),)
    ),
    Operation("softmax and its Jacobian", "softmax softmax_grad", PAIR, (("-s[i] * s[j]", "0", "wrong", ""),)),
    Operation("coursera: relu", "relu relu_backward", PAIR, (("dZ[cache <= 0]", "dZ[dA <= 0]", "wrong", ""),)),
    Operation(
        "coursera: linear",
        "linear_forward linear_backward",
        PAIR,
        (("np.dot(dZ, A_prev.T) / m", "np.dot(dZ, A_prev.T)", "wrong", "b.*divided by"), (" / m", "", "right", "")),
        status="unjudged",
        mention="divided by",
    ),
    Operation(
        "softplus with math",
        "softplus softplus_prime",
        PURE,
        (("math.exp(-x)", "math.exp(x)", "wrong", ""), ("1 / (1 +", "2 / (1 +", "wrong", "2")),
    ),
    Operation(
        "a step with math", "step step_prime", PURE, (("return 0\n", "return 1\n", "unjudged", "straight-through"),)
    ),
)

CALLS = (
    Operation("tanh", "call: (torch.tanh(x), 1 - torch.tanh(x) ** 2)", "import torch\n"),
    Operation("sigmoid with g", "call: s=1/(1+np.exp(-x)); (s, g * s * (1 - s))", "import numpy as np\n"),
    Operation(
        "softmax with g",
        "call: (softmax(x), back(x, g))",
        """
              import numpy as np
              def softmax(x):
                  e = np.exp(x - x.max(-1, keepdims=True))
                  return e / e.sum(-1, keepdims=True)

              def back(x, g):
                  s = softmax(x)
                  return s * (g - (g * s).sum(-1, keepdims=True))
              """,
        (
            ("s * (g - (g * s).sum(-1, keepdims=True))", "s * (1 - s)", "wrong", "ignored"),
            ("s * (g - (g * s).sum(-1, keepdims=True))", "g * s * (1 - s)", "wrong", "diagonal"),
        ),
    ),
    Operation("mean with g", "call: (x.mean(), g * np.ones_like(x) / x.size)", "import numpy as np\n"),
    Operation(
        "mean without 1/n",
        "call: (x.mean(), g * np.ones_like(x))",
        "import numpy as np\n",
        status="wrong",
        mention="elements",
    ),
    Operation("row sums with g", "call: (x.sum(1), np.repeat(g[:, None], x.shape[1], 1))", "import numpy as np\n"),
    Operation("math", "call: (math.sin(x), math.cos(x))", "import math\n"),
    Operation("math, sign", "call: (math.cos(x), math.sin(x))", "import math\n", status="wrong", mention="sign"),
)

SEEN = (*EXAMPLES, *FUNCTIONS, *CLASSES, *PAIRS, *CALLS)
