"""The derivation as a table: each line's name, equation, shape and reason, and the function that computes it.

The printed derivation, the mistake finder, its texts and the audit read their lines here. An equation is plain text in
the notation of `docs/derivation.md`, with ` · ` where matrices are multiplied; its LaTeX is a transcription.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from torch import Tensor

from backhand.calculus import backpropagation as bp
from backhand.calculus.activations import Activation, RowActivation
from backhand.calculus.backpropagation import Criterion, Network


def labels(depth: int) -> tuple[str, ...]:
    """The layers' indices, first to last: I and O where there are two, numbers where there are more."""
    return ("I", "O")[-depth:] if depth <= 2 else tuple(str(i + 1) for i in range(depth))


@dataclass(frozen=True)
class Layer:
    """A layer and its symbols in the formulas; `index` counts from 0, from the input."""

    index: int
    depth: int

    @property
    def label(self) -> str:
        return labels(self.depth)[self.index]

    @property
    def is_last(self) -> bool:
        return self.index == self.depth - 1

    @property
    def above(self) -> Layer:
        return Layer(self.index + 1, self.depth)

    @property
    def below(self) -> Layer:
        return Layer(self.index - 1, self.depth)

    @property
    def W(self) -> str:
        return f"W_{self.label}"

    @property
    def b(self) -> str:
        return f"b_{self.label}"

    @property
    def z(self) -> str:
        return f"z_{self.label}"

    @property
    def a(self) -> str:
        """Its output: h, numbered where there are several, or ŷ."""
        return "ŷ" if self.is_last else "h" if self.depth == 2 else f"h_{self.label}"

    @property
    def input(self) -> str:
        return self.below.a if self.index else "x"

    @property
    def units(self) -> str:
        """The letter for its number of outputs."""
        return "C" if self.is_last else "H" if self.depth == 2 else f"H_{self.label}"

    @property
    def inputs(self) -> str:
        return self.below.units if self.index else "D"

    @property
    def g(self) -> str:
        """The letter of its activation."""
        return "f" if self.is_last else "g"

    @property
    def symbol(self) -> str:
        return f"δ_{self.label}"

    # The steps of the derivation, by name.
    @property
    def upstream(self) -> str:
        """∂L/∂a."""
        return f"da_{self.label}"

    @property
    def slope(self) -> str:
        """g′(z)."""
        return f"slope_{self.label}"

    @property
    def chain(self) -> str:
        """∂L/∂a · g′(z), which the mistake finder computes as a step of its own before δ."""
        return f"chain_{self.label}"

    @property
    def delta(self) -> str:
        return f"delta_{self.label}"

    @property
    def dW(self) -> str:
        return f"dW_{self.label}"

    @property
    def db(self) -> str:
        return f"db_{self.label}"

    @property
    def gradients(self) -> tuple[str, ...]:
        """The gradients computed from its δ: its own and, in the first layer, that of x."""
        return (self.dW, self.db) if self.index else (self.dW, self.db, "dx")


@cache
def layers(depth: int) -> tuple[Layer, ...]:
    """The layers from the output to the input, in the order of the backward pass."""
    return tuple(Layer(i, depth) for i in reversed(range(depth)))


@dataclass(frozen=True, eq=False)
class Step:
    """One line of the derivation, `left = right`.

    Attributes:
        name: what the value is called in code, such as `dW_O`.
        left, right: the two sides of its equation.
        shape: of the value, without the run axis.
        reason: why the line holds.
        reads: the names of the arguments of `rule`.
        rule: the function that computes it.
        latex_right: `right` in LaTeX, where `latex` cannot transcribe it.
    """

    name: str
    left: str
    right: str
    shape: str
    reason: str
    reads: tuple[str, ...]
    rule: Callable[..., Tensor]
    latex_right: str = ""

    @property
    def text(self) -> str:
        """The equation, with matrix products written side by side."""
        return f"{self.left} = {self.right}".replace(" · ", " ")

    @property
    def latex(self) -> str:
        return f"{latex(self.left)} = {self.latex_right or latex(self.right)}"


def forward_steps(network: Network, activations: Sequence[Activation]) -> list[Step]:
    """The steps from x to ŷ; `activations` holds g of each hidden layer, then f."""
    found = []
    for layer, g in zip(reversed(layers(len(activations))), activations, strict=True):
        x, W, b, z, a, shape = layer.input, layer.W, layer.b, layer.z, layer.a, f"(B, {layer.units})"
        name = network.output_activation if layer.is_last else network.g_name(layer.index)
        why = f"{layer.g} is {name}, applied {'entry by entry' if is_elementwise(g) else 'row by row'}"
        why_z = f"Each unit takes a weighted sum of {x} and adds its bias"
        found += [
            Step(z, z, f"{x} · {W} + {b}", shape, why_z, (x, W, b), bp.preactivation),
            Step(a, a, substitute(g.text, z, a), shape, why, (z,), g, substitute_latex(g.latex, z, a)),
        ]
    return found


def loss_step(network: Network, criterion: Criterion, class_weight: Tensor | None, depth: int) -> Step:
    """The step for L, computed from z_O and y as in training."""
    loss, z = criterion.loss, Layer(depth - 1, depth).z

    def rule(z: Tensor, y: Tensor) -> Tensor:
        return bp.loss_value(network, criterion, z, y, class_weight)

    return Step("L", "L", loss.text, "scalar", "The mean over the batch", (z, "y"), rule, loss.latex)


def backward_steps(criterion: Criterion, class_weight: Tensor | None, activations: Sequence[Activation]) -> list[Step]:
    """The steps from ∂L/∂ŷ to ∇x."""
    loss, found = criterion.loss, []
    for layer, g in zip(layers(len(activations)), reversed(activations), strict=True):
        z, a, delta = layer.z, layer.a, layer.symbol
        shape, units, saved = f"(B, {layer.units})", layer.units, a if g.reads == "a" else z
        dL_da, prime = f"∂L/∂{a}", f"{layer.g}′({z})"
        if layer.is_last:
            rule = partial(loss.derivative, **criterion.parameters(class_weight))
            why, product = "The derivative of the loss", dL_da
            text, in_latex = loss.text_derivative, loss.latex_derivative
            found.append(Step(layer.upstream, dL_da, text, shape, why, (a, "y"), rule, in_latex))
        else:
            above = layer.above
            why, product = f"{above.z} depends on {a} through {above.W}", f"{above.symbol} · {above.W}ᵀ"
            reads = (above.delta, above.W)
            found.append(Step(layer.upstream, dL_da, product, shape, why, reads, bp.input_gradient))
            product = f"({product})"
        formula, in_latex = substitute(g.text_derivative, z, a), substitute_latex(g.latex_derivative, z, a)
        if is_elementwise(g):
            why = f"Each entry of {a} depends on its own entry of {z}"
            found.append(Step(layer.slope, prime, formula, shape, why, (saved,), partial(_slope, g), in_latex))
        else:
            why, square = f"Each entry of {a} depends on every entry of {z} in its row", f"(B, {units}, {units})"
            found.append(Step(layer.slope, f"J_f({z})", formula, square, why, (saved,), g.derivative, in_latex))
        why = f"{z} affects L only through {a}"
        found.append(Step(layer.delta, delta, f"{product} ⊙ {prime}", shape, why, (layer.upstream, saved), g.delta))
        found += gradient_steps(layer)
    first = layers(len(activations))[-1]
    why, product = f"{first.z} depends on x through {first.W}", f"{first.symbol} · {first.W}ᵀ"
    return [*found, Step("dx", "∇x", product, "(B, D)", why, (first.delta, first.W), bp.input_gradient)]


def gradient_steps(layer: Layer) -> tuple[Step, Step]:
    """The steps for ∇W and ∇b."""
    x, W, b, z, delta = layer.input, layer.W, layer.b, layer.z, layer.symbol
    of_W = f"{z} depends on {W} through {x}; the product adds up the samples"
    of_b = f"{z} depends on {b} with the factor 1 in every sample"
    shape, reads = f"({layer.inputs}, {layer.units})", (x, layer.delta)
    return (
        Step(layer.dW, f"∇{W}", f"{x}ᵀ · {delta}", shape, of_W, reads, bp.weight_gradient),
        Step(layer.db, f"∇{b}", f"Σ_B {delta}", f"({layer.units},)", of_b, (layer.delta,), bp.bias_gradient),
    )


def closed_form(criterion: Criterion, class_weight: Tensor | None, depth: int) -> Step:
    """The step for δ_O of a matched pair, computed from z_O."""
    loss, last = criterion.loss, Layer(depth - 1, depth)
    rule = partial(loss.matched_delta, **criterion.parameters(class_weight))
    right, in_latex = loss.text_matched, loss.latex_matched
    if class_weight is not None and " = " in loss.text_product:  # its last simplification is that of the plain loss
        right, in_latex = (each.rpartition(" = ")[2] for each in (loss.text_product, loss.latex_product))
    why = "A matched pair: multiplied out, the derivative of f cancels"
    return Step("matched", last.symbol, right, "(B, C)", why, (last.z, "y"), rule, in_latex)


def evaluate_steps(steps: Iterable[Step], values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The given values, with the value of each step added."""
    values = dict(values)
    for step in steps:
        values[step.name] = step.rule(*(values[name] for name in step.reads))
    return values


def with_jacobian(formula: str) -> str:
    """The formula for δ where the activation is not elementwise: a row times its Jacobian."""
    return formula.replace("⊙ f′(", "· J_f(")


def substitute(formula: str, z: str, a: str) -> str:
    """An activation's formula with z and a replaced by these names."""
    return re.sub(r"(?<![A-Za-z_])[za](?![A-Za-z_])", lambda found: z if found[0] == "z" else a, formula)


def substitute_latex(formula: str, z: str, a: str) -> str:
    """An activation's LaTeX formula with z and a replaced by these names, leaving commands as they are."""
    named = {"z": latex(z), "a": latex(a)}
    return re.sub(r"(?<![A-Za-z\\])[za](?![A-Za-z_])", lambda found: f"{{{named[found[0]]}}}", formula)


_COMMANDS = {
    "ŷ": r"\hat y", "δ_": r"\delta_", "∇": r"\nabla ", "Σ_": r"\sum_", "ᵀ": r"^\top", "⊙": r"\odot", "′": "'", "−": "-",
    "θ": r"\theta", "α": r"\alpha", "←": r"\leftarrow", " · ": r" \, ",
}  # fmt: skip


def latex(text: str) -> str:
    """An equation of a step in LaTeX, also with indices of several digits."""
    text = re.sub(r"∂L/∂(\w+)", r"\\frac{\\partial L}{\\partial \1}", text)
    text = re.sub(r"_([A-Z]|\d+)", r"_{\1}", text)
    for sign, command in _COMMANDS.items():
        text = text.replace(sign, command)
    return text


def is_elementwise(activation: Activation) -> bool:
    """Whether its derivative is elementwise, not a Jacobian."""
    return not isinstance(activation, RowActivation)


def _slope(g: Activation, saved: Tensor) -> Tensor:
    """g′(z) in the shape of z; the identity's derivative is a single 1."""
    return g.derivative(saved).expand_as(saved)
