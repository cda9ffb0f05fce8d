"""The forward and the backward pass, line by line as they are derived in `docs/derivation.md`.

One sample a row: x (…, B, D), W_I (…, D, H), b_I (…, H), h (…, B, H), W_O (…, H, C), b_O (…, C), z_O (…, B, C). The
dots are an optional run axis: K independent networks in the same tensors. A batch x (B, D) without it is shared by all
K. Each line serves both cases. A network of any depth repeats the hidden step; `hidden=[]` leaves it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from backhand.calculus.activations import ACTIVATIONS, Activation
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
    return h @ W + b.unsqueeze(-2)


def output_delta(network: Network, dL_dyhat: Tensor, yhat: Tensor) -> Tensor:
    """`δ_O = ∂L/∂ŷ ⊙ f′(z_O)`, a Jacobian product where f is not elementwise: (…, B, C), (…, B, C) → (…, B, C)."""
    return network.f.delta(dL_dyhat, yhat)


def loss_delta(network: Network, loss: str, z_O: Tensor, y: Tensor) -> Tensor:
    """`δ_O` of a loss: its closed form where loss and output are a matched pair, the general rule otherwise.

    Shapes: z_O (…, B, C), y (…, B) or (…, B, C) → (…, B, C).
    """
    L = LOSSES[loss]
    if L.matched == network.output_activation:
        return L.matched_delta(z_O, y)
    yhat = network.f.value(z_O)
    return output_delta(network, L.derivative(yhat, y), yhat)


def hidden_delta(network: Network, delta: Tensor, W: Tensor, h: Tensor) -> Tensor:
    """`δ_I = (δ_O W_Oᵀ) ⊙ g′(z_I)`: (…, B, m), (…, n, m), (…, B, n) → (…, B, n)."""
    return network.g.delta(delta @ W.mT, h)


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


def loss_value(network: Network, loss: str, z_O: Tensor, y: Tensor) -> Tensor:
    """`L`, one number a run: z_O (…, B, C), y (…, B) or (…, B, C) → (…)."""
    L: Loss = LOSSES[loss]
    return L.matched_value(z_O, y) if L.matched == network.output_activation else L.value(network.f.value(z_O), y)


def forward(
    network: Network, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """`h = g(x W_I + b_I)`, layer by layer, then `z_O = h W_O + b_O`.

    Returns:
        z_O (…, B, C) and the hidden activations, each (…, B, H), first layer first.
    """
    hidden: list[Tensor] = []
    h = x
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        h = network.g.value(preactivation(h, W, b))
        hidden.append(h)
    return preactivation(h, weights[-1], biases[-1]), hidden


def backward(
    network: Network,
    delta: Tensor,
    x: Tensor,
    hidden: Sequence[Tensor],
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
        weights: every layer's weight, first layer first.
        wanted: whether each of x, W_1, b_1, W_2, b_2, … needs its gradient; the others cost nothing.
        upstream: gradients that reach the hidden activations by another way than through the layer above, as in the
            derivative of this very pass; one entry a hidden layer or none at all.
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
            delta = hidden_delta(network, delta, weights[i], below)
            if upstream and (v := upstream[i - 1]) is not None:
                delta = delta + network.g.delta(v, below)
    if wanted[0]:
        gradients.x = input_gradient(delta, weights[0])
    return gradients
