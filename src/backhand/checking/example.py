"""The example of the printed derivation: a network small enough for a pocket calculator, in which no factor is 0."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from backhand.calculus import reference
from backhand.calculus.activations import ACTIVATIONS, Activation
from backhand.calculus.backpropagation import Criterion, Network, gradients
from backhand.calculus.chain import (
    Layer,
    Step,
    backward_steps,
    evaluate_steps,
    forward_steps,
    is_elementwise,
    layers,
    loss_step,
)

# Samples, inputs, units of every hidden layer, outputs.
B, D, H, C = 2, 2, 3, 2
MOST_UNITS = 3  # of a hidden layer in the example: wider matrices do not fit a narrow page
# The change of the nudged weight, and the learning rate of the update.
NUDGE, RATE = 1e-3, 0.1
# Relative difference allowed between the loss's change and the gradient's prediction, which ignores the curvature.
CURVATURE_TOLERANCE = 0.02
# Numbers are drawn again until no factor is smaller, at most so many times.
MIN_FACTOR, TRIES = 1e-2, 50
# Limit of the error against autograd in float64, relative to the largest entry.
LIMIT = 1e-12


@dataclass(frozen=True, eq=False)
class Example:
    """A network with numbers.

    Attributes:
        network, criterion, class_weight: the network and its loss; `class_weight` (C,) is the loss's tensor parameter.
        depth: number of layers with weights.
        given: x, y and the parameters by name.
    """

    network: Network
    criterion: Criterion
    class_weight: Tensor | None
    depth: int
    given: dict[str, Tensor]

    @property
    def activations(self) -> list[Activation]:
        return [*map(self.network.g, range(self.depth - 1)), self.network.f]

    @cached_property
    def forward(self) -> tuple[Step, ...]:
        """The steps from x to L."""
        loss = loss_step(self.network, self.criterion, self.class_weight, self.depth)
        return (*forward_steps(self.network, self.activations), loss)

    @cached_property
    def backward(self) -> tuple[Step, ...]:
        """The steps from ∂L/∂ŷ to ∇x."""
        return tuple(backward_steps(self.criterion, self.class_weight, self.activations))

    @cached_property
    def values(self) -> dict[str, Tensor]:
        """The value of each step."""
        return evaluate_steps((*self.forward, *self.backward), self.given)

    def loss_with(self, changed: dict[str, Tensor]) -> float:
        """L with some parameters replaced."""
        return float(evaluate_steps(self.forward, self.given | changed)["L"])

    @cached_property
    def autograd_values(self) -> dict[str, Tensor]:
        """The value of each step, computed by `torch.nn` modules and autograd."""
        leaves = {name: value.clone().requires_grad_() for name, value in self.given.items() if name != "y"}
        values, slopes, last = dict(leaves), {}, Layer(self.depth - 1, self.depth)
        inputs = {"dx": leaves["x"]}
        for layer in layers(self.depth)[::-1]:
            z = values[layer.z] = reference.affine(values[layer.input], leaves[layer.W], leaves[layer.b])
            values[layer.a] = reference.module(_activation(self.network, layer))(z)
            slopes[layer.slope] = _slope(self.network, layer, z)
            inputs |= {layer.delta: z, layer.dW: leaves[layer.W], layer.db: leaves[layer.b]}
            inputs |= {} if layer.is_last else {layer.upstream: values[layer.a]}
        L = values["L"] = reference.loss(
            self.network, self.criterion, values[last.z], self.given["y"], self.class_weight
        )
        backward = dict(zip(inputs, torch.autograd.grad(L, list(inputs.values())), strict=True))
        yhat = values["ŷ"].detach().requires_grad_()
        value = self.criterion.loss.value(yhat, self.given["y"], **self.criterion.parameters(self.class_weight))
        (dL_dyhat,) = torch.autograd.grad(value, yhat)
        every = values | slopes | backward | {last.upstream: dL_dyhat}
        return {name: each.detach() for name, each in every.items()}

    @cached_property
    def training_gradients(self) -> dict[str, Tensor]:
        """The gradients that a training step computes."""
        names = [name for layer in reversed(layers(self.depth)) for name in (layer.W, layer.b)]
        x, y, *parameters = (self.given[name] for name in ("x", "y", *names))
        _, _, found = gradients(self.network, self.criterion, x, y, parameters, self.class_weight)
        return {f"d{name}": gradient for name, gradient in zip(names, found, strict=True)}

    @property
    def nudged_weight(self) -> tuple[str, tuple[int, int]]:
        """The weight with the largest gradient in the first layer where that is at least `MIN_FACTOR`: W and index."""
        upwards, last = layers(self.depth)[::-1], layers(self.depth)[0]
        layer = next((each for each in upwards if float(self.autograd_values[each.dW].abs().max()) >= MIN_FACTOR), last)
        gradient = self.autograd_values[layer.dW]
        return layer.W, divmod(int(gradient.abs().argmax()), gradient.shape[-1])

    def loss_change(self) -> float:
        """The change of L when the nudged weight grows by `NUDGE`."""
        name, place = self.nudged_weight
        W = self.given[name].clone()
        W[place] += NUDGE
        return self.loss_with({name: W}) - self.loss_with({})

    def predicted_change(self, values: dict[str, Tensor]) -> float:
        """The change of L that the gradient among these values predicts."""
        name, place = self.nudged_weight
        return float(values[f"d{name}"][place]) * NUDGE

    def updated_parameters(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parameters after one gradient descent step with the gradients among these values."""
        names = [name for layer in layers(self.depth) for name in (layer.W, layer.b)]
        return {name: self.given[name] - RATE * values[f"d{name}"] for name in names}

    def smallest_factor(self) -> float:
        """The smallest nonzero factor, computed by autograd; 0 if the example is unsuitable.

        It is unsuitable if a unit is dead, if the nudge crosses a kink, or if the update does not reduce the loss.
        """
        values, factors = self.autograd_values, []
        for layer in layers(self.depth):
            factors.append(values[layer.upstream])
            if self.activations[layer.index].flat:
                break  # the gradients of the layers below are 0
            if not bool((values[layer.delta] != 0).any(0).all()):
                return 0.0
            factors += [values[layer.slope], values[layer.delta]]
        is_too_long = self.loss_with(self.updated_parameters(values)) >= float(values["L"])
        if is_too_long or not changes_agree(self.loss_change(), self.predicted_change(values)):
            return 0.0
        return min(float(each[each != 0].abs().min()) if bool(each.any()) else 0.0 for each in factors)


def units(hidden: Sequence[int]) -> list[int]:
    """The example's hidden units: the network's own where all layers are small, else `H` in each layer."""
    return [*hidden] if max(hidden, default=0) <= MOST_UNITS else [H] * len(hidden)


def draw(
    network: Network, criterion: Criterion, class_weight: Tensor | None, hidden: Sequence[int], seed: int
) -> Example:
    """The first of `TRIES` examples with these hidden units in which every factor is at least `MIN_FACTOR`.

    If there is none (δ vanishes in a deep network), the one whose smallest factor is the largest.
    """
    generator = torch.Generator().manual_seed(seed)
    best, best_size = None, -1.0
    for _ in range(TRIES):
        numbers = _numbers(network, criterion, hidden, generator)
        example = Example(network, criterion, class_weight, len(hidden) + 1, numbers)
        size = example.smallest_factor()
        if size > best_size:
            best, best_size = example, size
        if size >= MIN_FACTOR:
            break
    assert best is not None
    return best


def _numbers(
    network: Network, criterion: Criterion, hidden: Sequence[int], generator: torch.Generator
) -> dict[str, Tensor]:
    """Random numbers with two decimals; each layer is drawn again until none of its units is dead."""

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale * 100).round() / 100

    h = random(B, D)
    given = {"x": h, "y": _target(criterion, generator)}
    for layer, (n, m) in zip(layers(len(hidden) + 1)[::-1], pairwise([D, *hidden, C]), strict=True):
        for _ in range(TRIES):
            given[layer.W], given[layer.b] = random(n, m, scale=n**-0.5), random(m, scale=0.5)
            z = reference.affine(h, given[layer.W], given[layer.b])
            is_alive = _slope(network, layer, z).reshape(B, -1, m) != 0
            if bool(is_alive.any(0).all() and is_alive.any(-1).all()):
                break
        h = reference.module(_activation(network, layer))(z)
    return given


def _target(criterion: Criterion, generator: torch.Generator) -> Tensor:
    loss = criterion.loss
    if loss.target == "classes":
        return torch.arange(B) % C
    if loss.target == "counts":
        return torch.randint(4, (B, C), generator=generator).double()
    if loss.probabilities:
        return torch.randint(2, (B, C), generator=generator).double()
    return (torch.randn(B, C, generator=generator, dtype=torch.float64) * 10).round() / 10


def _activation(network: Network, layer: Layer) -> str:
    return network.output_activation if layer.is_last else network.g_name(layer.index)


def _slope(network: Network, layer: Layer, z: Tensor) -> Tensor:
    """g′(z) (B, n), or the Jacobian (B, n, n), by autograd."""
    name = _activation(network, layer)
    z = z.detach().requires_grad_()
    a = reference.module(name)(z)
    if is_elementwise(ACTIVATIONS[name]):
        return torch.autograd.grad(a.sum(), z)[0]
    rows = [torch.autograd.grad(each.sum(), z, retain_graph=True)[0] for each in a.unbind(-1)]
    return torch.stack(rows, -2)  # one sample does not depend on another


def changes_agree(change: float, predicted: float) -> bool:
    """Whether L changes as the gradient predicts, up to the curvature."""
    return abs(change - predicted) <= CURVATURE_TOLERANCE * max(abs(change), abs(predicted))


def is_close(value: Tensor, expected: Tensor) -> bool:
    """Whether the two differ only by rounding."""
    return float((value - expected).abs().max()) <= LIMIT * max(float(expected.abs().max()), 1.0)
