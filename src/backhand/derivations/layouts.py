"""The conventions in which people store samples, weights, biases and targets, and the way there and back.

Ours: a sample a row, x (B, D), weights (in, out), biases (n,), y (B, C) or class numbers (B,), all in float64.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backhand.derivations.names import Meaning

# How samples may lie: (B, n), (n, B), or a single one as a vector (n,) or, where every size is 1, as a plain number.
SAMPLES = ("rows", "columns", "vector", "number")
BIASES = ("(n,)", "(1, n)", "(n, 1)", "first column", "last column", "first row", "last row")
TARGETS = ("values", "one-hot", "classes", "classes from 1", "(N,)")
FORMS = ("by name", "a list of layers", "a list of (W, b)", "a flat list", "a list of weights", "layers by name",
         "layers numbered from 1", "layers numbered from 0")  # fmt: skip
NUMBERED = FORMS[-2:]
KINDS = ("numpy", "torch", "torch with requires_grad", "lists")


@dataclass(frozen=True)
class Draw:
    """One network with random numbers in it, in our layout.

    Attributes:
        x: (B, D).
        y: (B, C).
        classes: (B,), or None where the rows of y are no classes.
        W, b: by layer; b holds None where the network has no bias there.
        z, a: by layer, (B, n); the last a is ŷ.
    """

    x: np.ndarray
    y: np.ndarray
    classes: np.ndarray | None
    W: tuple[np.ndarray, ...]
    b: tuple[np.ndarray | None, ...]
    z: tuple[np.ndarray, ...]
    a: tuple[np.ndarray, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """B, D, …, C."""
        return (*self.x.shape, *(W.shape[1] for W in self.W))


@dataclass(frozen=True)
class Layout:
    """One reading of what the arrays of a derivation mean.

    Attributes:
        samples: of `SAMPLES`.
        weights: `(in, out)` or `(out, in)`.
        bias: of `BIASES`; with a column or a row, the bias is a part of the weights' array.
        target: of `TARGETS`.
        kind: of `KINDS`.
        form: of `FORMS`, in which an argument that holds all parameters has them.
        names: what names mean that do not tell it themselves, such as `V` and `c`.
        thresholds: whether biases are subtracted: z = x W − b.
    """

    samples: str = "rows"
    weights: str = "(in, out)"
    bias: str = "(n,)"
    target: str = "values"
    kind: str = "numpy"
    form: str = "by name"
    names: tuple[tuple[str, Meaning], ...] = ()
    thresholds: bool = False

    @property
    def folded(self) -> bool:
        """Whether the bias is a part of the weights' array."""
        return "column" in self.bias or "row" in self.bias

    def said(self) -> str:
        """The reading in words."""
        samples = {
            "rows": "a sample a row",
            "columns": "a sample a column",
            "vector": "one sample, as a vector",
            "number": "plain numbers",
        }[self.samples]
        targets = {
            "values": "",
            "one-hot": ", y one-hot",
            "classes": ", y as class numbers from 0",
            "classes from 1": ", y as class numbers from 1",
            "(N,)": ", y (N,)",
        }[self.target]
        biases = f", bias as the {self.bias} of the weights" if self.folded else f", biases {self.bias}"
        form = "" if self.form == "by name" else f", parameters as {self.form}"
        names = "".join(f", {name} for {means.kind}{means.layer}" for name, means in self.names)
        signs = ", z = x W − b" if self.thresholds else ""
        if self.samples == "number":
            return f"{samples}{targets}{form}{names}{signs}; {self.kind}"
        return f"{samples}, weights {self.weights}{biases}{targets}{form}{names}{signs}; {self.kind}"

    def sample(self, array: np.ndarray) -> Any:
        """An array (B, n) as theirs."""
        match self.samples:
            case "columns":
                array = array.T
            case "vector":
                array = array[0]
            case "number":
                return float(array[0, 0])
        return self.made(array)

    def weight(self, W: np.ndarray, b: np.ndarray | None) -> Any:
        """A layer's weights, with its bias where that is a part of them."""
        if self.samples == "number":
            return float(W[0, 0])
        ours = W
        if self.folded and b is not None:
            parts = [b[None], W] if "first" in self.bias else [W, b[None]]
            ours = np.concatenate(parts)
        return self.made(ours.T if self.weights == "(out, in)" else ours)

    def bias_of(self, b: np.ndarray) -> Any:
        """A layer's bias by itself."""
        b = -b if self.thresholds else b
        if self.samples == "number":
            return float(b[0])
        return self.made({"(1, n)": b[None], "(n, 1)": b[:, None]}.get(self.bias, b))

    def targets(self, draw: Draw) -> Any:
        """Y as theirs; None where this draw has no such form."""
        if self.target.startswith("classes"):
            if draw.classes is None:
                return None
            numbers = draw.classes + (1 if self.target.endswith("1") else 0)
            if self.samples in ("vector", "number"):
                return int(numbers[0])
            return numbers.tolist() if self.kind == "lists" else self.made(numbers.astype(np.int64))
        if self.target == "(N,)":
            return self.made(draw.y[:, 0]) if draw.y.shape[1] == 1 else None
        return self.sample(draw.y)

    def made(self, array: np.ndarray) -> Any:
        """A copy of its own, so that who writes into it spoils nothing, of their kind."""
        array = np.array(array, order="C")
        if self.kind == "numpy":
            return array
        if self.kind == "lists":
            return array.tolist()
        import torch

        tensor = torch.from_numpy(array)
        return tensor.requires_grad_() if "requires" in self.kind and tensor.is_floating_point() else tensor

    def shape_of_weight(self, W: np.ndarray) -> tuple[int, ...]:
        """The shape that a layer's weights have without their bias."""
        if self.samples == "number":
            return ()
        return tuple(W.shape[::-1] if self.weights == "(out, in)" else W.shape)

    def ours(self, theirs: np.ndarray) -> np.ndarray:
        """A weight's gradient of theirs in our orientation, whatever its shape."""
        return theirs.T if self.weights == "(out, in)" and theirs.ndim == 2 else theirs

    def ours_of_samples(self, theirs: np.ndarray) -> np.ndarray:
        """An array with a sample axis in our orientation, whatever its shape."""
        if self.samples == "columns" and theirs.ndim == 2:
            return theirs.T
        return theirs[None] if self.samples == "vector" and theirs.ndim == 1 else theirs


def readings(
    kinds: Sequence[str], sizes: Sequence[int], targets: Sequence[str], folded: bool, has_bias: bool
) -> Iterator[Layout]:
    """The layouts to try, the usual ones first.

    Args:
        kinds: of `KINDS`, those that the file uses.
        sizes: B, D, …, C.
        targets: of `TARGETS`, the likeliest first.
        folded: whether biases may be a part of the weights' arrays.
        has_bias: whether there are biases at all.
    """
    one, all_one = sizes[0] == 1, all(size == 1 for size in sizes)
    usual = [("rows", "(in, out)", "(n,)"), ("columns", "(out, in)", "(n, 1)"), ("rows", "(out, in)", "(n,)"),
             ("rows", "(in, out)", "(1, n)"), ("columns", "(out, in)", "(n,)"), ("columns", "(in, out)", "(n, 1)"),
             ("rows", "(out, in)", "(1, n)"), ("columns", "(in, out)", "(n,)"),
             ("rows", "(out, in)", "(n, 1)"), ("rows", "(in, out)", "(n, 1)")]  # fmt: skip
    if one:
        usual = [*usual, ("vector", "(out, in)", "(n,)"), ("vector", "(in, out)", "(n,)"),
                 ("vector", "(out, in)", "(n, 1)"), ("vector", "(in, out)", "(1, n)")]  # fmt: skip
    if all_one:
        usual = [("number", "(in, out)", "(n,)"), *usual]
    if not has_bias:
        usual = list({(samples, weights): (samples, weights, "(n,)") for samples, weights, _ in usual}.values())
    if folded:
        usual = [("rows", "(out, in)", "first column"), ("rows", "(in, out)", "first row"),
                  ("rows", "(in, out)", "last row"), ("rows", "(out, in)", "last column"),
                  ("columns", "(out, in)", "first column"), ("columns", "(out, in)", "last column")]  # fmt: skip
        if one:
            usual += [("vector", "(out, in)", "last column"), ("vector", "(out, in)", "first column"),
                      ("vector", "(in, out)", "last row")]  # fmt: skip
    for kind in kinds:
        for samples, weights, bias in usual:
            for target in targets:
                yield Layout(samples, weights, bias, target, kind)


def by_name(draw: Draw, layout: Layout) -> Mapping[str, Any]:
    """What a `call` is given: x, y, W1, b1, …, and the sizes."""
    names: dict[str, Any] = {"x": layout.sample(draw.x), "y": layout.targets(draw)}
    for layer, (W, b) in enumerate(zip(draw.W, draw.b, strict=True), 1):
        names[f"W{layer}"] = layout.weight(W, b)
        if b is not None:
            names[f"b{layer}"] = layout.bias_of(b)
    B, D, *hidden, C = draw.sizes
    each = {f"H{layer}": size for layer, size in enumerate(hidden, 1)}
    return names | {"B": B, "D": D, "C": C} | ({"H": hidden[0]} if hidden else {}) | each
