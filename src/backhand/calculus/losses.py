"""Every loss: its value and its derivative, side by side, and the output activation it is matched with.

To add one, write one entry of `LOSSES`. Like `activations`, this file imports nothing.

`ŷ` and `y` have shape (…, B, C), or y (…, B) where it holds class numbers. A loss is a mean over a run's own samples
(and outputs), as `reduction="mean"` in `torch.nn.functional`, so its value has the shape (…) of the run axis: a scalar
for one network, one number a run for K of them.

With its matched output activation a loss is computed from `z_O` in a form that neither overflows nor takes the
logarithm of a rounded zero, and its derivative `δ_O = ∂L/∂z_O` collapses to `(ŷ − y)/N`. Every other output goes
through the general rule, `δ_O = ∂L/∂ŷ ⊙ f′(z_O)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A loss `L(ŷ, y)`.

    Attributes:
        value: ŷ, y → L, shape (…).
        derivative: ŷ, y → ∂L/∂ŷ (…, B, C).
        matched: the output activation f whose derivative cancels against the loss's.
        matched_value: z_O, y → L(f(z_O), y), shape (…), stable for any z_O.
        matched_delta: z_O, y → δ_O (…, B, C), stable for any z_O.
        target: what y holds: `classes`, whole numbers (…, B), or `values`, one for each output (…, B, C).
        probabilities: whether ŷ must be a probability, so that only outputs in (0, 1) fit.
        distribution: whether the C outputs of a sample must add up to one, so that only softmax fits.
        torch_function: the same loss of (ŷ, y) in `torch.nn.functional`.
        torch_matched: the same loss of (z_O, y) there.
        latex, latex_derivative: L and ∂L/∂ŷ for one sample, for the printed derivation.
    """

    value: Callable[[Tensor, Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]
    matched: str
    matched_value: Callable[[Tensor, Tensor], Tensor]
    matched_delta: Callable[[Tensor, Tensor], Tensor]
    target: Literal["classes", "values"]
    torch_function: str
    torch_matched: str
    latex: str
    latex_derivative: str
    probabilities: bool = False
    distribution: bool = False

    def misfit(self, output: str, output_range: tuple[float, float] | None) -> str | None:
        """Why the output activation does not fit this loss, or None where it does."""
        if self.distribution and output != self.matched:
            return f"needs outputs that are a distribution over the classes: {self.matched}"
        if self.probabilities and output_range != (0, 1):
            return f"needs outputs between 0 and 1: {self.matched}"
        return None


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    """Class numbers (…, B) as rows of zeros and a one, in the shape (…, B, C) and dtype of `like`."""
    return like.new_zeros(like.shape).scatter(-1, _column(index, like), 1)


def _column(index: Tensor, like: Tensor) -> Tensor:
    """Class numbers (…, B) as a column (…, B, 1); a batch that K runs share is repeated for each."""
    return index.expand(like.shape[:-1]).unsqueeze(-1)


def _elements(z: Tensor) -> int:
    return z.shape[-1] * z.shape[-2]


# log(1 + e^z), written so that the exponential never overflows.
def _softplus(z: Tensor) -> Tensor:
    return z.clamp(min=0) + (-z.abs()).exp().log1p()


LOSSES: dict[str, Loss] = {
    "mse": Loss(
        value=lambda p, y: (p - y).square().mean((-2, -1)),
        derivative=lambda p, y: 2 * (p - y) / _elements(p),
        matched="identity",
        matched_value=lambda z, y: (z - y).square().mean((-2, -1)),
        matched_delta=lambda z, y: 2 * (z - y) / _elements(z),
        target="values",
        torch_function="mse_loss",
        torch_matched="mse_loss",
        latex=r"\frac{1}{C} \sum_c (\hat y_c - y_c)^2",
        latex_derivative=r"\frac{2}{C} (\hat y - y)",
    ),
    "binary_cross_entropy": Loss(
        # torch bounds each logarithm below by −100 and the product ŷ(1 − ŷ) below by 1e−12; so does this.
        value=lambda p, y: -(y * p.log().clamp(min=-100) + (1 - y) * (-p).log1p().clamp(min=-100)).mean((-2, -1)),
        derivative=lambda p, y: (p - y) / (p * (1 - p)).clamp(min=1e-12) / _elements(p),
        matched="sigmoid",
        matched_value=lambda z, y: (_softplus(z) - y * z).mean((-2, -1)),
        matched_delta=lambda z, y: (z.sigmoid() - y) / _elements(z),
        target="values",
        torch_function="binary_cross_entropy",
        torch_matched="binary_cross_entropy_with_logits",
        latex=r"-\frac{1}{C} \sum_c y_c \log \hat y_c + (1 - y_c) \log (1 - \hat y_c)",
        latex_derivative=r"\frac{1}{C} \frac{\hat y - y}{\hat y (1 - \hat y)}",
        probabilities=True,
    ),
    "cross_entropy": Loss(
        value=lambda p, y: -p.gather(-1, _column(y, p)).log().mean((-2, -1)),
        derivative=lambda p, y: -_one_hot(y, p) / p / p.shape[-2],
        matched="softmax",
        matched_value=lambda z, y: -z.log_softmax(-1).gather(-1, _column(y, z)).mean((-2, -1)),
        matched_delta=lambda z, y: (z.softmax(-1) - _one_hot(y, z)) / z.shape[-2],
        target="classes",
        torch_function="nll_loss",
        torch_matched="cross_entropy",
        latex=r"-\log \hat y_y",
        latex_derivative=r"-\frac{y}{\hat y}",
        probabilities=True,
        distribution=True,
    ),
}
