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

from backhand.calculus.activations import ACTIVATIONS, Activation, cast_like, upcast
from backhand.calculus.feedback import HiddenLayer, Rule
from backhand.calculus.losses import LOSSES, Loss
from backhand.errors import UserError


@dataclass(frozen=True)
class Network:
    """A network without its parameters: the names of its activations, and its backward rule.

    Attributes:
        hidden_activation: g, one name for all hidden layers, or one for each.
        output_activation: f.
        rule: the backward rule of the hidden layers; None for backpropagation.
        feedback: for each hidden layer, the names of the rule's tensors.
        trained: for each of these tensors in order, whether it receives the updates of its W.
        settings: the rule's settings, by name.
    """

    hidden_activation: str | Sequence[str]
    output_activation: str
    rule: Rule | None = None
    feedback: tuple[tuple[str, ...], ...] = ()
    trained: tuple[bool, ...] = ()
    settings: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.hidden_activation, str):
            object.__setattr__(self, "hidden_activation", tuple(self.hidden_activation))  # torch.compile needs a hash

    def g_name(self, layer: int = 0) -> str:
        """The name of a hidden layer's activation; layers are counted from 0."""
        return self.hidden_activation if isinstance(self.hidden_activation, str) else self.hidden_activation[layer]

    def g(self, layer: int = 0) -> Activation:
        """A hidden layer's activation."""
        return ACTIVATIONS[self.g_name(layer)]

    @property
    def f(self) -> Activation:
        """The output layer's activation."""
        return ACTIVATIONS[self.output_activation]

    def split(self, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """The parameters W_1, b_1, W_2, …, and the rule's tensors, which stand behind them."""
        count = len(tensors) - len(self.trained)
        return tensors[:count], tensors[count:]


@dataclass(frozen=True)
class Criterion:
    """A loss by name, with its settings that are single numbers, such as `(("label_smoothing", 0.1),)`."""

    name: str
    settings: tuple[tuple[str, float], ...] = ()

    @property
    def loss(self) -> Loss:
        return LOSSES[self.name]

    def parameters(self, class_weight: Tensor | None) -> dict[str, Any]:
        """All settings by name; `class_weight` (C,) is passed as the loss's tensor parameter, where it has one."""
        settings: dict[str, Any] = dict(self.settings)
        if class_weight is not None and self.loss.tensor_parameter is not None:
            settings[self.loss.tensor_parameter] = class_weight
        return settings


# MKL is slow where a layer has so many times fewer outputs than inputs, unless the narrow matrix lies the other way
# round: with h (512, 1024) and 10 outputs, 889 and 510 µs for h W + b, 1306 and 264 µs for hᵀ δ.
NARROW = 16


def preactivation(h: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """`z = h W + b`: (…, B, n), (…, n, m), (…, m) → (…, B, m)."""
    # One kernel, which rounds once instead of twice; the batched one gives each run the bits of a single network.
    if W.dim() == 3:
        W = W.mT.contiguous().mT if _has_few_outputs(W) else W
        return torch.baddbmm(b.unsqueeze(-2), h.expand(len(W), *h.shape[-2:]), W)
    if W.dim() > 3:
        return h @ W + b.unsqueeze(-2)
    if _has_few_outputs(W) or h.dim() > 2:
        return torch.nn.functional.linear(h, W.mT.contiguous() if _has_few_outputs(W) else W.mT, b)
    return torch.addmm(b, h, W)


def _has_few_outputs(W: Tensor) -> bool:
    return W.shape[-1] * NARROW <= W.shape[-2]


def output_delta(network: Network, dL_dyhat: Tensor, saved: Tensor) -> Tensor:
    """`δ_O = ∂L/∂ŷ ⊙ f′(z_O)`, a Jacobian product where f is not elementwise: (…, B, C), (…, B, C) → (…, B, C).

    `saved` is ŷ, or z_O where that is what the derivative of f reads.
    """
    return network.f.delta(dL_dyhat, saved)


def loss_delta(
    network: Network,
    criterion: Criterion,
    z_O: Tensor,
    y: Tensor,
    class_weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """`δ_O` of a loss: its closed form where loss and output are a matched pair, the general rule otherwise.

    Shapes: z_O (…, B, C), y (…, B) or (…, B, C), class_weight (C,), sample_weight (…, B) → (…, B, C), in float32 for
    half-precision z_O.
    """
    z_O = upcast(z_O)
    y = _match_dtype(y, z_O)
    if sample_weight is None:
        return _delta(network, criterion, z_O, y, class_weight)
    share = sample_share(sample_weight, y, class_weight, z_O).unsqueeze(-1)
    each = _delta(network, criterion, z_O.unsqueeze(-2), _as_runs(y), class_weight).squeeze(-2)
    return (each * share).where(share != 0, 0.0)


def _delta(network: Network, criterion: Criterion, z_O: Tensor, y: Tensor, class_weight: Tensor | None) -> Tensor:
    loss, parameters = criterion.loss, criterion.parameters(class_weight)
    if loss.matched == network.output_activation:
        return loss.matched_delta(z_O, y, **parameters)
    yhat = network.f(z_O)
    saved = yhat if network.f.reads == "a" else z_O
    return output_delta(network, loss.derivative(yhat, y, **parameters), saved)


def hidden_delta(g: Activation, delta: Tensor, W: Tensor, saved: Tensor) -> Tensor:
    """`δ_I = (δ_O W_Oᵀ) ⊙ g′(z_I)`: (…, B, m), (…, n, m), (…, B, n) → (…, B, n).

    `delta` and `W` are those of the layer above. `saved` is h, or z_I where that is what the derivative of g reads.
    """
    return g.delta(delta @ W.mT, saved)


def delta_of_layer(
    network: Network, i: int, delta: Tensor, W: Tensor, saved: Tensor, delta_O: Tensor, feedback: Sequence[Tensor]
) -> Tensor:
    """The δ (…, B, n) of the hidden layer i: `hidden_delta`, or the network's rule in its place.

    `delta` and `W` are those of the layer above; `feedback` holds the rule's tensors of all layers.

    Raises:
        UserError: the rule returns anything but a tensor of that shape.
    """
    g = network.g(i)
    if network.rule is None:
        return hidden_delta(g, delta, W, saved)
    slope = g.derivative(upcast(saved)).expand(saved.shape)
    before = sum(map(len, network.feedback[:i]))
    tensors = dict(zip(network.feedback[i], feedback[before:], strict=False))
    layer = HiddenLayer(i, delta_O, tensors, saved if g.flat else None, dict(network.settings), network.rule.where)
    return check_delta(network.rule.hidden_delta(delta, W, cast_like(slope, delta), layer), delta, saved, layer)


def check_delta(found: Any, delta: Tensor, like: Tensor, layer: HiddenLayer) -> Tensor:
    """What a rule returned, if it is a layer's δ: a tensor of the type of `delta` and of the shape of `like`.

    Raises:
        UserError: it is not such a tensor.
    """
    where = f"{layer.where}: the rule returned"
    if not isinstance(found, Tensor):
        raise UserError(f"{where} {type(found).__name__}, not a torch.Tensor")
    if found.shape != like.shape:
        raise UserError(f"{where} a δ of the shape {tuple(found.shape)}; must be that of g′(z), {tuple(like.shape)}")
    if found.dtype != delta.dtype:
        raise UserError(f"{where} a δ of {found.dtype}; must be of the type of delta, {delta.dtype}")
    return found


def weight_gradient(h: Tensor, delta: Tensor) -> Tensor:
    """`∇W = hᵀ δ`: (…, B, n), (…, B, m) → (…, n, m)."""
    if delta.shape[-1] * NARROW <= h.shape[-1]:
        return (delta.mT @ h).mT
    return h.mT @ delta


def bias_gradient(delta: Tensor) -> Tensor:
    """`∇b = Σ_B δ`: (…, B, m) → (…, m)."""
    return delta.sum(-2)


def input_gradient(delta: Tensor, W: Tensor) -> Tensor:
    """`∇x = δ_I W_Iᵀ`: (…, B, H), (…, D, H) → (…, B, D); with the layer above, `∂L/∂h = δ_O W_Oᵀ`."""
    return delta @ W.mT


def loss_value(
    network: Network,
    criterion: Criterion,
    z_O: Tensor,
    y: Tensor,
    class_weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """`L`, one number a run: z_O (…, B, C), y (…, B) or (…, B, C), class_weight (C,), sample_weight (…, B) → (…).

    In float32 for half-precision z_O. With weights s it is `Σ_i s_i L_i / Σ_i s_i` over the samples.
    """
    z_O = upcast(z_O)
    y = _match_dtype(y, z_O)
    if sample_weight is None:
        return _value(network, criterion, z_O, y, class_weight)
    share = sample_share(sample_weight, y, class_weight, z_O)
    each = _value(network, criterion, z_O.unsqueeze(-2), _as_runs(y), class_weight)
    return (each * share).where(share != 0, 0.0).sum(-1)


def _value(network: Network, criterion: Criterion, z_O: Tensor, y: Tensor, class_weight: Tensor | None) -> Tensor:
    loss, parameters = criterion.loss, criterion.parameters(class_weight)
    if loss.matched == network.output_activation:
        return loss.matched_value(z_O, y, **parameters)
    return loss.value(network.f(z_O), y, **parameters)


def sample_share(sample_weight: Tensor, y: Tensor, class_weight: Tensor | None, like: Tensor) -> Tensor:
    """Each sample's share of the loss (…, B): the shares sum to one, or are all 0 where every sample weight is 0.

    A single sample's loss is divided by the weight of its class; the share multiplies by it again.
    """
    s = sample_weight.to(like.dtype)
    if class_weight is not None and not y.is_floating_point():
        s = s * class_weight.to(like.dtype)[y]
    return s / s.sum(-1, keepdim=True).clamp(min=torch.finfo(like.dtype).tiny)


def _as_runs(y: Tensor) -> Tensor:
    """Each sample as a run with a batch of one, so that the formulas give one value per sample."""
    return y.unsqueeze(-2) if y.is_floating_point() else y.unsqueeze(-1)


def forward(network: Network, x: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """`h = g(x W_I + b_I)`, layer by layer, then `z_O = h W_O + b_O`.

    Args:
        network: the activations.
        x: the input (…, B, D).
        parameters: W_1, b_1, W_2, b_2, ….

    Returns:
        z_O (…, B, C), each hidden layer's activation h (…, B, H), and what the derivative of its g reads, h or z.
    """
    hidden: list[Tensor] = []
    saved: list[Tensor] = []
    h = x
    for i in range(len(parameters) // 2 - 1):
        g = network.g(i)
        z = preactivation(h, parameters[2 * i], parameters[2 * i + 1])
        h = g(z)
        hidden.append(h)
        saved.append(h if g.reads == "a" else z)
    return preactivation(h, parameters[-2], parameters[-1]), hidden, saved


def backward(
    network: Network,
    delta: Tensor,
    x: Tensor,
    hidden: Sequence[Tensor],
    saved: Sequence[Tensor],
    weights: Sequence[Tensor],
    needs_grad: Sequence[bool],
    feedback: Sequence[Tensor] = (),
) -> list[Tensor | None]:
    """The delta recursion, from δ_O to the first layer that needs a gradient.

    Args:
        network: the activations.
        delta: δ_O (…, B, C).
        x: the input (…, B, D).
        hidden: each hidden layer's activation, from `forward`.
        saved: what the derivative of each g reads, from `forward`.
        weights: every layer's weight, first layer first.
        needs_grad: whether each of x, W_1, b_1, W_2, b_2, …, and of `feedback`, needs its gradient; the others
            are not computed.
        feedback: the tensors of the network's rule. A trained one has the gradient of its W.

    Returns:
        The gradients of x, W_1, b_1, W_2, b_2, …, and of `feedback`; None where it is not needed.
    """
    found: list[Tensor | None] = [None] * len(needs_grad)
    layer_inputs, delta_O = [x, *hidden], delta
    for i in reversed(range(len(weights))):
        if needs_grad[2 * i + 1]:
            found[2 * i + 1] = weight_gradient(layer_inputs[i], delta)
        if needs_grad[2 * i + 2]:
            found[2 * i + 2] = bias_gradient(delta)
        if not any(needs_grad[: 2 * i + 1]):
            break
        if i == 0:
            found[0] = input_gradient(delta, weights[0])
        else:
            delta = delta_of_layer(network, i - 1, delta, weights[i], saved[i - 1], delta_O, feedback)
    if any(needs_grad[2 * len(weights) + 1 :]):
        above = [i for i, names in enumerate(network.feedback, start=1) for _ in names]  # the layer whose W it follows
        for place, i in enumerate(above, start=2 * len(weights) + 1):
            found[place] = found[2 * i + 1] if needs_grad[place] else None
    return found


def gradients(
    network: Network,
    criterion: Criterion,
    x: Tensor,
    y: Tensor,
    parameters: Sequence[Tensor],
    class_weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
    feedback: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The loss and its gradients, as one plain function of tensors.

    It does not use autograd, so `torch.compile` compiles it without a graph break.

    Returns:
        L (…), z_O (…, B, C), and the gradients of W_1, b_1, W_2, b_2, …, and of the trained tensors of `feedback`.
    """
    z_O, hidden, saved = forward(network, x, parameters)
    L = loss_value(network, criterion, z_O, y, class_weight, sample_weight)
    delta = cast_like(loss_delta(network, criterion, z_O, y, class_weight, sample_weight), z_O)
    needs_grad = [False] + [True] * len(parameters) + list(network.trained)
    _, *found = backward(network, delta, x, hidden, saved, parameters[::2], needs_grad, feedback)
    return L, z_O, [each for each in found if each is not None]


def tangent(
    network: Network, x: Tensor, parameters: Sequence[Tensor], directions: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor]:
    """z_O and its change along a direction: `dz = dh W + h dW + db`, `dh = g′(z) ⊙ dz`, layer by layer.

    Args:
        network: the activations.
        x: the input (…, B, D).
        parameters: W_1, b_1, W_2, b_2, ….
        directions: the change of x and of each parameter, of its shape; None for no change.

    Returns:
        z_O and dz_O (…, B, C).
    """
    z_O, hidden, saved = forward(network, x, parameters)
    dh, *changes = directions
    for i, h in enumerate([x, *hidden]):
        W, dW, db = parameters[2 * i], changes[2 * i], changes[2 * i + 1]
        dz = torch.zeros_like(z_O if i == len(hidden) else hidden[i])
        if dh is not None:
            dz = dz + dh @ W
        if dW is not None:
            dz = dz + h @ dW
        if db is not None:
            dz = dz + db.unsqueeze(-2)
        if i < len(hidden):
            dh = network.g(i).delta(dz, saved[i])  # the Jacobian is symmetric
    return z_O, dz


def _match_dtype(y: Tensor, z: Tensor) -> Tensor:
    return cast_like(y, z) if y.is_floating_point() else y
