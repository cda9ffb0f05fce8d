"""A person's derivation, as the text of a numpy function, and the ways in which one line of it goes wrong.

Nothing here comes from the project's own formulas or catalogue: the functions are written out in numpy, and a mistake
is a line of text exchanged for another one.
"""

import re
from collections.abc import Callable

import numpy as np
from scipy.special import erf

G = {
    "identity": ("z", "np.ones_like(z)"),
    "relu": ("np.maximum(z, 0)", "(z > 0) * 1.0"),
    "leaky_relu": ("np.where(z > 0, z, 0.01 * z)", "np.where(z > 0, 1, 0.01)"),
    "elu": ("np.where(z > 0, z, np.exp(z) - 1)", "np.where(z > 0, 1, np.exp(z))"),
    "selu": (
        "1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * (np.exp(z) - 1))",
        "1.0507009873554805 * np.where(z > 0, 1, 1.6732632423543772 * np.exp(z))",
    ),
    "softplus": ("np.log(1 + np.exp(z))", "1 / (1 + np.exp(-z))"),
    "silu": ("z / (1 + np.exp(-z))", "(1 + np.exp(-z) + z * np.exp(-z)) / (1 + np.exp(-z)) ** 2"),
    "gelu": (
        "z * 0.5 * (1 + erf(z / np.sqrt(2)))",
        "0.5 * (1 + erf(z / np.sqrt(2))) + z * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)",
    ),
    "gelu_tanh": (
        "0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))",
        "0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))) + 0.5 * z * "
        "np.cosh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)) ** -2.0 * np.sqrt(2 / np.pi) * (1 + 0.134145 * z**2)",
    ),
    "mish": (
        "z * np.tanh(np.log(1 + np.exp(z)))",
        "np.tanh(np.log(1 + np.exp(z))) + z * np.cosh(np.log(1 + np.exp(z))) ** -2.0 / (1 + np.exp(-z))",
    ),
    "hardtanh": ("np.clip(z, -1, 1)", "(np.abs(z) < 1) * 1.0"),
    "tanh": ("np.tanh(z)", "1 - np.tanh(z) ** 2"),
    "sigmoid": ("1 / (1 + np.exp(-z))", "np.exp(-z) / (1 + np.exp(-z)) ** 2"),
}
LOSS = {
    "mse": "2 * (yhat - y) / (B * C)",
    "l1": "np.sign(yhat - y) / (B * C)",
    "huber": "np.clip(yhat - y, -1, 1) / (B * C)",
    "cross_entropy": "-y / yhat / B",
    "binary_cross_entropy": "(yhat - y) / (yhat * (1 - yhat)) / (B * C)",
    "poisson_nll": "(np.exp(yhat) - y) / (B * C)",
}

TEXT = """
def backward(x, y, W_I, b_I, W_O, b_O):
    B, C = y.shape
    z_I = x @ W_I + b_I
    h = g(z_I)
    z_O = h @ W_O + b_O
    yhat = f(z_O)
    v = dloss(yhat, y)
    delta_O = chain(v, z_O)
    dW_O = h.T @ delta_O
    db_O = delta_O.sum(0)
    u = delta_O @ W_O.T
    delta_I = u * dg(z_I)
    dW_I = x.T @ delta_I
    db_I = delta_I.sum(0)
    return {RETURNED}
"""
GRADIENTS = '{"dW_I": dW_I, "db_I": db_I, "dW_O": dW_O, "db_O": db_O}'
EVERYTHING = GRADIENTS[:-1] + ', "delta_O": delta_O, "delta_I": delta_I}'

SQUARE = (7, 4, 4, 4)
# What is asked for by name, the line, what it becomes, the quantity where it is made, part of what must be said of it,
# and whether the shapes must be square for it to run.
EDITS: list[tuple[str, str, str, str, str, bool]] = [
    ("f' left out", "chain(v, z_O)", "v", "delta_O", "f′(z_O) is missing", False),
    ("g' left out", "u * dg(z_I)", "u", "delta_I", "g′(z_I) is missing", False),
    ("f' at yhat", "chain(v, z_O)", "chain(v, yhat)", "delta_O", "f′ is taken at ŷ", False),
    ("g' at h", "u * dg(z_I)", "u * dg(h)", "delta_I", "g′ is taken at h", False),
    ("f instead of f'", "chain(v, z_O)", "v * f(z_O)", "delta_O", "f is used where f′ is needed", False),
    ("g instead of g'", "u * dg(z_I)", "u * g(z_I)", "delta_I", "g is used where g′ is needed", False),
    ("f' twice", "chain(v, z_O)", "chain(chain(v, z_O), z_O)", "delta_O", "f′(z_O) is there twice", False),
    ("g' twice", "u * dg(z_I)", "u * dg(z_I) ** 2", "delta_I", "g′(z_I) is there twice", False),
    ("mean missing", "chain(v, z_O)", "chain(v, z_O) * B", "delta_O", "mean over the batch is missing", False),
    ("mean twice", "chain(v, z_O)", "chain(v, z_O) / B", "delta_O", "mean over the batch is taken once too", False),
    ("sum over outputs", "chain(v, z_O)", "chain(v, z_O) * C", "delta_O", "sum over the outputs, not the mean", False),
    ("db_O not summed", "delta_O.sum(0)", "delta_O", "db_O", "not summed over the batch", False),
    ("db_I not summed", "delta_I.sum(0)", "delta_I", "db_I", "not summed over the batch", False),
    ("db_O averaged", "delta_O.sum(0)", "delta_O.mean(0)", "db_O", "averaged", False),
    ("db_I averaged", "delta_I.sum(0)", "delta_I.mean(0)", "db_I", "averaged", False),
    ("x for h", "h.T @ delta_O", "x.T @ delta_O", "dW_O", "x is used instead of h", False),
    ("h for x", "x.T @ delta_I", "h.T @ delta_I", "dW_I", "h is used instead of x", False),
    ("z for h", "h.T @ delta_O", "z_I.T @ delta_O", "dW_O", "z_I is used instead of h", False),
    ("wrong layer's weight", "delta_O @ W_O.T", "delta_O @ W_I.T", "delta_I", "W_Iᵀ is used instead", True),
    ("wrong layer's weight, not transposed", "delta_O @ W_O.T", "delta_O @ W_I", "delta_I", "W_I is used", True),
    ("W_O not transposed", "delta_O @ W_O.T", "delta_O @ W_O", "delta_I", "W_O is not transposed", True),
    ("outer product transposed, O", "h.T @ delta_O", "delta_O.T @ h", "dW_O", "transposed", False),
    ("outer product transposed, I", "x.T @ delta_I", "delta_I.T @ x", "dW_I", "transposed", False),
    ("sign of delta_O", "chain(v, z_O)", "-chain(v, z_O)", "delta_O", "sign is flipped", False),
    ("sign of delta_I", "u * dg(z_I)", "-u * dg(z_I)", "delta_I", "sign is flipped", False),
    ("sign of dW_O", "h.T @ delta_O", "-h.T @ delta_O", "dW_O", "sign is flipped", False),
    ("factor 2", "dloss(yhat, y)", "2 * dloss(yhat, y)", "delta_O", "a factor 2 too many", False),
    ("factor 1/2", "dloss(yhat, y)", "dloss(yhat, y) / 2", "delta_O", "factor", False),
    ("mask from z_O", "dg(z_I)", "dg(z_O)", "delta_I", "another layer's pre-activation", True),
    ("mask from x", "dg(z_I)", "dg(x)", "delta_I", "the layer below", True),
    ("stale h in dW_O", "h.T @ delta_O", "LAST['h'].T @ delta_O", "dW_O", "previous step", False),
    ("stale z in g'", "dg(z_I)", "dg(LAST['z_I'])", "delta_I", "previous step", False),
    ("weight decay added to dW_I", "x.T @ delta_I", "x.T @ delta_I + 0.01 * W_I", "dW_I", "times 0.01", False),
    ("weight decay added to dW_O", "h.T @ delta_O", "h.T @ delta_O + 0.01 * W_O", "dW_O", "times 0.01", False),
    ("W_O already updated", "delta_O @ W_O.T", "delta_O @ (W_O - 0.1 * dW_O).T", "delta_I", "already been", False),
    ("db_O summed to a number", "delta_O.sum(0)", "np.sum(delta_O)", "db_O", "a scalar", False),
    ("db_I summed to a number", "delta_I.sum(0)", "np.sum(delta_I)", "db_I", "a scalar", False),
    ("db_I one number for all", "delta_I.sum(0)", "0 * b_I + np.sum(delta_I)", "db_I", "a scalar", False),
    ("db_O before f'", "delta_O.sum(0)", "v.sum(0)", "db_O", "∂L/∂ŷ is used instead of δ_O", False),
    ("db_I before g'", "delta_I.sum(0)", "u.sum(0)", "db_I", "∂L/∂h is used instead of δ_I", False),
    ("dW_O for W_O", "delta_O @ W_O.T", "delta_O @ dW_O.T", "delta_I", "dW_O is used instead of W_O", False),
    ("dW_O for W_O, not transposed", "delta_O @ W_O.T", "delta_O @ dW_O", "delta_I", "dW_O is used", True),
    ("W_I returned", "x.T @ delta_I", "W_I", "dW_I", "W_I itself is returned", False),
    ("W_O returned", "h.T @ delta_O", "W_O", "dW_O", "W_O itself is returned", False),
    ("W_O for h", "h.T @ delta_O", "W_O * delta_O.sum(0)", "dW_O", "W_O is used instead of h", False),
    ("f' of the error", "chain(v, z_O)", "v * f_of(yhat - y)", "delta_O", "taken of the error ŷ − y", False),
    ("f' of the error alone", "chain(v, z_O)", "f_of(yhat - y) * scale(B, C)", "delta_O", "and stands alone", False),
    ("g of the gradient", "u * dg(z_I)", "g(u)", "delta_I", "no mask from z_I", False),
    ("g of the gradient, unscaled", "u * dg(z_I)", "g(u * B * C) / (B * C)", "delta_I", "no mask from z_I", False),
    ("g' at the gradient", "u * dg(z_I)", "u * dg(u)", "delta_I", "at the gradient that comes from above", False),
    ("g' at -z", "dg(z_I)", "dg(-z_I)", "delta_I", "g′ is taken at −z_I", False),
    ("built from dL/dyhat", "delta_O @ W_O.T", "v @ W_O.T", "delta_I", "it is built from ∂L/∂ŷ", False),
    (
        "bias penalised, I",
        "delta_I.sum(0)",
        "delta_I.sum(0) + 0.01 * b_I",
        "db_I",
        "regularisation: the bias b_I",
        False,
    ),
    (
        "bias penalised, O",
        "delta_O.sum(0)",
        "delta_O.sum(0) + 0.01 * b_O",
        "db_O",
        "regularisation: the bias b_O",
        False,
    ),
    ("delta_O for delta_I", "delta_I.sum(0)", "delta_O.sum(0)", "db_I", "δ_O is used instead of δ_I", False),
]
# Edits that leave every gradient the same number of times too large: a convention where the loss's scale is open.
OF_SCALE = ("mean missing", "mean twice", "sum over outputs", "factor 2", "factor 1/2")

DEEP = """
def backward(x, y, W_1, b_1, W_2, b_2, W_3, b_3):
    B, C = y.shape
    z_1 = x @ W_1 + b_1
    h_1 = g(z_1)
    z_2 = h_1 @ W_2 + b_2
    h_2 = g(z_2)
    z_3 = h_2 @ W_3 + b_3
    yhat = f(z_3)
    v = dloss(yhat, y)
    delta_3 = chain(v, z_3)
    dW_3 = h_2.T @ delta_3
    db_3 = delta_3.sum(0)
    u_2 = delta_3 @ W_3.T
    delta_2 = u_2 * dg(z_2)
    dW_2 = h_1.T @ delta_2
    db_2 = delta_2.sum(0)
    u_1 = delta_2 @ W_2.T
    delta_1 = u_1 * dg(z_1)
    dW_1 = x.T @ delta_1
    db_1 = delta_1.sum(0)
    return {RETURNED}
"""
DEEP_GRADIENTS = '{"dW_1": dW_1, "db_1": db_1, "dW_2": dW_2, "db_2": db_2, "dW_3": dW_3, "db_3": db_3}'
# As EDITS, without names: what is in a layer whose number is {i}, and h_0 is x.
IN_EACH_LAYER = [
    ("h_{i-1}.T @ delta_{i}", "h_{i}.T @ delta_{i}", "dW_{i}", "h_{i} is used instead of h_{i-1}"),
    ("h_{i-1}.T @ delta_{i}", "delta_{i}.T @ h_{i-1}", "dW_{i}", "the product is transposed"),
    ("h_{i-1}.T @ delta_{i}", "W_{i}", "dW_{i}", "W_{i} itself is returned"),
    ("h_{i-1}.T @ delta_{i}", "h_{i-1}.T @ delta_{i} + 0.01 * W_{i}", "dW_{i}", "W_{i} is added, times 0.01"),
    ("delta_{i}.sum(0)", "delta_{i}.mean(0)", "db_{i}", "it is averaged over the batch"),
    ("delta_{i}.sum(0)", "np.sum(delta_{i})", "db_{i}", "a scalar"),
]
IN_HIDDEN_LAYERS = [
    ("u_{i} * dg(z_{i})", "u_{i}", "delta_{i}", "the factor g′(z_{i}) is missing"),
    ("u_{i} * dg(z_{i})", "u_{i} * dg(h_{i})", "delta_{i}", "g′ is taken at h_{i}"),
    ("u_{i} * dg(z_{i})", "-u_{i} * dg(z_{i})", "delta_{i}", "its sign is flipped"),
    ("delta_{i+1} @ W_{i+1}.T", "delta_{i+1} @ dW_{i+1}.T", "delta_{i}", "dW_{i+1} is used instead of W_{i+1}"),
    ("delta_{i+1} @ W_{i+1}.T", "delta_{i+1} @ (W_{i+1} - 0.1 * dW_{i+1}).T", "delta_{i}", "W_{i+1} has already been"),
    ("delta_{i}.sum(0)", "u_{i}.sum(0)", "db_{i}", "is used instead of δ_{i}"),
]


def deep_edits() -> list[tuple[str, str, str, str]]:
    """The line, what it becomes, the quantity, and part of what must be said, for each of three layers."""
    edits = []
    for i, each in [
        *((i, e) for i in (1, 2, 3) for e in IN_EACH_LAYER),
        *((i, e) for i in (1, 2) for e in IN_HIDDEN_LAYERS),
    ]:
        line = [part.replace("{i}", str(i)).replace("{i-1}", str(i - 1)).replace("{i+1}", str(i + 1)) for part in each]
        line = [part.replace("h_0", "x") for part in line]
        if "h_3" not in line[1]:
            edits.append(tuple(line))
    return [
        *edits,
        ("chain(v, z_3)", "v", "delta_3", "the factor f′(z_3) is missing"),
        ("delta_3 @ W_3.T", "v @ W_3.T", "delta_2", "built from ∂L/∂ŷ, not from δ_3"),
        ("delta_2 @ W_2.T", "u_2 @ W_2.T", "delta_1", "built from ∂L/∂h_2, not from δ_2"),
        ("delta_2.sum(0)", "delta_3.sum(0)", "db_2", "δ_3 is used instead of δ_2"),
    ]


def build(
    g: str,
    f: str,
    loss: str,
    *changes: tuple[str, str],
    everything: bool = True,
    deep: bool = False,
    biases: bool = True,
) -> Callable[..., dict]:
    """The function of that network with these changes of its text; it remembers the h and z_I of its last call.

    `deep` has three layers. Without `biases` the function has none of them, and nothing to return for them.
    """
    text = DEEP if deep else TEXT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    returned = DEEP_GRADIENTS if deep else EVERYTHING if everything else GRADIENTS
    if not biases:
        text = re.sub(r"( \+|,) b_.\b", "", text)
        returned = re.sub(r'"db_.": db_.(, )?', "", returned)
    text = text.replace("{RETURNED}", returned)
    if not deep:
        text = text.replace("    return ", "    NEXT.update(h=h, z_I=z_I)\n    return ")
    names = {"np": np, "erf": erf, "LAST": {}, "NEXT": {}}
    value, slope = G[g]
    names["g"], names["dg"] = (eval(f"lambda z: {formula}", names) for formula in (value, slope))
    if f == "softmax":
        names["f"] = lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True)

        def chain(v, z):
            a = names["f"](z)
            return np.stack([(np.diag(row) - np.outer(row, row)) @ each for row, each in zip(a, v, strict=True)])

        names["chain"] = chain
    else:
        value, slope = G[f]
        names["f"], names["df"] = (eval(f"lambda z: {formula}", names) for formula in (value, slope))
        names["chain"] = lambda v, z: v * names["df"](z)
        # The same as a function of the output, which is what many write.
        names["f_of"] = {"sigmoid": lambda a: a * (1 - a), "tanh": lambda a: 1 - a * a}.get(f)
    names["scale"] = eval(f"lambda B, C: 1 / {'B' if loss == 'cross_entropy' else '(B * C)'}")
    names["dloss"] = eval(f"lambda yhat, y: (lambda B, C: {LOSS[loss]})(*y.shape)", names)
    exec(text, names)

    def call(*batch: np.ndarray) -> dict:
        names["LAST"].update(names["NEXT"])
        if not names["LAST"]:
            names["LAST"].update(h=np.zeros((len(batch[0]), batch[2].shape[1])), z_I=np.zeros((len(batch[0]), 1)))
        return names["backward"](*batch)

    return call
