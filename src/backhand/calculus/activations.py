"""Every activation: its value and its derivative, side by side.

To add one, write one entry of `ACTIVATIONS`; the command line's choices, the gradient proofs and the conversions to
and from `torch.nn` are read from there. The formulas use the tensor's own methods, so this file imports nothing: the
names can be listed without the seconds that `import torch` costs.

Throughout, `z` is the pre-activation (…, B, n), `a` the activation of the same shape, and `v` = ∂L/∂a.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """An elementwise activation `a = g(z)`, whose derivative can be read off its output.

    Attributes:
        value: z (…, B, n) → a (…, B, n).
        derivative: a (…, B, n) → g′(z), broadcastable to (…, B, n). It takes the output `a`, not `z`, so that `z` need
            not be stored.
        torch_module: the class in `torch.nn` that computes the same.
        latex: g(z), for the printed derivation.
        latex_derivative: g′(z), in z and a.
        hidden: whether it may stand behind a hidden layer.
        range: the open interval that the values lie in, or None where that restricts no loss.
    """

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    torch_module: str
    latex: str
    latex_derivative: str
    hidden: bool = True
    range: tuple[float, float] | None = None

    def delta(self, v: Tensor, a: Tensor) -> Tensor:
        """The chain rule through the activation: `∂L/∂z = ∂L/∂a ⊙ g′(z)`, all of shape (…, B, n)."""
        return v * self.derivative(a)


@dataclass(frozen=True)
class RowActivation(Activation):
    """An activation that mixes the n entries of a row: its derivative is a Jacobian, `derivative(a)` (…, B, n, n)."""

    product: Callable[[Tensor, Tensor], Tensor] = lambda v, a: v
    hidden: bool = False

    def delta(self, v: Tensor, a: Tensor) -> Tensor:
        """The chain rule through the activation: `∂L/∂z = Jᵀ ∂L/∂a` row by row, without forming J."""
        return self.product(v, a)


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(
        value=lambda z: z,
        derivative=lambda a: a.new_ones(()),
        torch_module="Identity",
        latex=r"z",
        latex_derivative=r"1",
    ),
    "relu": Activation(
        value=lambda z: z.relu(),
        derivative=lambda a: (a > 0).to(a.dtype),  # 0 at the kink, as in torch
        torch_module="ReLU",
        latex=r"\max(0, z)",
        latex_derivative=r"[z > 0]",
    ),
    "tanh": Activation(
        value=lambda z: z.tanh(),
        derivative=lambda a: 1 - a * a,
        torch_module="Tanh",
        latex=r"\tanh z",
        latex_derivative=r"1 - a^2",
    ),
    "sigmoid": Activation(
        value=lambda z: z.sigmoid(),
        derivative=lambda a: a * (1 - a),
        torch_module="Sigmoid",
        latex=r"\frac{1}{1 + e^{-z}}",
        latex_derivative=r"a (1 - a)",
        range=(0, 1),
    ),
    "softmax": RowActivation(
        value=lambda z: z.softmax(-1),
        derivative=lambda a: a.diag_embed() - a.unsqueeze(-1) * a.unsqueeze(-2),
        product=lambda v, a: a * (v - (a * v).sum(-1, keepdim=True)),
        torch_module="Softmax",
        latex=r"\frac{e^{z_i}}{\sum_j e^{z_j}}",
        latex_derivative=r"\operatorname{diag}(a) - a a^\top",
        range=(0, 1),
    ),
}

HIDDEN_ACTIVATIONS = tuple(name for name, g in ACTIVATIONS.items() if g.hidden)
