"""The numbers of the printed derivation: a network small enough for a pocket calculator, in which no factor is 0."""

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
# One weight is changed by so much, and an update takes a step of so much.
NUDGE, RATE = 1e-3, 0.1
# The gradient ignores the curvature: by such a share of itself the loss may move otherwise than the gradient says.
CURVATURE_TOLERANCE = 0.02
# Numbers are drawn again, so many times at most, until no factor is smaller.
MIN_FACTOR, TRIES = 1e-2, 50
# Of what autograd has, in float64; what is above it is no rounding.
LIMIT = 1e-12


@dataclass(frozen=True, eq=False)
class Example:
    """A network with numbers.

    Attributes:
        network, criterion, class_weight: what is derived; `class_weight` (C,) is the loss's own, or None.
        depth: layers with weights.
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
        """What each step gives."""
        return evaluate_steps((*self.forward, *self.backward), self.given)

    def loss_with(self, changed: dict[str, Tensor]) -> float:
        """L with other parameters."""
        return float(evaluate_steps(self.forward, self.given | changed)["L"])

    @cached_property
    def autograd_values(self) -> dict[str, Tensor]:
        """The value of each step from torch's own modules and graph."""
        leaves = {name: value.clone().requires_grad_() for name, value in self.given.items() if name != "y"}
        values, found, last = dict(leaves), {}, Layer(self.depth - 1, self.depth)
        wanted = {"dx": leaves["x"]}
        for layer in layers(self.depth)[::-1]:
            z = values[layer.z] = reference.affine(values[layer.input], leaves[layer.W], leaves[layer.b])
            values[layer.a] = reference.module(_activation(self.network, layer))(z)
            found[layer.slope] = _slope(self.network, layer, z)
            wanted |= {layer.delta: z, layer.dW: leaves[layer.W], layer.db: leaves[layer.b]}
            wanted |= {} if layer.is_last else {layer.upstream: values[layer.a]}
        L = values["L"] = reference.loss(
            self.network, self.criterion, values[last.z], self.given["y"], self.class_weight
        )
        backward = dict(zip(wanted, torch.autograd.grad(L, list(wanted.values())), strict=True))
        yhat = values["ŷ"].detach().requires_grad_()
        value = self.criterion.loss.value(yhat, self.given["y"], **self.criterion.parameters(self.class_weight))
        (found[last.upstream],) = torch.autograd.grad(value, yhat)
        return {name: each.detach() for name, each in (values | found | backward).items()}

    @cached_property
    def training_gradients(self) -> dict[str, Tensor]:
        """The gradients that a training step computes."""
        names = [name for layer in reversed(layers(self.depth)) for name in (layer.W, layer.b)]
        x, y, *parameters = (self.given[name] for name in ("x", "y", *names))
        _, _, found = gradients(self.network, self.criterion, x, y, parameters, self.class_weight)
        return {f"d{name}": gradient for name, gradient in zip(names, found, strict=True)}

    @property
    def nudged_weight(self) -> tuple[str, tuple[int, int]]:
        """The weight with the largest gradient in the lowest layer that has a clear one: its matrix and its place."""
        up, last = layers(self.depth)[::-1], layers(self.depth)[0]
        layer = next((each for each in up if float(self.autograd_values[each.dW].abs().max()) >= MIN_FACTOR), last)
        gradient = self.autograd_values[layer.dW]
        return layer.W, divmod(int(gradient.abs().argmax()), gradient.shape[-1])

    def loss_change(self) -> float:
        """What L moves by when that weight grows by `NUDGE`."""
        name, place = self.nudged_weight
        W = self.given[name].clone()
        W[place] += NUDGE
        return self.loss_with({name: W}) - self.loss_with({})

    def predicted_change(self, values: dict[str, Tensor]) -> float:
        """What it moves by according to the gradient among these values."""
        name, place = self.nudged_weight
        return float(values[f"d{name}"][place]) * NUDGE

    def updated_parameters(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parameters after one step along the gradients among these values."""
        names = [name for layer in layers(self.depth) for name in (layer.W, layer.b)]
        return {name: self.given[name] - RATE * values[f"d{name}"] for name in names}

    def smallest_factor(self) -> float:
        """The smallest factor that is not 0, as autograd has it; 0 where the numbers would not teach.

        That is where a unit is dead, where a kink lies within the nudge's reach, and where the update is too long.
        """
        values, factors = self.autograd_values, []
        for layer in layers(self.depth):
            factors.append(values[layer.upstream])
            if self.activations[layer.index].flat:
                break  # nothing comes through to the layers below
            if not bool((values[layer.delta] != 0).any(0).all()):
                return 0.0
            factors += [values[layer.slope], values[layer.delta]]
        if not changes_agree(self.loss_change(), self.predicted_change(values)) or self.loss_with(
            self.updated_parameters(values)
        ) >= float(values["L"]):
            return 0.0
        return min(float(each[each != 0].abs().min()) if bool(each.any()) else 0.0 for each in factors)


def draw(network: Network, criterion: Criterion, class_weight: Tensor | None, depth: int, seed: int) -> Example:
    """The first example in which every factor is clearly not 0.

    Where there is none (δ vanishes in a deep network), it is the one whose smallest factor is the largest.
    """
    generator = torch.Generator().manual_seed(seed)
    best, best_size = None, -1.0
    for _ in range(TRIES):
        example = Example(network, criterion, class_weight, depth, _numbers(network, criterion, depth, generator))
        size = example.smallest_factor()
        if size > best_size:
            best, best_size = example, size
        if size >= MIN_FACTOR:
            break
    assert best is not None
    return best


def _numbers(network: Network, criterion: Criterion, depth: int, generator: torch.Generator) -> dict[str, Tensor]:
    """With two decimals; each layer is drawn again until none of its units is dead."""

    def drawn(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale * 100).round() / 100

    h = drawn(B, D)
    given = {"x": h, "y": _target(criterion, generator)}
    for layer, (n, m) in zip(layers(depth)[::-1], pairwise([D, *[H] * (depth - 1), C]), strict=True):
        for _ in range(TRIES):
            given[layer.W], given[layer.b] = drawn(n, m, scale=n**-0.5), drawn(m, scale=0.5)
            z = reference.affine(h, given[layer.W], given[layer.b])
            is_alive = _slope(network, layer, z).reshape(B, -1, m) != 0
            if bool(is_alive.any(0).all() and is_alive.any(-1).all()):
                break
        h = reference.module(_activation(network, layer))(z)
    return given


def _target(criterion: Criterion, generator: torch.Generator) -> Tensor:
    kind = criterion.loss
    if kind.target == "classes":
        return torch.arange(B) % C
    if kind.target == "counts":
        return torch.randint(4, (B, C), generator=generator).double()
    if kind.probabilities:
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
    of_each = [torch.autograd.grad(each.sum(), z, retain_graph=True)[0] for each in a.unbind(-1)]
    return torch.stack(of_each, -2)  # samples do not mix


def changes_agree(moved: float, promised: float) -> bool:
    """Whether L moves as the gradient says, but for the curvature."""
    return abs(moved - promised) <= CURVATURE_TOLERANCE * max(abs(moved), abs(promised))


def is_close(value: Tensor, expected: Tensor) -> bool:
    """Whether the two differ by rounding."""
    return float((value - expected).abs().max()) <= LIMIT * max(float(expected.abs().max()), 1.0)
