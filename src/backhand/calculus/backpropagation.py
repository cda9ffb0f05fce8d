"""The forward and the backward pass, line by line as they are derived in `docs/derivation.md`.

One sample a row: x (…, B, D), W_I (…, D, H), b_I (…, H), h (…, B, H), W_O (…, H, C), b_O (…, C), z_O (…, B, C). The
dots are an optional run axis: K independent networks in the same tensors. A batch x (B, D) without it is shared by all
K. Each line serves both cases. A network of any depth repeats the hidden step; `hidden=[]` leaves it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backhand.calculus.activations import ACTIVATIONS, Activation, wide
from backhand.calculus.losses import LOSSES, Loss


@dataclass(frozen=True)
class Network:
    """What is fixed about a network: the names of its activations g (hidden) and f (output)."""

    hidden_activation: str
    output_activation: str

    @property
    def g(self) -> Activation:
        """The hidden layers' activation."""
        return ACTIVATIONS[self.hidden_activation]

    @property
    def f(self) -> Activation:
        """The output layer's activation."""
        return ACTIVATIONS[self.output_activation]


@dataclass(frozen=True)
class Criterion:
    """A loss by name, with its settings that are single numbers, such as `(("label_smoothing", 0.1),)`."""

    name: str
    settings: tuple[tuple[str, float], ...] = ()

    @property
    def loss(self) -> Loss:
        """The loss."""
        return LOSSES[self.name]

    def parameters(self, weight: Tensor | None) -> dict[str, Any]:
        """All its settings by name; `weight` (C,) is the one that is a tensor, where the loss has one."""
        settings: dict[str, Any] = dict(self.settings)
        if weight is not None and self.loss.weight is not None:
            settings[self.loss.weight] = weight
        return settings


@dataclass
class Gradients:
    """∂L/∂ of everything that was asked for; None where it was not.

    Attributes:
        x: like the input.
        weights: like each weight, first layer first.
        biases: like each bias, first layer first.
    """

    x: Tensor | None
    weights: list[Tensor | None]
    biases: list[Tensor | None]


def preactivation(h: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """`z = h W + b`: (…, B, n), (…, n, m), (…, m) → (…, B, m)."""
    if W.dim() == 2:
        return torch.nn.functional.linear(h, W.mT, b)  # the same in one kernel, which rounds once instead of twice
    return h @ W + b.unsqueeze(-2)


def output_delta(network: Network, dL_dyhat: Tensor, kept: Tensor) -> Tensor:
    """`δ_O = ∂L/∂ŷ ⊙ f′(z_O)`, a Jacobian product where f is not elementwise: (…, B, C), (…, B, C) → (…, B, C).

    `kept` is ŷ, or z_O where that is what the derivative of f reads.
    """
    return network.f.delta(dL_dyhat, kept)


def loss_delta(network: Network, criterion: Criterion, z_O: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """`δ_O` of a loss: its closed form where loss and output are a matched pair, the general rule otherwise.

    Shapes: z_O (…, B, C), y (…, B) or (…, B, C), weight (C,) → (…, B, C), in float32 for half-precision z_O.
    """
    L, parameters = criterion.loss, criterion.parameters(weight)
    z_O = wide(z_O)
    y = _like(y, z_O)
    if L.matched == network.output_activation:
        return L.matched_delta(z_O, y, **parameters)
    yhat = network.f(z_O)
    kept = yhat if network.f.reads == "a" else z_O
    return output_delta(network, L.derivative(yhat, y, **parameters), kept)


def hidden_delta(network: Network, delta: Tensor, W: Tensor, kept: Tensor) -> Tensor:
    """`δ_I = (δ_O W_Oᵀ) ⊙ g′(z_I)`: (…, B, m), (…, n, m), (…, B, n) → (…, B, n).

    `kept` is h, or z_I where that is what the derivative of g reads.
    """
    return network.g.delta(delta @ W.mT, kept)


def weight_gradient(h: Tensor, delta: Tensor) -> Tensor:
    """`∇W = hᵀ δ`: (…, B, n), (…, B, m) → (…, n, m)."""
    return h.mT @ delta


def bias_gradient(delta: Tensor) -> Tensor:
    """`∇b = Σ_B δ`: (…, B, m) → (…, m)."""
    return delta.sum(-2)


def input_gradient(delta: Tensor, W: Tensor) -> Tensor:
    """`∇x = δ_I W_Iᵀ`: (…, B, H), (…, D, H) → (…, B, D)."""
    return delta @ W.mT


def updated(theta: Tensor, gradient: Tensor, alpha: float) -> Tensor:
    """One step of gradient descent, `θ ← θ − α ∇θ`."""
    return theta - alpha * gradient


def loss_value(network: Network, criterion: Criterion, z_O: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """`L`, one number a run: z_O (…, B, C), y (…, B) or (…, B, C), weight (C,) → (…).

    In float32 for half-precision z_O.
    """
    L, parameters = criterion.loss, criterion.parameters(weight)
    z_O = wide(z_O)
    y = _like(y, z_O)
    if L.matched == network.output_activation:
        return L.matched_value(z_O, y, **parameters)
    return L.value(network.f(z_O), y, **parameters)


def forward(
    network: Network, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """`h = g(x W_I + b_I)`, layer by layer, then `z_O = h W_O + b_O`.

    Returns:
        z_O (…, B, C), the hidden activations, each (…, B, H), first layer first, and the hidden pre-activations where
        the derivative of g reads them, else none.
    """
    hidden: list[Tensor] = []
    preactivations: list[Tensor] = []
    h = x
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        z = preactivation(h, W, b)
        h = network.g(z)
        hidden.append(h)
        if network.g.reads == "z":
            preactivations.append(z)
    return preactivation(h, weights[-1], biases[-1]), hidden, preactivations


def backward(
    network: Network,
    delta: Tensor,
    x: Tensor,
    hidden: Sequence[Tensor],
    preactivations: Sequence[Tensor],
    weights: Sequence[Tensor],
    wanted: Sequence[bool],
    upstream: Sequence[Tensor | None] = (),
) -> Gradients:
    """The delta recursion, from δ_O down to the lowest layer that a wanted gradient needs.

    Args:
        network: the activations.
        delta: δ_O (…, B, C).
        x: the input (…, B, D).
        hidden: what `forward` returned.
        preactivations: what `forward` returned.
        weights: every layer's weight, first layer first.
        wanted: whether each of x, W_1, b_1, W_2, b_2, … needs its gradient; the others cost nothing.
        upstream: gradients that reach the hidden activations, and then the pre-activations, by another way than through
            the layer above, as in the derivative of this very pass; one entry for each of them or none at all.
    """
    layers = len(weights)
    gradients = Gradients(None, [None] * layers, [None] * layers)
    lowest = next((i for i in range(layers) if any(wanted[: 2 * i + 3])), layers)
    for i in reversed(range(lowest, layers)):
        below = hidden[i - 1] if i > 0 else x
        if wanted[2 * i + 1]:
            gradients.weights[i] = weight_gradient(below, delta)
        if wanted[2 * i + 2]:
            gradients.biases[i] = bias_gradient(delta)
        if i > lowest:
            kept = preactivations[i - 1] if preactivations else below
            delta = hidden_delta(network, delta, weights[i], kept)
            if upstream and (v := upstream[i - 1]) is not None:
                delta = delta + network.g.delta(v, kept)
            if upstream and preactivations and (v := upstream[layers - 1 + i - 1]) is not None:
                delta = delta + v
    if wanted[0]:
        gradients.x = input_gradient(delta, weights[0])
    return gradients


def tangent(
    network: Network,
    inputs: Sequence[Tensor],
    hidden: Sequence[Tensor],
    preactivations: Sequence[Tensor],
    directions: Sequence[Tensor | None],
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The forward pass differentiated along a direction: `dz = dh W + h dW + db`, `dh = g′(z) ⊙ dz`.

    Args:
        network: the activations.
        inputs: x, W_1, b_1, W_2, b_2, ….
        hidden: what `forward` returned.
        preactivations: what `forward` returned.
        directions: the change of each of the inputs, of its shape; None for no change.

    Returns:
        The change of everything that `forward` returned: dz_O, dh of each hidden layer, and dz of each where the
        derivative of g reads it.
    """
    x, *parameters = inputs
    dh, *changes = directions
    d_hidden: list[Tensor] = []
    d_preactivations: list[Tensor] = []
    below = x
    layers = len(parameters) // 2
    for i in range(layers):
        W, dW, db = parameters[2 * i], changes[2 * i], changes[2 * i + 1]
        size = (*torch.broadcast_shapes(below.shape[:-2], W.shape[:-2]), below.shape[-2], W.shape[-1])
        dz = below.new_zeros(size)
        if dh is not None:
            dz = dz + dh @ W
        if dW is not None:
            dz = dz + below @ dW
        if db is not None:
            dz = dz + db.unsqueeze(-2)
        if i == layers - 1:
            break
        below = hidden[i]
        dh = network.g.delta(dz, preactivations[i] if preactivations else below)  # the Jacobian is symmetric
        d_hidden.append(dh)
        if preactivations:
            d_preactivations.append(dz)
    return dz, d_hidden, d_preactivations


def _like(y: Tensor, z: Tensor) -> Tensor:
    return y.to(z.dtype) if y.is_floating_point() else y
