"""The derivation of one configured network: every equation, followed by its value in a small example."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.chain import Step, closed_form, evaluate_steps, is_elementwise, latex, layers, with_jacobian
from backhand.checking.document import Block, Equation, Heading, Prose, number
from backhand.checking.example import LIMIT, NUDGE, RATE, B, C, D, Example, changes_agree, draw, is_close, units


def derivation(
    network: Network,
    criterion: Criterion,
    class_weight: Tensor | None,
    parameters: dict[str, Any],
    hidden: Sequence[int],
    seed: int,
) -> tuple[list[Block], list[str]]:
    """The derivation with its example.

    Args:
        network: the activations.
        criterion: the loss, with its parameters that are single numbers.
        class_weight: the loss's parameter that is a tensor (C,), or None.
        parameters: the loss's parameters, as printed.
        hidden: units of each hidden layer; the example has `units(hidden)`.
        seed: seed of the example's numbers.

    Returns:
        The blocks, and the names of the values that disagree with autograd or with the nudge.
    """
    example = draw(network, criterion, class_weight, units(hidden), seed)
    values, expected = example.values, example.autograd_values
    steps = (*example.forward, *example.backward)
    wrong = [step.left for step in steps if not is_close(values[step.name], expected[step.name])]
    backward = {step.name: step for step in example.backward}
    blocks: list[Block] = [
        *_introduction(network, criterion, hidden),
        Heading("The example"),
        *_example(example),
        Heading("Forward"),
        *(_line(step, values) for step in example.forward[:-1]),
        _line(replace(example.forward[-1], reason=_mean(example)), values),
        *(Prose(f"{key} = {value}: {criterion.loss.parameters[key].effect}.") for key, value in parameters.items()),
    ]
    for layer in layers(example.depth):
        blocks.append(Heading(f"{layer.symbol}{'' if layer.is_last else f', back through layer {layer.above.label}'}"))
        blocks += [_line(backward[layer.upstream], values), *_slope(backward[layer.slope], values)]
        delta = backward[layer.delta]
        if not is_elementwise(example.activations[layer.index]):
            delta = replace(delta, right=with_jacobian(delta.right))
        blocks.append(_line(delta, values))
        if layer.is_last and criterion.loss.matched == network.output_activation:
            closed = closed_form(criterion, class_weight, example.depth)
            is_same = is_close(evaluate_steps([closed], values)[closed.name], values[layer.delta])
            blocks += _matched(closed, criterion, is_same)
            wrong += [] if is_same else [closed.text]
        blocks.append(Heading(f"The gradients of layer {layer.label}"))
        blocks += [_line(backward[name], values) for name in layer.gradients]
    blocks += [*_nudge(example), *_update(example), Heading("Against autograd")]
    in_training = example.training_gradients.items()
    wrong += [f"training's ∇{name[1:]}" for name, each in in_training if not is_close(each, expected[name])]
    if not changes_agree(example.loss_change(), example.predicted_change(values)):
        wrong.append(f"the nudge of {example.nudged_weight[0]}")
    agreement = (
        f"All {len(steps)} values above, and the gradients that a training step computes, agree with autograd, "
        f"torch's own graph, to {LIMIT:.0e}."
    )
    blocks.append(Prose(f"Different from autograd: {', '.join(wrong)}." if wrong else agreement))
    return blocks, wrong


def _introduction(network: Network, criterion: Criterion, hidden: Sequence[int]) -> list[Block]:
    shape = f"the network D-{'-'.join(map(str, hidden))}-C" if hidden else "the linear model D-C"
    g = network.hidden_activation
    names = [g] if isinstance(g, str) else [*g]
    letters = [layer.units for layer in layers(len(hidden) + 1)[:0:-1]]
    sizes, example_sizes = (
        ", ".join(f"{letter} = {size}" for letter, size in zip(letters, each, strict=True))
        for each in (hidden, units(hidden))
    )
    small = ", ".join(filter(None, [f"B = {B}, D = {D}", example_sizes, f"C = {C}"]))
    return [
        Heading(
            f"The gradients of {shape}: "
            f"{', '.join([*(names if hidden else []), network.output_activation, criterion.name])}",
            1,
        ),
        Prose(
            "A sample is a row; a batch x holds B of them. A weight is stored (in, out). ⊙ multiplies entry by entry; "
            "two matrices side by side are a matrix product (with a Jacobian J, row by row)."
        ),
        Prose(f"{'The' if sizes == example_sizes else f'The network has {sizes}; the'} example has {small}."),
    ]


def _example(example: Example) -> list[Equation]:
    y = example.given["y"]
    rows = y if y.is_floating_point() else torch.nn.functional.one_hot(y, C)
    blocks = [_value("x", "(B, D)", example.given["x"]), _value("y", "(B, C)", rows)]
    for layer in reversed(layers(example.depth)):
        blocks.append(_value(layer.W, f"({layer.inputs}, {layer.units})", example.given[layer.W]))
        blocks.append(_value(layer.b, f"({layer.units},)", example.given[layer.b]))
    return blocks


def _mean(example: Example) -> str:
    y = example.given["y"]
    if example.class_weight is not None and not y.is_floating_point():
        return f"The mean over the samples, N = {float(example.class_weight[y].sum()):g}, the sum of their weights"
    if example.criterion.loss.mean_over == "B":
        return f"The mean over the samples, N = B = {B}"
    return f"The mean over the samples and the outputs, N = B C = {B * C}"


def _slope(step: Step, values: dict[str, Tensor]) -> list[Block]:
    """g′(z), or the Jacobian of each sample."""
    value = values[step.name]
    if value.dim() == 2:
        return [_line(step, values)]
    return [
        Equation(step.text, step.latex, step.shape, step.reason),
        *(Equation(f"{step.left} of sample {i}", rf"{latex(step.left)} \text{{ of sample {i}}}", rows=_rows(each))
          for i, each in enumerate(value, start=1)),
    ]  # fmt: skip


def _matched(closed: Step, criterion: Criterion, is_same: bool) -> list[Block]:
    text, in_latex = criterion.loss.text_product, criterion.loss.latex_product
    product = Equation(f"{closed.left} = {text}", f"{latex(closed.left)} = {in_latex}", closed.shape, closed.reason)
    reason = f"{'The same' if is_same else 'A different'} number in closed form, computed from {closed.reads[0]}"
    return [*([product] if text else []), Equation(closed.text, closed.latex, closed.shape, reason)]


def _nudge(example: Example) -> list[Block]:
    name, (row, column) = example.nudged_weight
    change, before = example.loss_change(), example.loss_with({})
    gradient = float(example.values[f"d{name}"][row, column])
    return [
        Heading("One weight, nudged"),
        Prose(
            f"Row {row + 1}, column {column + 1} of {name} grows by {NUDGE}. L goes from {before:.7f} to "
            f"{before + change:.7f}: it changes by {change:.7f}. The gradient predicts {number(gradient)} × {NUDGE} = "
            f"{gradient * NUDGE:.7f}."
        ),
    ]


def _update(example: Example) -> list[Block]:
    new, name = example.updated_parameters(example.values), example.nudged_weight[0]
    before, after = example.loss_with({}), example.loss_with(new)
    rule = "θ ← θ − α ∇θ"
    return [
        Heading("One update"),
        Equation(rule, latex(rule), reason=f"Every parameter is updated, with α = {RATE}"),
        _value(f"{name} − α ∇{name}", "", new[name]),
        Prose(f"L {'falls' if after < before else 'does not fall: it goes'} from {before:.4f} to {after:.4f}."),
    ]


def _line(step: Step, values: dict[str, Tensor]) -> Equation:
    return Equation(step.text, step.latex, step.shape, step.reason, _rows(values[step.name]))


def _value(name: str, shape: str, value: Tensor) -> Equation:
    return Equation(name, latex(name), shape, rows=_rows(value))


def _rows(value: Tensor) -> tuple[tuple[float, ...], ...]:
    rows = value.reshape(1, -1) if value.dim() < 2 else value
    return tuple(tuple(row) for row in rows.tolist())
