"""The forward and the backward pass, line by line as they are derived in `docs/derivation.md`.

One sample a row: x (…, B, D), W_I (…, D, H), b_I (…, H), h (…, B, H), W_O (…, H, C), b_O (…, C), z_O (…, B, C). The
dots are an optional run axis: K independent networks in the same tensors. A batch x (B, D) without it is shared by all
K. Each line serves both cases. A network of any depth repeats the hidden step; `hidden=[]` leaves it out.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backhand.calculus.activations import ACTIVATIONS, Activation, narrow, wide
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


# MKL is slow where a layer has so many times fewer outputs than inputs, unless the narrow matrix lies the other way
# round: with h (512, 1024) and 10 outputs, 889 and 510 µs for h W + b, 1306 and 264 µs for hᵀ δ.
NARROW = 16


def preactivation(h: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """`z = h W + b`: (…, B, n), (…, n, m), (…, m) → (…, B, m)."""
    # One kernel, which rounds once instead of twice; the batched one gives each run the bits that it has by itself.
    if W.dim() == 3:
        W = W.mT.contiguous().mT if _narrow(W) else W
        return torch.baddbmm(b.unsqueeze(-2), h.expand(len(W), *h.shape[-2:]), W)
    if W.dim() > 3:
        return h @ W + b.unsqueeze(-2)
    if _narrow(W) or h.dim() > 2:
        return torch.nn.functional.linear(h, W.mT.contiguous() if _narrow(W) else W.mT, b)
    return torch.addmm(b, h, W)


def _narrow(W: Tensor) -> bool:
    return W.shape[-1] * NARROW <= W.shape[-2]


def output_delta(network: Network, dL_dyhat: Tensor, kept: Tensor) -> Tensor:
    """`δ_O = ∂L/∂ŷ ⊙ f′(z_O)`, a Jacobian product where f is not elementwise: (…, B, C), (…, B, C) → (…, B, C).

    `kept` is ŷ, or z_O where that is what the derivative of f reads.
    """
    return network.f.delta(dL_dyhat, kept)


def loss_delta(
    network: Network,
    criterion: Criterion,
    z_O: Tensor,
    y: Tensor,
    weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """`δ_O` of a loss: its closed form where loss and output are a matched pair, the general rule otherwise.

    Shapes: z_O (…, B, C), y (…, B) or (…, B, C), weight (C,), sample_weight (…, B) → (…, B, C), in float32 for
    half-precision z_O.
    """
    z_O = wide(z_O)
    y = _like(y, z_O)
    if sample_weight is None:
        return _delta(network, criterion, z_O, y, weight)
    share = sample_share(sample_weight, y, weight, z_O).unsqueeze(-1)
    each = _delta(network, criterion, z_O.unsqueeze(-2), _one_a_batch(y), weight).squeeze(-2)
    return (each * share).where(share != 0, 0.0)


def _delta(network: Network, criterion: Criterion, z_O: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
    L, parameters = criterion.loss, criterion.parameters(weight)
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


def weight_gradient(h: Tensor, delta: Tensor, total: Tensor | None = None) -> Tensor:
    """`∇W = hᵀ δ`: (…, B, n), (…, B, m) → (…, n, m); added to `total` (n, m) in place where one is given."""
    if total is not None:
        return total.addmm_(h.mT, delta)
    if delta.shape[-1] * NARROW <= h.shape[-1]:
        return (delta.mT @ h).mT
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


def loss_value(
    network: Network,
    criterion: Criterion,
    z_O: Tensor,
    y: Tensor,
    weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """`L`, one number a run: z_O (…, B, C), y (…, B) or (…, B, C), weight (C,), sample_weight (…, B) → (…).

    In float32 for half-precision z_O. With weights s it is `Σ_i s_i L_i / Σ_i s_i` over the samples.
    """
    z_O = wide(z_O)
    y = _like(y, z_O)
    if sample_weight is None:
        if weight is None and (pieces := by_rows(z_O)):
            parts = [_value(network, criterion, z_O[rows], y[rows], None) * len(z_O[rows]) for rows in pieces]
            return torch.stack(parts).sum() / len(z_O)
        return _value(network, criterion, z_O, y, weight)
    share = sample_share(sample_weight, y, weight, z_O)
    each = _value(network, criterion, z_O.unsqueeze(-2), _one_a_batch(y), weight)
    return (each * share).where(share != 0, 0.0).sum(-1)


def _value(network: Network, criterion: Criterion, z_O: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
    L, parameters = criterion.loss, criterion.parameters(weight)
    if L.matched == network.output_activation:
        return L.matched_value(z_O, y, **parameters)
    return L.value(network.f(z_O), y, **parameters)


def sample_share(sample_weight: Tensor, y: Tensor, weight: Tensor | None, like: Tensor) -> Tensor:
    """What share of the loss each sample has, (…, B), adding up to one; all 0 where no sample of the batch counts.

    A sample's loss is its own mean, so a class's weight, which that mean divides by, counts here.
    """
    s = sample_weight.to(like.dtype)
    if weight is not None and not y.is_floating_point():
        s = s * weight.to(like.dtype)[y]
    return s / s.sum(-1, keepdim=True).clamp(min=torch.finfo(like.dtype).tiny)


def _one_a_batch(y: Tensor) -> Tensor:
    """Each sample as a run of its own, with a batch of one: the run axis takes it from there."""
    return y.unsqueeze(-2) if y.is_floating_point() else y.unsqueeze(-1)


# Numbers of an output layer beyond which it is gone through in pieces of that size: 8 MB each in float32.
PIECE = 2**21


def by_rows(z_O: Tensor) -> list[slice]:
    """The pieces that a large output layer (B, C) is gone through in, or none where it is taken whole.

    Its temporaries are each as large as z_O, and for many classes they are what the step needs its memory for. Only
    where nothing is differentiated any further, which would keep them all.
    """
    if z_O.dim() != 2 or z_O.numel() <= PIECE or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return []
    rows = max(1, PIECE // z_O.shape[-1])
    return [slice(start, start + rows) for start in range(0, len(z_O), rows)]


def deltas_by_rows(
    network: Network, criterion: Criterion, z_O: Tensor, y: Tensor, pieces: Sequence[slice]
) -> Iterator[tuple[slice, Tensor]]:
    """δ_O (B, C) piece by piece, each a mean over its own rows until it is given its share of the whole."""
    for rows in pieces:
        delta = loss_delta(network, criterion, z_O[rows], y[rows])
        yield rows, narrow(delta.mul_(len(delta) / len(z_O)), z_O)


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
    delta: Tensor | Iterable[tuple[slice, Tensor]],
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
        delta: δ_O (…, B, C), or its pieces by rows, for a network without a run axis.
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
        kept = (preactivations[i - 1] if preactivations else below) if i > lowest else None
        wants = (wanted[2 * i + 1], wanted[2 * i + 2], wanted[0] or i > lowest)
        if isinstance(delta, Tensor):
            dW, db, down = _layer(network, delta, below, kept, weights[i], wants)
        else:
            dW, db, down = _layer_by_rows(network, delta, below, kept, weights[i], wants)
        gradients.weights[i], gradients.biases[i] = dW, db
        if kept is None or down is None:
            gradients.x = down
            break
        if upstream and (v := upstream[i - 1]) is not None:
            down = down + network.g.delta(v, kept)
        if upstream and preactivations and (v := upstream[layers - 1 + i - 1]) is not None:
            down = down + v
        delta = down
    return gradients


def _layer(
    network: Network, delta: Tensor, below: Tensor, kept: Tensor | None, W: Tensor, wants: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """∇W, ∇b, and what goes down to the layer below: its δ, or ∇x under the lowest layer (where `kept` is None)."""
    dW = weight_gradient(below, delta) if wants[0] else None
    db = bias_gradient(delta) if wants[1] else None
    if not wants[2]:
        return dW, db, None
    return dW, db, input_gradient(delta, W) if kept is None else hidden_delta(network, delta, W, kept)


def _layer_by_rows(
    network: Network,
    pieces: Iterable[tuple[slice, Tensor]],
    below: Tensor,
    kept: Tensor | None,
    W: Tensor,
    wants: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The same from the pieces of δ (B, m), one at a time: the gradients are sums over them."""
    dW = W.new_zeros(W.shape) if wants[0] else None
    db = W.new_zeros(W.shape[-1:]) if wants[1] else None
    down = torch.empty_like(below) if wants[2] else None
    for rows, delta in pieces:
        if dW is not None:
            weight_gradient(below[rows], delta, dW)
        if db is not None:
            db += bias_gradient(delta)
        if down is not None:
            down[rows] = input_gradient(delta, W) if kept is None else hidden_delta(network, delta, W, kept[rows])
    return dW, db, down


def gradients(
    network: Network,
    criterion: Criterion,
    x: Tensor,
    y: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor, Gradients]:
    """The loss and its gradients by every weight and bias: the whole derivation as one plain function of tensors.

    Nothing in it asks for autograd, so it can be compiled as it stands; it is what training runs.

    Returns:
        L (…), z_O (…, B, C), and the gradients, ∇x left out.
    """
    z_O, hidden, preactivations = forward(network, x, weights, biases)
    L = loss_value(network, criterion, z_O, y, weight, sample_weight)
    delta: Any
    if sample_weight is None and weight is None and (pieces := by_rows(z_O)):
        delta = deltas_by_rows(network, criterion, z_O, y, pieces)
    else:
        delta = narrow(loss_delta(network, criterion, z_O, y, weight, sample_weight), z_O)
    wanted = [False] + [True] * (2 * len(weights))
    return L, z_O, backward(network, delta, x, hidden, preactivations, weights, wanted)


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
    return narrow(y, z) if y.is_floating_point() else y
