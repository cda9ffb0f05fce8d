"""The derivation of one configured network: its equations with the functions put in, and an example in numbers."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from backhand.calculus import backpropagation as bp
from backhand.calculus import reference
from backhand.calculus.activations import RowActivation
from backhand.calculus.backpropagation import Criterion, Network
from backhand.checking.document import Block, Equation, Heading, Prose, Values

# The worked example: samples, inputs, units of every hidden layer, outputs.
B, D, H, C = 2, 2, 3, 2
# In float64; what is above it is no rounding.
LIMIT = 1e-12


def equations(network: Network, criterion: Criterion, parameters: dict[str, Any], hidden: Sequence[int]) -> list[Block]:
    """The chain of equations, with shapes.

    Args:
        network: the activations.
        criterion: the loss.
        parameters: the loss's own, as they are to be shown.
        hidden: units of each hidden layer.
    """
    layers = layer_names(len(hidden))
    f, L = network.f, criterion.loss
    units = {**{name: str(size) for name, size in zip(layers, hidden, strict=False)}, "O": "C"}
    blocks: list[Block] = [
        Heading(
            f"The gradients of {_shape_of(hidden)}: {_activations_of(network, len(hidden))}, "
            f"{network.output_activation}, {criterion.name}",
            1,
        ),
        Prose(
            "A sample is a row; B of them are a batch x (B, D). A weight is stored (in, out). "
            "⊙ multiplies entry by entry."
        ),
        Heading("The network"),
    ]
    below, size_below = "x", "D"
    for number, name in enumerate(layers):
        blocks.append(_equation(f"z_{name}", f"{below} W_{name} + b_{name}", f"(B, {units[name]})"))
        if name == "O":
            break
        g = network.g(number)
        blocks.append(
            _applied(f"h_{name}" if len(hidden) > 1 else "h", f"z_{name}", g.text, g.latex, f"(B, {units[name]})")
        )
        below, size_below = (f"h_{name}" if len(hidden) > 1 else "h"), units[name]
    blocks += [
        _applied("ŷ", "z_O", f.text, f.latex, "(B, C)", row=isinstance(f, RowActivation)),
        Equation(
            f"L = mean over the batch of  {L.text}", rf"L = \frac{{1}}{{B}} \sum_{{\text{{batch}}}} {L.latex}", "scalar"
        ),
    ]
    for key, value in parameters.items():
        blocks.append(Prose(f"{key} = {value}: {L.parameters[key].effect}."))
    blocks += _delta_O(network, criterion)
    for number, name in reversed(list(enumerate(layers))):
        first = number == 0
        below = "x" if first else (f"h_{layers[number - 1]}" if len(hidden) > 1 else "h")
        size_below = "D" if first else units[layers[number - 1]]
        blocks += [
            Heading(f"The gradients of layer {name}"),
            _equation(f"∇W_{name}", f"{below}ᵀ δ_{name}", f"({size_below}, {units[name]})"),
            _equation(f"∇b_{name}", f"Σ_B δ_{name}", f"({units[name]},)"),
        ]
        if first:
            blocks.append(_equation("∇x", f"δ_{name} W_{name}ᵀ", "(B, D)"))
            continue
        lower, g = layers[number - 1], network.g(number - 1)
        derivative = _put(g.text_derivative, f"z_{lower}", below)
        latex = _put_latex(g.latex_derivative, f"z_{lower}", _as_latex(below))
        blocks += [
            Heading(f"δ_{lower}, back through layer {name}"),
            _equation(f"δ_{lower}", f"(δ_{name} W_{name}ᵀ) ⊙ g′(z_{lower})", f"(B, {units[lower]})"),
            Equation(f"g′(z_{lower}) = {derivative}", rf"g'(z_{lower}) = {latex}", f"(B, {units[lower]})"),
        ]
    return [*blocks, Heading("The update"), Equation("θ ← θ − α ∇θ", r"\theta \leftarrow \theta - \alpha \nabla\theta")]


def example(
    network: Network, criterion: Criterion, weight: Tensor | None, layers: int, seed: int
) -> tuple[list[Block], bool]:
    """The same in numbers, for a tiny network, each value compared with torch's own graph.

    Args:
        network: the activations.
        criterion: the loss.
        weight: the loss's own, (C,), or None.
        layers: hidden layers, of H units each.
        seed: of the numbers.

    Returns:
        The blocks, and whether every value agrees.
    """
    generator = torch.Generator().manual_seed(seed)
    names = layer_names(layers)

    def drawn(*shape: int) -> Tensor:
        """Two decimals, for a pocket calculator."""
        return (torch.randn(*shape, generator=generator, dtype=torch.float64) * 100).round() / 100

    sizes = [D, *[H] * layers, C]
    x = drawn(B, D)
    parameters = [drawn(*shape) for n, m in pairwise(sizes) for shape in ((n, m), (m,))]
    y = _target(criterion, generator)
    ours = _by_hand(network, criterion, weight, x, y, parameters, names)
    theirs = _by_autograd(network, criterion, weight, x, y, parameters, names)
    blocks: list[Block] = [
        Heading("In numbers"),
        Prose(
            f"B = {B}, D = {D}, {f'{H} units a hidden layer, ' if layers else ''}C = {C}; "
            "each value is compared with torch's own."
        ),
        _values("x", x),
        _values("y", y if y.is_floating_point() else torch.nn.functional.one_hot(y, C).to(x)),
    ]
    for name, W, b in zip(names, parameters[::2], parameters[1::2], strict=True):
        blocks += [_values(f"W_{name}", W), _values(f"b_{name}", b)]
    agree = True
    for name, value in ours.items():
        error = float((value - theirs[name]).abs().max()) / max(float(theirs[name].abs().max()), 1.0)
        agree &= error <= LIMIT
        blocks.append(_values(name, value, f"{'✓' if error <= LIMIT else '✗'} autograd: {error:.0e}"))
    return blocks, agree


def _activations_of(network: Network, layers: int) -> str:
    if layers == 0:
        return "no hidden layer"
    one = network.hidden_activation
    return one if isinstance(one, str) else ", ".join(one)


def layer_names(hidden: int) -> list[str]:
    """`I`, `O` for the page's network; `1`, `2`, …, `O` for a deeper one; `O` alone for a linear model."""
    return [*(["I"] if hidden == 1 else [str(i + 1) for i in range(hidden)]), "O"]


def _by_hand(
    network: Network,
    criterion: Criterion,
    weight: Tensor | None,
    x: Tensor,
    y: Tensor,
    parameters: Sequence[Tensor],
    names: Sequence[str],
) -> dict[str, Tensor]:
    weights, biases = parameters[::2], parameters[1::2]
    values: dict[str, Tensor] = {}
    h, below = x, [x]
    for name, W, b in zip(names, weights, biases, strict=True):
        values[f"z_{name}"] = bp.preactivation(h, W, b)
        if name != "O":
            h = network.g(len(below) - 1)(values[f"z_{name}"])
            values[_hidden(name)] = h
            below.append(h)
    values["ŷ"] = network.f(values["z_O"])
    values["L"] = bp.loss_value(network, criterion, values["z_O"], y, weight)
    delta = bp.loss_delta(network, criterion, values["z_O"], y, weight)
    for number in reversed(range(len(names))):
        name = names[number]
        values[f"δ_{name}"] = delta
        values[f"∇W_{name}"] = bp.weight_gradient(below[number], delta)
        values[f"∇b_{name}"] = bp.bias_gradient(delta)
        if number == 0:
            values["∇x"] = bp.input_gradient(delta, weights[0])
        else:
            lower = names[number - 1]
            g = network.g(number - 1)
            saved = values[f"z_{lower}"] if g.reads == "z" else below[number]
            delta = bp.hidden_delta(g, delta, weights[number], saved)
    return values


def _by_autograd(
    network: Network,
    criterion: Criterion,
    weight: Tensor | None,
    x: Tensor,
    y: Tensor,
    parameters: Sequence[Tensor],
    names: Sequence[str],
) -> dict[str, Tensor]:
    x, *parameters = (t.clone().requires_grad_() for t in (x, *parameters))
    values: dict[str, Tensor] = {}
    h = x
    for number, (name, W, b) in enumerate(zip(names, parameters[::2], parameters[1::2], strict=True)):
        values[f"z_{name}"] = reference.affine(h, W, b)
        if name != "O":
            h = values[_hidden(name)] = reference.module(network.g_name(number))(values[f"z_{name}"])
    values["ŷ"] = reference.module(network.output_activation)(values["z_O"])
    values["L"] = reference.loss(network, criterion, values["z_O"], y, weight)
    wanted = {f"δ_{name}": values[f"z_{name}"] for name in names} | {"∇x": x}
    for name, W, b in zip(names, parameters[::2], parameters[1::2], strict=True):
        wanted |= {f"∇W_{name}": W, f"∇b_{name}": b}
    gradients = torch.autograd.grad(values["L"], list(wanted.values()))
    return {name: value.detach() for name, value in values.items()} | dict(zip(wanted, gradients, strict=True))


def _target(criterion: Criterion, generator: torch.Generator) -> Tensor:
    kind = criterion.loss
    if kind.target == "classes":
        return torch.arange(B) % C
    if kind.target == "counts":
        return torch.randint(4, (B, C), generator=generator).double()
    if kind.probabilities:
        return torch.randint(2, (B, C), generator=generator).double()
    return (torch.randn(B, C, generator=generator, dtype=torch.float64) * 10).round() / 10


def _delta_O(network: Network, criterion: Criterion) -> list[Block]:
    f, L = network.f, criterion.loss
    row = isinstance(f, RowActivation)
    derivative, latex = _put(f.text_derivative, "z_O", "ŷ"), _put_latex(f.latex_derivative, "z_O", r"\hat y")
    blocks: list[Block] = [
        Heading("δ_O, the loss's derivative by z_O"),
        Equation("δ_O = Jᵀ ∂L/∂ŷ, sample by sample", r"\delta_O = J^\top \frac{\partial L}{\partial \hat y}", "(B, C)")
        if row
        else Equation(
            "δ_O = ∂L/∂ŷ ⊙ f′(z_O)", r"\delta_O = \frac{\partial L}{\partial \hat y} \odot f'(z_O)", "(B, C)"
        ),
        Prose("The formulas on the right are a sample's; the mean over the batch divides each by B."),
        Equation(
            f"B ∂L/∂ŷ = {L.text_derivative}",
            rf"B\,\frac{{\partial L}}{{\partial \hat y}} = {L.latex_derivative}",
            "(B, C)",
        ),
        Equation(f"J = {derivative}", f"J = {latex}", "(B, C, C)")
        if row
        else Equation(f"f′(z_O) = {derivative}", f"f'(z_O) = {latex}", "(B, C)"),
    ]
    if L.matched == network.output_activation:
        if L.text_product:
            blocks.append(Prose("Loss and output are a matched pair: multiplied out, the derivative of f cancels."))
            blocks.append(Equation(f"B δ_O = {L.text_product}", rf"B\,\delta_O = {L.latex_product}", "(B, C)"))
        blocks.append(Equation(f"B δ_O = {L.text_matched}", rf"B\,\delta_O = {L.latex_matched}", "(B, C)"))
    elif row:
        blocks.append(
            Equation(
                "δ_O = ŷ ⊙ (v − Σ_c ŷ_c v_c),  v = ∂L/∂ŷ",
                r"\delta_O = \hat y \odot \Big(v - \sum_c \hat y_c v_c\Big), "
                r"\quad v = \frac{\partial L}{\partial \hat y}",
                "(B, C)",
            )
        )
    return blocks


def _hidden(layer: str) -> str:
    return "h" if layer == "I" else f"h_{layer}"


def _shape_of(hidden: Sequence[int]) -> str:
    return f"the network D-{'-'.join(map(str, hidden))}-C" if hidden else "the linear model D-C"


def _equation(left: str, right: str, shape: str) -> Equation:
    return Equation(f"{left} = {right}", f"{_as_latex(left)} = {_as_latex(right)}", shape)


def _applied(left: str, z: str, text: str, latex: str, shape: str, row: bool = False) -> Equation:
    """`left = g(z)` with the activation's formula; that of a row activation is for one entry, and keeps its indices."""
    if row:
        return Equation(
            f"{left}_i = {text}, z = {z}", rf"{_as_latex(left)}_i = {latex}, \quad z = {_as_latex(z)}", shape
        )
    formula = _put_latex(latex, z, _as_latex(left))
    return Equation(f"{left} = {_put(text, z, left)}", f"{_as_latex(left)} = {formula}", shape)


def _put(formula: str, z: str, a: str) -> str:
    """The formula with these names in the places of z and a."""
    return re.sub(r"(?<![A-Za-z_])[za](?![A-Za-z_])", lambda found: z if found[0] == "z" else a, formula)


def _put_latex(formula: str, z: str, a: str) -> str:
    # Words after a backslash and inside braces of \operatorname are longer than a letter, and stay.
    return re.sub(r"(?<![A-Za-z\\])[za](?![A-Za-z_])", lambda found: f"{{{z if found[0] == 'z' else a}}}", formula)


_COMMANDS = {
    "ŷ": r"\hat y",
    "δ_": r"\delta_",
    "∇": r"\nabla ",
    "Σ_B": r"\sum_B",
    "ᵀ": r"^\top",
    "⊙": r"\odot",
    "′": "'",
}


def _as_latex(text: str) -> str:
    for sign, command in _COMMANDS.items():
        text = text.replace(sign, command)
    return text


def _values(name: str, value: Tensor, check: str = "") -> Values:
    rows = value.reshape(1, -1) if value.dim() < 2 else value
    return Values(name, _as_latex(name), tuple(tuple(row) for row in rows.tolist()), check)
