"""One two-layer network as people of different schools write it, and the lines that go wrong in each of them.

A convention is the text of a program, with `$` before what depends on the network. A mistake is a line of that text
exchanged for another one, as in `derivations`; nothing here comes from the project's own formulas or catalogue.
"""

from dataclasses import dataclass, field
from string import Template


@dataclass(frozen=True)
class Net:
    """Two activations and a loss, in the words of a program whose arrays are called $z1, $a1, $z2, $a2 and $y.

    Attributes:
        g, f, loss: the names that the command knows.
        slope: g′ as it is written beside h.
        slope_of_z: the same formula, given z by mistake.
        times_f: f′, where δ_O is not the plain difference.
        cost: the loss of a batch, of $m samples.
    """

    g: str
    f: str
    loss: str
    slope: str
    slope_of_z: str
    times_f: str
    cost: str

    @property
    def settings(self) -> tuple[str, ...]:
        return f"model.hidden_activation={self.g}", f"model.output_activation={self.f}", f"model.loss={self.loss}"


HALF_SQUARES = "np.sum(($a2 - $y) ** 2) / (2 * $m)"
LOG_LOSS = "-np.sum($y * np.log($a2) + (1 - $y) * np.log(1 - $a2)) / $m"
NETS = {
    "classes": Net(
        "tanh", "softmax", "cross_entropy",
        "(1 - $a1 ** 2)", "(1 - $z1 ** 2)", "", "-np.sum($y * np.log($a2)) / $m",
    ),
    "regression": Net("relu", "identity", "mse", "($z1 > 0)", "", "", HALF_SQUARES),
    "squares": Net(
        "sigmoid", "sigmoid", "mse",
        "$a1 * (1 - $a1)", "$z1 * (1 - $z1)", " * $a2 * (1 - $a2)", HALF_SQUARES,
    ),
    "yes or no": Net(
        "sigmoid", "sigmoid", "binary_cross_entropy", "$a1 * (1 - $a1)", "$z1 * (1 - $z1)", "", LOG_LOSS,
    ),
}  # fmt: skip

NUMPY = """
import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def sigmoid_prime(z):
    return sigmoid(z) * (1 - sigmoid(z))


def tanh(z):
    return np.tanh(z)


def tanh_prime(z):
    return 1 - np.tanh(z) ** 2


def relu(z):
    return np.maximum(0, z)


def relu_prime(z):
    return (z > 0) * 1.0


def softmax(z):
    e = np.exp(z - z.max(axis=AXIS, keepdims=True))
    return e / e.sum(axis=AXIS, keepdims=True)

"""
ROWS, COLUMNS = NUMPY.replace("AXIS", "1"), NUMPY.replace("AXIS", "0")
TORCH = """
import torch
import torch.nn.functional as F
from torch import relu, sigmoid, tanh


def sigmoid_prime(z):
    return sigmoid(z) * (1 - sigmoid(z))


def tanh_prime(z):
    return 1 - tanh(z) ** 2


def relu_prime(z):
    return (z > 0) * 1.0


def softmax(z):
    return F.softmax(z, dim=1)

"""
LISTS = """
from math import exp, tanh


def sigmoid(z):
    return 1 / (1 + exp(-z))


def sigmoid_prime(z):
    return sigmoid(z) * (1 - sigmoid(z))


def tanh_prime(z):
    return 1 - tanh(z) ** 2


def relu(z):
    return max(0.0, z)


def relu_prime(z):
    return 1.0 if z > 0 else 0.0


def softmax(zs):
    es = [exp(z - max(zs)) for z in zs]
    return [e / sum(es) for e in es]

"""
# In the place of a mistake, the other way in which a convention is written.
HARMLESS = "written in another way"


@dataclass(frozen=True)
class Convention:
    """A school's program.

    Attributes:
        text: with $g, $g_prime, $out (f of z2), $times_f, $slope and $cost for what the network says.
        nets: the networks that it is written for, of `NETS`.
        names: what it calls z1, a1, z2, a2, y, m, and `up`, which is ∂L/∂h.
        edits: by mistake, of `SAID`, what is exchanged for what, perhaps several times.
        target: the name that is asked about.
        call: how, or empty.
        one: whether it takes one sample.
        square: the mistakes that run only where all layers have one size.
        scaled: what is done with a factor that all gradients have in common: "free" where any may be a convention,
            "named" where only a loss that people use makes it one, "wrong" where the loss that it returns tells.
        outputs: f of z2 where it is no plain call; by the loss, a line that makes y one-hot.
        harmless: what may be exchanged without harm.
    """

    text: str
    nets: tuple[str, ...]
    names: dict[str, str]
    edits: dict[str, tuple[tuple[str, str], ...]]
    target: str
    call: str = ""
    one: bool = False
    square: frozenset[str] = frozenset()
    scaled: str = "named"
    outputs: dict[str, str] = field(default_factory=dict)
    harmless: tuple[tuple[str, str], ...] = ()

    def program(self, net: str, mistake: str = "") -> str:
        """The file, with a mistake in it."""
        text = self.text
        changes = () if not mistake else self.harmless if mistake == HARMLESS else self.changes(net)[mistake]
        for old, new in changes:
            assert text.count(old) == 1, (mistake, old, text.count(old))
            text = text.replace(old, new)
        return self._filled(text, NETS[net])

    def is_custom(self, net: str, mistake: str) -> bool:
        """Whether the mistake changes nothing but a scale that a loss may have."""
        unusual = mistake == "mean twice" or (mistake == "factor 1/2" and NETS[net].loss == "mse")
        return mistake in SCALES and (self.scaled == "free" or (self.scaled == "named" and not unusual))

    def changes(self, net: str) -> dict[str, tuple[tuple[str, str], ...]]:
        """By mistake, what is exchanged: what all conventions share, and its own."""
        shared = {name: pair for name, pair in _shared(NETS[net]).items() if name not in self.edits}
        found = {name: (pair,) for name, pair in shared.items() if pair[0] in self.text} | self.edits
        if not NETS[net].times_f:  # there is nothing to leave out
            found.pop("f' left out on the way back", None)
        return found

    def arguments(self, net: str, mistake: str = "") -> list[str]:
        """What the command is told beside the file."""
        sizes = [1 if self.one else 7, 4, *((4, 4) if mistake in self.square else (5, 3))]
        given = [f"call={self.call}"] if self.call else []
        tell = self.one or mistake in self.square
        return [*NETS[net].settings, *given, *([f"sizes={sizes}".replace(" ", "")] if tell else [])]

    def _filled(self, text: str, net: Net) -> str:
        names = {"g": net.g, "g_prime": f"{net.g}_prime", "f_prime": f"{net.f}_prime", **self.names}
        out = "$z2" if net.f == "identity" else f"{net.f}($z2)"
        names |= {"slope": net.slope, "slope_of_z": net.slope_of_z, "times_f": net.times_f, "cost": net.cost}
        names |= {"out": self.outputs.get(net.f, out), "targets": self.outputs.get(net.loss, "")}
        while "$" in text:
            text = Template(text).substitute(names)
        return text


def _shared(net: Net) -> dict[str, tuple[str, str]]:
    """The mistakes in the two factors that the network gives; without those that change nothing."""
    found = {
        "g' left out": (" * $slope", ""),
        "g instead of g'": ("$slope", "$a1"),
        "sign of delta_I": ("$slope", "-1 * $slope"),
        "sign of delta_O": ("($a2 - $y)", "($y - $a2)"),
    }
    if net.g != "relu":
        found |= {
            "g' at h": ("$slope", "$g_prime($a1)"),
            "formula of h given z": ("$slope", "$slope_of_z"),
            "g' twice": ("$slope", "$slope * $slope"),
        }
    else:
        found |= {
            "mask inverted": ("$slope", "($z1 <= 0)"),
            "activation of the gradient": ("$up * $slope", "relu($up)"),
        }
    if net.times_f:
        found |= {
            "f' left out": ("$times_f", ""),
            "f' at yhat": ("$times_f", " * $f_prime($a2)"),
            "f instead of f'": ("$times_f", " * $a2"),
            "f' twice": ("$times_f", "$times_f$times_f"),
            "derivative of the error": ("$times_f", " * ($a2 - $y) * (1 - ($a2 - $y))"),
        }
    elif net.f != "identity":
        found["f' twice"] = ("$times_f", " * $a2 * (1 - $a2)")
    return found


# What must be said of each mistake, whoever made it.
SAID = {
    "f' left out": r"(δ|delta)_O\b.*f′\(z_O\) is missing",
    "f' at yhat": r"(δ|delta)_O\b.*f′ is taken at ŷ",
    "f instead of f'": r"(δ|delta)_O\b.*f is used where f′ is needed",
    "f' twice": r"(δ|delta)_O\b.*(f′\(z_O\) is there twice|multiplied onto a δ_O that is complete)",
    "derivative of the error": r"(δ|delta)_O\b.*f′ is taken of the error",
    "sign of delta_O": r"sign is flipped",
    "g' left out": r"(δ|delta)_I\b.*g′\(z_I\) is missing",
    "g' at h": r"(δ|delta)_I\b.*g′ is taken at h",
    "formula of h given z": r"(δ|delta)_I\b.*formula for g′ in terms of h is given z_I",
    "g instead of g'": r"(δ|delta)_I\b.*g is used where g′ is needed",
    "g' twice": r"(δ|delta)_I\b.*g′\(z_I\) is there twice",
    "mask inverted": r"(δ|delta)_I\b.*mask is inverted",
    "activation of the gradient": r"(δ|delta)_I\b.*relu of the gradient",
    "sign of delta_I": r"(δ|delta)_I\b.*sign is flipped",
    "mask from z_O": r"(δ|delta)_I\b.*another layer's pre-activation",
    "mask from x": r"(δ|delta)_I\b.*the layer below",
    "W_O not transposed": r"(δ|delta)_I\b.*W_O is not transposed",
    "wrong layer's weight": r"(δ|delta)_I\b.*W_Iᵀ? is used instead of W_O",
    "dW_O for W_O": r"(δ|delta)_I\b.*dW_O is used instead of W_O",
    "W_O already updated": r"(δ|delta)_I\b.*already been updated",
    "f' left out on the way back": r"(δ|delta)_I\b.*f′\(z_O\) is missing on the way back",
    "x for h": r"dW_O\b.*x is used instead of h",
    "h for x": r"dW_I\b.*h is used instead of x",
    "z for h": r"dW_O\b.*z_I is used instead of h",
    "outer product transposed, O": r"dW_O\b.*transposed",
    "outer product transposed, I": r"dW_I\b.*transposed",
    "sign of dW_O": r"dW_O\b.*sign is flipped",
    "mean missing in dW_O": r"dW_O\b.*mean over the batch is missing",
    "db_O not summed": r"db_O\b.*not summed over the batch",
    "db_I not summed": r"db_I\b.*not summed over the batch",
    "db_O averaged": r"db_O\b.*averaged",
    "db_I averaged": r"db_I\b.*averaged",
    "db_O a number": r"db_O\b.*summed over everything",
    "db_I a number": r"db_I\b.*summed over everything",
    "db_O over the units": r"db_O\b.*over the units",
    "keepdims forgotten, O": r"db_O\b.*keepdims=True is missing",
    "keepdims forgotten, I": r"db_I\b.*keepdims=True is missing",
    "stale h in dW_O": r"dW_O\b.*previous step",
    "stale z in g'": r"(δ|delta)_I\b.*previous step",
    "weight decay added to dW_O": r"dW_O\b.*times 0\.01",
    "weight decay added to dW_I": r"dW_I\b.*times 0\.01",
    "bias penalised": r"the bias b_O is added",
    "penalty doubled": r"(regularis|regulariz|penalty|weight decay|dW_O\b.*W_O)",
    "penalty forgotten": r"(regularis|regulariz|penalty|weight decay|dW_I\b.*W_I)",
    "mean missing": r"mean over the batch is missing",
    "mean twice": r"mean over the batch is taken once too",
    "factor 2": r"factor 2",
    "factor 1/2": r"factor",
}
# These make all gradients so many times as large, which is right for another loss. None has 1/B², or ¼ of the squares.
SCALES = ("mean missing", "factor 2", "factor 1/2", "mean twice")


def pair(old: str, new: str) -> tuple[tuple[str, str], ...]:
    return ((old, new),)


MATRICES = frozenset({"W_O not transposed", "wrong layer's weight", "mask from z_O", "mask from x"})
SHAPES = frozenset({"x for h", "h for x", "outer product transposed, O", "outer product transposed, I"})

ROWS_AND_DICT = Convention(
    ROWS
    + """
def backward(X, y, W1, b1, W2, b2):
    n = X.shape[0]
    z1 = X @ W1 + b1
    a1 = $g(z1)
    z2 = a1 @ W2 + b2
    a2 = $out

    dz2 = ($a2 - $y)$times_f / n
    dW2 = a1.T @ dz2
    db2 = dz2.sum(axis=0)
    da1 = dz2 @ W2.T
    dz1 = $up * $slope
    dW1 = X.T @ dz1
    db1 = dz1.sum(axis=0)
    LAST.update(a1=a1, z1=z1)
    return {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}


LAST = {}
""",
    ("classes", "regression", "squares"),
    {"z1": "z1", "a1": "a1", "z2": "z2", "a2": "a2", "y": "y", "m": "n", "up": "da1"},
    {
        "x for h": pair("a1.T @ dz2", "X.T @ dz2"),
        "h for x": pair("X.T @ dz1", "a1.T @ dz1"),
        "z for h": pair("a1.T @ dz2", "z1.T @ dz2"),
        "outer product transposed, O": pair("a1.T @ dz2", "dz2.T @ a1"),
        "outer product transposed, I": pair("X.T @ dz1", "dz1.T @ X"),
        "sign of dW_O": pair("dW2 = a1.T", "dW2 = -a1.T"),
        "db_O not summed": pair("dz2.sum(axis=0)", "dz2"),
        "db_I not summed": pair("dz1.sum(axis=0)", "dz1"),
        "db_O averaged": pair("dz2.sum(axis=0)", "dz2.mean(axis=0)"),
        "db_I averaged": pair("dz1.sum(axis=0)", "dz1.mean(axis=0)"),
        "db_O a number": pair("dz2.sum(axis=0)", "np.sum(dz2)"),
        "db_I a number": pair("dz1.sum(axis=0)", "np.sum(dz1)"),
        "db_O over the units": pair("dz2.sum(axis=0)", "dz2.sum(axis=1)"),
        "W_O not transposed": pair("dz2 @ W2.T", "dz2 @ W2"),
        "wrong layer's weight": pair("dz2 @ W2.T", "dz2 @ W1.T"),
        "dW_O for W_O": pair("dz2 @ W2.T", "dz2 @ dW2.T"),
        "W_O already updated": pair("    da1 =", "    W2 = W2 - 0.1 * dW2\n    da1 ="),
        "f' left out on the way back": pair("da1 = dz2 @", "da1 = ($a2 - $y) / n @"),
        "mask from z_O": pair("$slope", "$g_prime($z2)"),
        "mask from x": pair("$slope", "$g_prime(X)"),
        "stale h in dW_O": pair("a1.T @ dz2", 'LAST.get("a1", a1).T @ dz2'),
        "stale z in g'": pair("$slope", "$g_prime(LAST.get('z1', z1))"),
        "weight decay added to dW_O": pair("a1.T @ dz2", "a1.T @ dz2 + 0.01 * W2"),
        "weight decay added to dW_I": pair("X.T @ dz1", "X.T @ dz1 + 0.01 * W1"),
        "mean missing": pair("$times_f / n", "$times_f"),
        "mean twice": pair("$times_f / n", "$times_f / n / n"),
        "factor 2": pair("($a2 - $y)", "2 * ($a2 - $y)"),
        "factor 1/2": pair("($a2 - $y)", "0.5 * ($a2 - $y)"),
    },
    "backward",
    square=MATRICES,
    harmless=(
        ("$times_f / n", "$times_f"),
        ("a1.T @ dz2", "a1.T @ dz2 / n"),
        ("dz2.sum(axis=0)", "dz2.mean(axis=0)"),
        ("X.T @ dz1", "X.T @ dz1 / n"),
        ("dz1.sum(axis=0)", "dz1.mean(axis=0)"),
    ),
)

COLUMNS_AND_CACHE = Convention(
    COLUMNS
    + """
def forward_propagation(X, parameters):
    W1 = parameters["W1"]
    b1 = parameters["b1"]
    W2 = parameters["W2"]
    b2 = parameters["b2"]
    Z1 = np.dot(W1, X) + b1
    A1 = $g(Z1)
    Z2 = np.dot(W2, A1) + b2
    A2 = $out
    return A2, {"Z1": Z1, "A1": A1, "Z2": Z2, "A2": A2}


def backward_propagation(parameters, cache, X, Y):
    m = X.shape[1]
    W1 = parameters["W1"]
    W2 = parameters["W2"]
    Z1, A1 = cache["Z1"], cache["A1"]
    Z2, A2 = cache["Z2"], cache["A2"]

    dZ2 = ($a2 - $y)$times_f
    dW2 = 1 / m * np.dot(dZ2, A1.T)
    db2 = 1 / m * np.sum(dZ2, axis=1, keepdims=True)
    dA1 = np.dot(W2.T, dZ2)
    dZ1 = $up * $slope
    dW1 = 1 / m * np.dot(dZ1, X.T)
    db1 = 1 / m * np.sum(dZ1, axis=1, keepdims=True)

    grads = {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}
    return grads
""",
    ("classes", "regression", "yes or no"),
    {"z1": "Z1", "a1": "A1", "z2": "Z2", "a2": "A2", "y": "Y", "m": "m", "up": "dA1"},
    {
        "x for h": pair("np.dot(dZ2, A1.T)", "np.dot(dZ2, X.T)"),
        "h for x": pair("np.dot(dZ1, X.T)", "np.dot(dZ1, A1.T)"),
        "z for h": pair("np.dot(dZ2, A1.T)", "np.dot(dZ2, Z1.T)"),
        "outer product transposed, O": pair("np.dot(dZ2, A1.T)", "np.dot(A1, dZ2.T)"),
        "outer product transposed, I": pair("np.dot(dZ1, X.T)", "np.dot(X, dZ1.T)"),
        "sign of dW_O": pair("dW2 = 1 / m", "dW2 = -1 / m"),
        "mean missing in dW_O": pair("dW2 = 1 / m * ", "dW2 = "),
        "db_O not summed": pair("np.sum(dZ2, axis=1, keepdims=True)", "dZ2"),
        "db_I not summed": pair("np.sum(dZ1, axis=1, keepdims=True)", "dZ1"),
        "db_O averaged": pair("np.sum(dZ2, axis", "np.mean(dZ2, axis"),
        "db_I averaged": pair("np.sum(dZ1, axis", "np.mean(dZ1, axis"),
        "db_O a number": pair("np.sum(dZ2, axis=1, keepdims=True)", "np.sum(dZ2)"),
        "db_I a number": pair("np.sum(dZ1, axis=1, keepdims=True)", "np.sum(dZ1)"),
        "db_O over the units": pair("np.sum(dZ2, axis=1", "np.sum(dZ2, axis=0"),
        "keepdims forgotten, O": pair("np.sum(dZ2, axis=1, keepdims=True)", "np.sum(dZ2, axis=1)"),
        "keepdims forgotten, I": pair("np.sum(dZ1, axis=1, keepdims=True)", "np.sum(dZ1, axis=1)"),
        "W_O not transposed": pair("np.dot(W2.T, dZ2)", "np.dot(W2, dZ2)"),
        "wrong layer's weight": pair("np.dot(W2.T, dZ2)", "np.dot(W1.T, dZ2)"),
        "dW_O for W_O": pair("np.dot(W2.T, dZ2)", "np.dot(dW2.T, dZ2)"),
        "W_O already updated": pair("    dA1 =", "    W2 = W2 - 0.1 * dW2\n    dA1 ="),
        "mask from z_O": pair("$slope", "$g_prime($z2)"),
        "mask from x": pair("$slope", "$g_prime(X)"),
        "weight decay added to dW_O": pair("np.dot(dZ2, A1.T)", "np.dot(dZ2, A1.T) + 0.01 * W2"),
        "weight decay added to dW_I": pair("np.dot(dZ1, X.T)", "np.dot(dZ1, X.T) + 0.01 * W1"),
        "mean missing": tuple((f"{each} = 1 / m * ", f"{each} = ") for each in ("dW2", "db2", "dW1", "db1")),
        "mean twice": pair("($a2 - $y)", "1 / m * ($a2 - $y)"),
        "factor 2": pair("($a2 - $y)", "2 * ($a2 - $y)"),
        "factor 1/2": pair("($a2 - $y)", "0.5 * ($a2 - $y)"),
    },
    "backward_propagation",
    square=MATRICES,
)

TORCH_AND_TUPLE = Convention(
    TORCH
    + """
def manual_backward(x, y, W1, b1, W2, b2):
    n = len(x)$targets
    z1 = x @ W1.T + b1
    h = $g(z1)
    z2 = h @ W2.T + b2
    out = $out

    d2 = ($a2 - $y)$times_f / n
    grad_W2 = d2.T @ h
    grad_b2 = d2.sum(0)
    dh = d2 @ W2
    d1 = $up * $slope
    grad_W1 = d1.T @ x
    grad_b1 = d1.sum(0)
    return grad_W1, grad_b1, grad_W2, grad_b2
""",
    ("classes", "regression", "squares"),
    {"z1": "z1", "a1": "h", "z2": "z2", "a2": "out", "y": "y", "m": "n", "up": "dh"},
    {
        "x for h": pair("d2.T @ h", "d2.T @ x"),
        "h for x": pair("d1.T @ x", "d1.T @ h"),
        "z for h": pair("d2.T @ h", "d2.T @ z1"),
        "outer product transposed, O": pair("d2.T @ h", "h.T @ d2"),
        "outer product transposed, I": pair("d1.T @ x", "x.T @ d1"),
        "sign of dW_O": pair("grad_W2 = d2.T", "grad_W2 = -d2.T"),
        "db_O not summed": pair("d2.sum(0)", "d2"),
        "db_I not summed": pair("d1.sum(0)", "d1"),
        "db_O averaged": pair("d2.sum(0)", "d2.mean(0)"),
        "db_I averaged": pair("d1.sum(0)", "d1.mean(0)"),
        "db_O a number": pair("d2.sum(0)", "d2.sum()"),
        "db_I a number": pair("d1.sum(0)", "d1.sum()"),
        "db_O over the units": pair("d2.sum(0)", "d2.sum(1)"),
        "W_O not transposed": pair("d2 @ W2", "d2 @ W2.T"),
        "wrong layer's weight": pair("d2 @ W2", "d2 @ W1"),
        "dW_O for W_O": pair("d2 @ W2", "d2 @ grad_W2"),
        "W_O already updated": pair("    dh =", "    W2 = W2 - 0.1 * grad_W2\n    dh ="),
        "f' left out on the way back": pair("dh = d2 @", "dh = ($a2 - $y) / n @"),
        "mask from z_O": pair("$slope", "$g_prime($z2)"),
        "mask from x": pair("$slope", "$g_prime(x)"),
        "weight decay added to dW_O": pair("d2.T @ h", "d2.T @ h + 0.01 * W2"),
        "weight decay added to dW_I": pair("d1.T @ x", "d1.T @ x + 0.01 * W1"),
        "mean missing": pair("$times_f / n", "$times_f"),
        "mean twice": pair("$times_f / n", "$times_f / n / n"),
        "factor 2": pair("($a2 - $y)", "2 * ($a2 - $y)"),
        "factor 1/2": pair("($a2 - $y)", "0.5 * ($a2 - $y)"),
    },
    "manual_backward",
    square=MATRICES,
    outputs={"cross_entropy": "\n    y = F.one_hot(y, len(b2))"},
)

COLUMN_AND_NABLAS = Convention(
    COLUMNS
    + """
class Network:
    def __init__(self, sizes):
        self.num_layers = len(sizes)
        self.sizes = sizes
        self.biases = [np.random.randn(n, 1) for n in sizes[1:]]
        self.weights = [np.random.randn(n, m) for m, n in zip(sizes[:-1], sizes[1:])]

    def backprop(self, x, y):
        nabla_b = [np.zeros(b.shape) for b in self.biases]
        nabla_w = [np.zeros(w.shape) for w in self.weights]
        zs, activations = [], [x]
        zs.append(np.dot(self.weights[0], x) + self.biases[0])
        activations.append($g(zs[0]))
        zs.append(np.dot(self.weights[1], activations[1]) + self.biases[1])
        activations.append($out)
        delta = ($a2 - $y)$times_f
        nabla_b[-1] = delta
        nabla_w[-1] = np.dot(delta, activations[-2].transpose())
        delta = $up * $slope
        nabla_b[-2] = delta
        nabla_w[-2] = np.dot(delta, activations[-3].transpose())
        return nabla_b, nabla_w
""",
    ("squares", "yes or no", "regression"),
    {
        "z1": "zs[-2]", "a1": "activations[-2]", "z2": "zs[-1]", "a2": "activations[-1]", "y": "y", "m": "1",
        "up": "np.dot(self.weights[-1].transpose(), delta)",
    },
    {
        "x for h": pair("np.dot(delta, activations[-2].transpose())", "np.dot(delta, x.transpose())"),
        "h for x": pair("np.dot(delta, activations[-3].transpose())", "np.dot(delta, activations[-2].transpose())"),
        "z for h": pair("np.dot(delta, activations[-2].transpose())", "np.dot(delta, zs[-2].transpose())"),
        "outer product transposed, O": pair(
            "np.dot(delta, activations[-2].transpose())", "np.dot(activations[-2], delta.transpose())"
        ),
        "outer product transposed, I": pair(
            "np.dot(delta, activations[-3].transpose())", "np.dot(activations[-3], delta.transpose())"
        ),
        "sign of dW_O": pair("nabla_w[-1] = np", "nabla_w[-1] = -np"),
        "db_O a number": pair("nabla_b[-1] = delta", "nabla_b[-1] = np.sum(delta)"),
        "db_I a number": pair("nabla_b[-2] = delta", "nabla_b[-2] = np.sum(delta)"),
        "W_O not transposed": pair("$up", "np.dot(self.weights[-1], delta)"),
        "wrong layer's weight": pair("$up", "np.dot(self.weights[-2].transpose(), delta)"),
        "dW_O for W_O": pair("$up", "np.dot(nabla_w[-1].transpose(), delta)"),
        "W_O already updated": pair(
            "        delta = $up",
            "        self.weights[-1] = self.weights[-1] - 0.1 * nabla_w[-1]\n        delta = $up",
        ),
        "f' left out on the way back": pair(
            "$up", "np.dot(self.weights[-1].transpose(), $a2 - $y)"
        ),
        "mask from z_O": pair("$slope", "$g_prime($z2)"),
        "mask from x": pair("$slope", "$g_prime(x)"),
        "weight decay added to dW_O": pair(
            "np.dot(delta, activations[-2].transpose())",
            "np.dot(delta, activations[-2].transpose()) + 0.01 * self.weights[-1]",
        ),
        "weight decay added to dW_I": pair(
            "np.dot(delta, activations[-3].transpose())",
            "np.dot(delta, activations[-3].transpose()) + 0.01 * self.weights[-2]",
        ),
        "factor 2": pair("($a2 - $y)", "2 * ($a2 - $y)"),
        "factor 1/2": pair("($a2 - $y)", "0.5 * ($a2 - $y)"),
    },
    "Network",
    call="n=Network([D,H,C]); n.weights,n.biases=[W1,W2],[b1,b2]; n.backprop(x,y)",
    one=True,
    square=MATRICES,
)  # fmt: skip

STEPS_IN_PLACE = Convention(
    ROWS
    + """
class NeuralNetwork:
    def __init__(self, n_in, n_hidden, n_out, lr=0.1):
        self.lr = lr
        self.W1 = np.random.randn(n_in, n_hidden)
        self.b1 = np.zeros(n_hidden)
        self.W2 = np.random.randn(n_hidden, n_out)
        self.b2 = np.zeros(n_out)

    def forward(self, X):
        self.z1 = X @ self.W1 + self.b1
        self.a1 = $g(self.z1)
        self.z2 = self.a1 @ self.W2 + self.b2
        return $out

    def train(self, X, y):
        output = self.forward(X)
        output_delta = ($a2 - $y)$times_f
        hidden_error = output_delta @ self.W2.T
        hidden_delta = $up * $slope
        self.W2 -= self.lr * self.a1.T @ output_delta
        self.b2 -= self.lr * output_delta.sum(axis=0)
        self.W1 -= self.lr * X.T @ hidden_delta
        self.b1 -= self.lr * hidden_delta.sum(axis=0)
""",
    ("squares", "classes", "regression"),
    {
        "z1": "self.z1", "a1": "self.a1", "z2": "self.z2", "a2": "output", "y": "y", "m": "len(X)",
        "up": "hidden_error",
    },
    {
        "x for h": pair("self.a1.T @ output_delta", "X.T @ output_delta"),
        "h for x": pair("X.T @ hidden_delta", "self.a1.T @ hidden_delta"),
        "z for h": pair("self.a1.T @ output_delta", "self.z1.T @ output_delta"),
        "outer product transposed, O": pair("self.a1.T @ output_delta", "output_delta.T @ self.a1"),
        "outer product transposed, I": pair("X.T @ hidden_delta", "hidden_delta.T @ X"),
        "sign of dW_O": pair("self.W2 -=", "self.W2 +="),
        "db_O averaged": pair("output_delta.sum(axis=0)", "output_delta.mean(axis=0)"),
        "db_I averaged": pair("hidden_delta.sum(axis=0)", "hidden_delta.mean(axis=0)"),
        "db_O a number": pair("output_delta.sum(axis=0)", "output_delta.sum()"),
        "db_I a number": pair("hidden_delta.sum(axis=0)", "hidden_delta.sum()"),
        "W_O not transposed": pair("output_delta @ self.W2.T", "output_delta @ self.W2"),
        "wrong layer's weight": pair("output_delta @ self.W2.T", "output_delta @ self.W1.T"),
        "dW_O for W_O": pair("output_delta @ self.W2.T", "output_delta @ (self.a1.T @ output_delta).T"),
        "W_O already updated": (
            ("        self.W2 -= self.lr * self.a1.T @ output_delta\n", ""),
            (
                "        hidden_error =",
                "        self.W2 -= self.lr * self.a1.T @ output_delta\n        hidden_error =",
            ),
        ),
        "f' left out on the way back": pair("hidden_error = output_delta", "hidden_error = ($a2 - $y)"),
        "mask from z_O": pair("$slope", "$g_prime($z2)"),
        "mask from x": pair("$slope", "$g_prime(X)"),
        "weight decay added to dW_O": pair(
            "self.a1.T @ output_delta", "(self.a1.T @ output_delta + 0.01 * self.W2)"
        ),
        "weight decay added to dW_I": pair("X.T @ hidden_delta", "(X.T @ hidden_delta + 0.01 * self.W1)"),
        "mean twice": pair("($a2 - $y)", "1 / len(X) ** 2 * ($a2 - $y)"),
        "factor 2": pair("($a2 - $y)", "2 * ($a2 - $y)"),
        "factor 1/2": pair("($a2 - $y)", "0.5 * ($a2 - $y)"),
    },
    "NeuralNetwork",
    call="n=NeuralNetwork(D,H,C); n.W1,n.b1,n.W2,n.b2=W1,b1,W2,b2; n.train(x,y); vars(n)",
    square=MATRICES | SHAPES,
    scaled="free",
    harmless=(
        ("($a2 - $y)", "($y - $a2)"),
        ("self.W1 -=", "self.W1 +="),
        ("self.b1 -=", "self.b1 +="),
        ("self.W2 -=", "self.W2 +="),
        ("self.b2 -=", "self.b2 +="),
    ),
)  # fmt: skip

UNROLLED = Convention(
    ROWS
    + """
def cost_function(nn_params, input_layer_size, hidden_layer_size, num_labels, X, y, lambda_=0.0):
    cut = hidden_layer_size * (input_layer_size + 1)
    Theta1 = nn_params[:cut].reshape(hidden_layer_size, input_layer_size + 1)
    Theta2 = nn_params[cut:].reshape(num_labels, hidden_layer_size + 1)
    m = X.shape[0]
    Y = np.eye(num_labels)[y - 1]
    a1 = np.hstack([np.ones((m, 1)), X])
    z2 = a1 @ Theta1.T
    a2 = np.hstack([np.ones((m, 1)), $g(z2)])
    z3 = a2 @ Theta2.T
    a3 = $out
    J = $cost
    J += lambda_ / (2 * m) * (np.sum(Theta1[:, 1:] ** 2) + np.sum(Theta2[:, 1:] ** 2))

    d3 = ($a2 - $y)$times_f
    back = d3 @ Theta2[:, 1:]
    d2 = $up * $slope
    Theta1_grad = d2.T @ a1 / m
    Theta2_grad = d3.T @ a2 / m
    Theta1_grad[:, 1:] += lambda_ / m * Theta1[:, 1:]
    Theta2_grad[:, 1:] += lambda_ / m * Theta2[:, 1:]
    return J, np.concatenate([Theta1_grad.ravel(), Theta2_grad.ravel()])
""",
    ("yes or no", "classes", "squares"),
    {"z1": "z2", "a1": "a2[:, 1:]", "z2": "z3", "a2": "a3", "y": "Y", "m": "m", "up": "back"},
    {
        "z for h": pair("d3.T @ a2 / m", "d3.T @ np.hstack([np.ones((m, 1)), z2]) / m"),
        "sign of dW_O": pair("Theta2_grad[:, 1:] +=", "Theta2_grad[:, 1:] *= -1\n    Theta2_grad[:, 1:] +="),
        "mean missing in dW_O": pair("Theta2_grad[:, 1:] +=", "Theta2_grad[:, 1:] *= m\n    Theta2_grad[:, 1:] +="),
        "db_O averaged": pair("Theta2_grad[:, 1:] +=", "Theta2_grad[:, 0] = d3.mean(0) / m\n    Theta2_grad[:, 1:] +="),
        "db_I averaged": pair("Theta1_grad[:, 1:] +=", "Theta1_grad[:, 0] = d2.mean(0) / m\n    Theta1_grad[:, 1:] +="),
        "db_O a number": pair("Theta2_grad[:, 1:] +=", "Theta2_grad[:, 0] = np.sum(d3) / m\n    Theta2_grad[:, 1:] +="),
        "db_I a number": pair("Theta1_grad[:, 1:] +=", "Theta1_grad[:, 0] = np.sum(d2) / m\n    Theta1_grad[:, 1:] +="),
        "W_O not transposed": pair("d3 @ Theta2[:, 1:]", "d3 @ Theta2[:, 1:].T"),
        "wrong layer's weight": pair("d3 @ Theta2[:, 1:]", "d3 @ Theta1[:, 1:]"),
        "dW_O for W_O": pair("d3 @ Theta2[:, 1:]", "d3 @ (d3.T @ a2 / m)[:, 1:]"),
        "W_O already updated": pair("    back =", "    Theta2 = Theta2 - 0.1 * d3.T @ a2 / m\n    back ="),
        "f' left out on the way back": pair("back = d3", "back = ($a2 - $y)"),
        "mask from z_O": pair("$slope", "$g_prime($z2)"),
        "mask from x": pair("$slope", "$g_prime(X)"),
        "weight decay added to dW_O": pair(
            "Theta2_grad[:, 1:] += lambda_ / m *", "Theta2_grad[:, 1:] += (0.01 + lambda_ / m) *"
        ),
        "bias penalised": pair(
            "Theta2_grad[:, 1:] += lambda_ / m * Theta2[:, 1:]", "Theta2_grad += lambda_ / m * Theta2"
        ),
        "penalty doubled": (
            ("Theta1_grad[:, 1:] += lambda_ / m", "Theta1_grad[:, 1:] += 2 * lambda_ / m"),
            ("Theta2_grad[:, 1:] += lambda_ / m", "Theta2_grad[:, 1:] += 2 * lambda_ / m"),
        ),
        "penalty forgotten": pair("    Theta1_grad[:, 1:] += lambda_ / m * Theta1[:, 1:]\n", ""),
        "mean missing": (("d2.T @ a1 / m", "d2.T @ a1"), ("d3.T @ a2 / m", "d3.T @ a2")),
        "mean twice": pair("($a2 - $y)", "1 / m * ($a2 - $y)"),
        "factor 2": pair("($a2 - $y)", "2 * ($a2 - $y)"),
        "factor 1/2": pair("($a2 - $y)", "0.5 * ($a2 - $y)"),
    },
    "cost_function",
    square=MATRICES,
    scaled="wrong",
)  # fmt: skip

PLAIN_LISTS = Convention(
    LISTS
    + """
def backprop(x, y, W1, b1, W2, b2):
    D, H, C = len(x), len(b1), len(b2)
    z1 = [sum(x[i] * W1[i][j] for i in range(D)) + b1[j] for j in range(H)]
    h = [$g(z) for z in z1]
    z2 = [sum(h[j] * W2[j][k] for j in range(H)) + b2[k] for k in range(C)]
    out = $out

    d2 = [($a2 - $y)$times_f for k in range(C)]
    dW2 = [[h[j] * d2[k] for k in range(C)] for j in range(H)]
    db2 = [d2[k] for k in range(C)]
    d1 = []
    for j in range(H):
        error = 0.0
        for k in range(C):
            error += d2[k] * W2[j][k]
        d1.append($up * $slope)
    dW1 = [[x[i] * d1[j] for j in range(H)] for i in range(D)]
    db1 = [d1[j] for j in range(H)]
    return dW1, db1, dW2, db2
""",
    ("squares", "regression", "yes or no"),
    {"z1": "z1[j]", "a1": "h[j]", "z2": "z2[k]", "a2": "out[k]", "y": "y[k]", "m": "1", "up": "error"},
    {
        "x for h": pair(
            "h[j] * d2[k] for k in range(C)] for j in range(H)", "x[i] * d2[k] for k in range(C)] for i in range(D)"
        ),
        "h for x": pair(
            "x[i] * d1[j] for j in range(H)] for i in range(D)", "h[i] * d1[j] for j in range(H)] for i in range(H)"
        ),
        "z for h": pair("h[j] * d2[k]", "z1[j] * d2[k]"),
        "outer product transposed, O": pair(
            "for k in range(C)] for j in range(H)]\n    db2", "for j in range(H)] for k in range(C)]\n    db2"
        ),
        "outer product transposed, I": pair(
            "for j in range(H)] for i in range(D)]\n    db1", "for i in range(D)] for j in range(H)]\n    db1"
        ),
        "sign of dW_O": pair("h[j] * d2[k]", "-h[j] * d2[k]"),
        "db_O a number": pair("db2 = [d2[k] for k in range(C)]", "db2 = sum(d2)"),
        "db_I a number": pair("db1 = [d1[j] for j in range(H)]", "db1 = sum(d1)"),
        "W_O not transposed": pair("d2[k] * W2[j][k]", "d2[k] * W2[k][j]"),
        "wrong layer's weight": pair("d2[k] * W2[j][k]", "d2[k] * W1[j][k]"),
        "dW_O for W_O": pair("d2[k] * W2[j][k]", "d2[k] * dW2[j][k]"),
        "W_O already updated": pair(
            "    d1 = []", "    W2 = [[W2[j][k] - 0.1 * dW2[j][k] for k in range(C)] for j in range(H)]\n    d1 = []"
        ),
        "f' left out on the way back": pair("d2[k] * W2[j][k]", "($a2 - $y) * W2[j][k]"),
        "mask from z_O": pair("$slope", "$g_prime(z2[j])"),
        "mask from x": pair("$slope", "$g_prime(x[j])"),
        "weight decay added to dW_O": pair("h[j] * d2[k]", "h[j] * d2[k] + 0.01 * W2[j][k]"),
        "weight decay added to dW_I": pair("x[i] * d1[j]", "x[i] * d1[j] + 0.01 * W1[i][j]"),
        "factor 2": pair("[($a2 - $y)", "[2 * ($a2 - $y)"),
        "factor 1/2": pair("[($a2 - $y)", "[0.5 * ($a2 - $y)"),
    },
    "backprop",
    one=True,
    square=MATRICES,
    outputs={"sigmoid": "[sigmoid(z) for z in z2]", "identity": "z2", "softmax": "softmax(z2)"},
)  # fmt: skip

LOSS_AND_GRADS = Convention(
    ROWS
    + """
class TwoLayerNet:
    def __init__(self, input_size, hidden_size, output_size, std=0.1):
        self.params = {}
        self.params['W1'] = std * np.random.randn(input_size, hidden_size)
        self.params['b1'] = np.zeros(hidden_size)
        self.params['W2'] = std * np.random.randn(hidden_size, output_size)
        self.params['b2'] = np.zeros(output_size)

    def loss(self, X, y=None, reg=0.0):
        W1, b1 = self.params['W1'], self.params['b1']
        W2, b2 = self.params['W2'], self.params['b2']
        N, D = X.shape
        z1 = X.dot(W1) + b1
        hidden = $g(z1)
        scores = hidden.dot(W2) + b2
        if y is None:
            return scores
        out = $out$targets
        loss = $cost
        loss += 0.5 * reg * (np.sum(W1 * W1) + np.sum(W2 * W2))

        grads = {}
        dscores = ($a2 - $y)$times_f / N
        grads['W2'] = hidden.T.dot(dscores) + reg * W2
        grads['b2'] = np.sum(dscores, axis=0)
        dhidden = dscores.dot(W2.T)
        dz1 = $up * $slope
        grads['W1'] = X.T.dot(dz1) + reg * W1
        grads['b1'] = np.sum(dz1, axis=0)
        return loss, grads
""",
    ("classes", "regression", "squares"),
    {"z1": "z1", "a1": "hidden", "z2": "scores", "a2": "out", "y": "y", "m": "N", "up": "dhidden"},
    {
        "z for h": pair("hidden.T.dot(dscores)", "z1.T.dot(dscores)"),
        "x for h": pair("hidden.T.dot(dscores)", "X.T.dot(dscores)"),
        "h for x": pair("X.T.dot(dz1)", "hidden.T.dot(dz1)"),
        "outer product transposed, O": pair("hidden.T.dot(dscores)", "dscores.T.dot(hidden)"),
        "outer product transposed, I": pair("X.T.dot(dz1)", "dz1.T.dot(X)"),
        "sign of dW_O": pair("= hidden.T.dot(dscores)", "= -hidden.T.dot(dscores)"),
        "db_O not summed": pair("np.sum(dscores, axis=0)", "dscores"),
        "db_I not summed": pair("np.sum(dz1, axis=0)", "dz1"),
        "db_O averaged": pair("np.sum(dscores, axis=0)", "np.mean(dscores, axis=0)"),
        "db_I averaged": pair("np.sum(dz1, axis=0)", "np.mean(dz1, axis=0)"),
        "db_O a number": pair("np.sum(dscores, axis=0)", "np.sum(dscores)"),
        "db_I a number": pair("np.sum(dz1, axis=0)", "np.sum(dz1)"),
        "db_O over the units": pair("np.sum(dscores, axis=0)", "np.sum(dscores, axis=1)"),
        "W_O not transposed": pair("dscores.dot(W2.T)", "dscores.dot(W2)"),
        "wrong layer's weight": pair("dscores.dot(W2.T)", "dscores.dot(W1.T)"),
        "dW_O for W_O": pair("dscores.dot(W2.T)", "dscores.dot(grads['W2'].T)"),
        "W_O already updated": pair("        dhidden =", "        W2 = W2 - 0.1 * grads['W2']\n        dhidden ="),
        "f' left out on the way back": pair("dhidden = dscores.dot", "dhidden = (($a2 - $y) / N).dot"),
        "mask from z_O": pair("$slope", "$g_prime($z2)"),
        "mask from x": pair("$slope", "$g_prime(X)"),
        "weight decay added to dW_O": pair("+ reg * W2", "+ (reg + 0.01) * W2"),
        "weight decay added to dW_I": pair("+ reg * W1", "+ (reg + 0.01) * W1"),
        "bias penalised": pair("np.sum(dscores, axis=0)", "np.sum(dscores, axis=0) + reg * b2"),
        "penalty doubled": (("+ reg * W1", "+ 2 * reg * W1"), ("+ reg * W2", "+ 2 * reg * W2")),
        "penalty forgotten": pair(" + reg * W1", ""),
        "mean missing": pair("$times_f / N", "$times_f"),
        "mean twice": pair("$times_f / N", "$times_f / N / N"),
        "factor 2": pair("dscores = ($a2", "dscores = 2 * ($a2"),
        "factor 1/2": pair("dscores = ($a2", "dscores = 0.5 * ($a2"),
    },
    "TwoLayerNet",
    square=MATRICES | SHAPES,
    scaled="wrong",
    outputs={"cross_entropy": "\n        y = np.eye(len(b2))[y]"},
)  # fmt: skip

CONVENTIONS = {
    "rows, a dict": ROWS_AND_DICT,
    "columns, a cache": COLUMNS_AND_CACHE,
    "torch, (out, in)": TORCH_AND_TUPLE,
    "one column, nablas": COLUMN_AND_NABLAS,
    "steps in place": STEPS_IN_PLACE,
    "unrolled, with the loss": UNROLLED,
    "plain lists": PLAIN_LISTS,
    "params, with the loss": LOSS_AND_GRADS,
}
