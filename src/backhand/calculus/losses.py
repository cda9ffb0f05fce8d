"""Every loss: its value and its derivative, side by side, and its matched output activation.

To add one, write one entry of `LOSSES`, here or in a file of your own (docs/extending.md). Like `activations`, this
file needs no torch.

`ŷ` and `y` have shape (…, B, C), or y (…, B) where it holds class numbers. A loss is a mean over a run's own samples
(and outputs), as `reduction="mean"` in `torch.nn.functional`, so its value has the shape (…) of the run axis: a scalar
for one network, one number a run for K of them.

With its matched output activation a loss is computed from `z_O` in a form that neither overflows nor takes the
logarithm of a rounded zero, and its derivative `δ_O = ∂L/∂z_O` collapses to `(ŷ − y)/N`. Every other output goes
through the general rule, `δ_O = ∂L/∂ŷ ⊙ f′(z_O)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from backhand.calculus.activations import ACTIVATIONS, log1pexp
from backhand.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Parameter:
    """A setting of a loss, besides ŷ and y.

    Attributes:
        low, high: the range, both ends included.
        effect: what it changes in the formulas, as a clause.
        per_output: whether it may be one number per class or output, (C,), instead of one for all.
    """

    low: float
    high: float
    effect: str
    per_output: bool = False

    def allows(self, number: float) -> bool:
        """Whether the number lies in range."""
        return self.low <= number <= self.high

    @property
    def allowed(self) -> str:
        """The range, for a message."""
        bounds = f"between {self.low:g} and {self.high:g}"
        return f"a number or a list of numbers, each {bounds}" if self.per_output else f"a number {bounds}"


@dataclass(frozen=True)
class Loss:
    """A loss `L(ŷ, y)`.

    The functions take the loss's `parameters` as keywords after their two tensors.

    Attributes:
        value: ŷ, y → L, shape (…).
        derivative: ŷ, y → ∂L/∂ŷ (…, B, C).
        matched: the output activation f whose derivative cancels against the loss's, or is 1.
        target: what y holds: `classes`, whole numbers (…, B), or a probability for each class (…, B, C); `values`, one
            for each output (…, B, C); `counts`, values that are not negative.
        torch_function: the same loss of (ŷ, y) in `torch.nn.functional`; where there is none, the derivative is
            compared with torch's graph of `value`.
        text, text_derivative: L and ∂L/∂ŷ as plain text; they are the entry's docstring. N is what the mean divides by,
            `mean_over`; Σ adds up all of a batch, Σ_c the outputs of each sample.
        latex, latex_derivative: the same in LaTeX.
        matched_value: z_O, y → L(f(z_O), y), shape (…), stable for any z_O; `value` where f is the identity.
        matched_delta: z_O, y → δ_O (…, B, C), stable for any z_O; `derivative` where f is the identity.
        torch_matched: the same loss of (z_O, y) in `torch.nn.functional`.
        text_matched, latex_matched: the matched δ_O.
        text_product, latex_product: the product ∂L/∂ŷ · f′ that it simplifies; empty where f′ is 1.
        parameters: its settings besides ŷ and y, all optional. At most one is a tensor (`per_output`).
        mean: ŷ → the value that it predicts, in the units of y.
        probabilities: whether ŷ must be a probability, so that only outputs in (0, 1) fit.
        distribution: whether the C outputs of a sample must add up to one, so that only softmax fits.
    """

    value: Callable[..., Tensor]
    derivative: Callable[..., Tensor]
    matched: str = "identity"
    target: Literal["classes", "values", "counts"] = "values"
    torch_function: str = ""
    text: str = "L(ŷ, y)"
    text_derivative: str = "∂L/∂ŷ"
    latex: str = r"L(\hat y, y)"
    latex_derivative: str = r"\frac{\partial L}{\partial \hat y}"
    matched_value: Callable[..., Tensor] = None  # type: ignore[assignment]
    matched_delta: Callable[..., Tensor] = None  # type: ignore[assignment]
    torch_matched: str = ""
    text_matched: str = ""
    latex_matched: str = ""
    text_product: str = ""
    latex_product: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    mean: Callable[[Tensor], Tensor] = lambda p: p
    probabilities: bool = False
    distribution: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", f"L = {self.text};  ∂L/∂ŷ: {self.text_derivative}")
        for name, general in (
            ("matched_value", "value"),
            ("matched_delta", "derivative"),
            ("torch_matched", "torch_function"),
            ("text_matched", "text_derivative"),
            ("latex_matched", "latex_derivative"),
        ):
            if not getattr(self, name):
                object.__setattr__(self, name, getattr(self, general))

    @property
    def mean_over(self) -> str:
        """What N counts: the samples, or the samples times the outputs."""
        return "B" if self.target == "classes" else "B C"

    @property
    def tensor_parameter(self) -> str | None:
        """The name of the parameter that is a tensor (C,), or None."""
        return next((name for name, parameter in self.parameters.items() if parameter.per_output), None)

    def misfit(self, output: str, output_range: tuple[float, float] | None) -> str | None:
        """Why the output activation does not fit this loss, or None where it does."""
        if output in ACTIVATIONS and ACTIVATIONS[output].flat:
            return f"needs an output activation whose derivative is not zero: {self.matched}"
        if self.distribution and output != self.matched:
            return f"needs outputs that are a distribution over the classes: {self.matched}"
        if self.probabilities and output_range != (0, 1):
            return f"needs outputs between 0 and 1: {self.matched}"
        return None


def _elements(z: Tensor) -> int:
    return z.shape[-1] * z.shape[-2]


def _column(index: Tensor, like: Tensor) -> Tensor:
    """Class numbers (…, B) as a column (…, B, 1); a batch shared by K runs is repeated for each."""
    return (index if index.shape == like.shape[:-1] else index.expand(like.shape[:-1])).unsqueeze(-1)


def _rows(y: Tensor, like: Tensor, label_smoothing: float, class_weight: Tensor | None) -> tuple[Tensor, Any]:
    """The target as rows `q` (…, B, C), so that `L = −Σ q log ŷ / N`, and that N.

    `q = w ⊙ ((1 − ε) y + ε/C)`, y as rows of zeros and a one where it holds class numbers. N is the number of samples,
    or with class numbers and weights the sum of the samples' weights, (…, 1, 1), as in torch.
    """
    classes = not y.is_floating_point()
    q = like.new_zeros(like.shape).scatter(-1, _column(y, like), 1) if classes else y
    samples: Any = like.shape[-2]
    if class_weight is not None and classes:
        samples = (q * class_weight).sum((-2, -1), keepdim=True)
    if label_smoothing:
        q = (1 - label_smoothing) * q + label_smoothing / like.shape[-1]
    return (q if class_weight is None else q * class_weight), samples


def _cross_entropy(
    log_p: Tensor, y: Tensor, label_smoothing: float = 0.0, class_weight: Tensor | None = None
) -> Tensor:
    if not (label_smoothing or class_weight is not None or y.is_floating_point()):
        return log_p.gather(-1, _column(y, log_p)).sum((-2, -1)) / -log_p.shape[-2]
    q, samples = _rows(y, log_p, label_smoothing, class_weight)
    # Where q is 0 the term is 0, also for log 0.
    return -((q * log_p).masked_fill(q == 0, 0) / samples).sum((-2, -1))


def _cross_entropy_derivative(
    p: Tensor, y: Tensor, label_smoothing: float = 0.0, class_weight: Tensor | None = None
) -> Tensor:
    q, samples = _rows(y, p, label_smoothing, class_weight)
    return -(q / p).masked_fill(q == 0, 0) / samples


def _cross_entropy_delta(
    z: Tensor, y: Tensor, label_smoothing: float = 0.0, class_weight: Tensor | None = None
) -> Tensor:
    yhat = z.softmax(-1)
    if not (label_smoothing or class_weight is not None or y.is_floating_point()):
        index = _column(y, z)  # ŷ − y with no y (…, B, C) of zeros and ones made for it
        return yhat.scatter_add(-1, index, z.new_full(index.shape, -1)) / z.shape[-2]
    q, samples = _rows(y, z, label_smoothing, class_weight)
    if class_weight is not None or y.is_floating_point():  # else the rows of q add up to one
        yhat = yhat * q.sum(-1, keepdim=True)
    return (yhat - q) / samples


# torch bounds each logarithm below by −100 and the product ŷ(1 − ŷ) below by 1e−12; so do these. With w = pos_weight
# and l = 1 + (w − 1) y, the numerator (1 − y) ŷ − w y (1 − ŷ) of the derivative is l ŷ − w y.
def _binary_cross_entropy(p: Tensor, y: Tensor, pos_weight: Any = 1.0) -> Tensor:
    log_p, log_q = p.log().clamp(min=-100), (-p).log1p().clamp(min=-100)
    return -(pos_weight * y * log_p + (1 - y) * log_q).mean((-2, -1))


def _binary_cross_entropy_derivative(p: Tensor, y: Tensor, pos_weight: Any = 1.0) -> Tensor:
    numerator = (1 + (pos_weight - 1) * y) * p - pos_weight * y
    return numerator / (p * (1 - p)).clamp(min=1e-12) / _elements(p)


def _binary_cross_entropy_matched(z: Tensor, y: Tensor, pos_weight: Any = 1.0) -> Tensor:
    return ((1 - y) * z + (1 + (pos_weight - 1) * y) * log1pexp(-z)).mean((-2, -1))


def _binary_cross_entropy_delta(z: Tensor, y: Tensor, pos_weight: Any = 1.0) -> Tensor:
    return ((1 + (pos_weight - 1) * y) * z.sigmoid() - pos_weight * y) / _elements(z)


def _huber(p: Tensor, y: Tensor, huber_delta: float = 1.0) -> Tensor:
    d = (p - y).abs()
    inner = d.clamp(max=huber_delta)  # d²/2 within, and δ (d − δ/2) beyond, in one formula
    return (inner * (d - 0.5 * inner)).mean((-2, -1))


LOSSES: dict[str, Loss] = {
    "mse": Loss(
        value=lambda p, y: (p - y).square().mean((-2, -1)),
        derivative=lambda p, y: 2 * (p - y) / _elements(p),
        matched="identity",
        target="values",
        torch_function="mse_loss",
        text="Σ (ŷ − y)² / N",
        text_derivative="2 (ŷ − y) / N",
        latex=r"\frac{1}{N} \sum (\hat y - y)^2",
        latex_derivative=r"\frac{2}{N} (\hat y - y)",
    ),
    "l1": Loss(
        value=lambda p, y: (p - y).abs().mean((-2, -1)),
        derivative=lambda p, y: (p - y).sign() / _elements(p),  # 0 where ŷ = y, as in torch
        matched="identity",
        target="values",
        torch_function="l1_loss",
        text="Σ |ŷ − y| / N",
        text_derivative="sign(ŷ − y) / N",
        latex=r"\frac{1}{N} \sum |\hat y - y|",
        latex_derivative=r"\frac{1}{N} \operatorname{sign}(\hat y - y)",
    ),
    "huber": Loss(
        value=_huber,
        derivative=lambda p, y, huber_delta=1.0: (p - y).clamp(-huber_delta, huber_delta) / _elements(p),
        matched="identity",
        target="values",
        torch_function="huber_loss",
        text="Σ m (|ŷ − y| − m / 2) / N, with m = min(|ŷ − y|, huber_delta)",
        text_derivative="min(huber_delta, max(−huber_delta, ŷ − y)) / N",
        latex=r"\frac{1}{N} \sum m \left(|\hat y - y| - \tfrac{1}{2} m\right), \quad m = \min(|\hat y - y|, \delta)",
        latex_derivative=r"\frac{1}{N} \min(\delta, \max(-\delta, \hat y - y))",
        parameters={"huber_delta": Parameter(1e-6, 1e6, "|ŷ − y| counts squared up to it, and linearly beyond")},
    ),
    "cross_entropy": Loss(
        value=lambda p, y, **parameters: _cross_entropy(p.log(), y, **parameters),
        derivative=_cross_entropy_derivative,
        matched="softmax",
        matched_value=lambda z, y, **parameters: _cross_entropy(z.log_softmax(-1), y, **parameters),
        matched_delta=_cross_entropy_delta,
        target="classes",
        torch_function="nll_loss",
        torch_matched="cross_entropy",
        text="−Σ y log ŷ / N",
        text_derivative="−y / ŷ / N",
        text_matched="(ŷ − y) / N",
        latex=r"-\frac{1}{N} \sum y \log \hat y",
        latex_derivative=r"-\frac{1}{N} \frac{y}{\hat y}",
        latex_matched=r"\frac{1}{N} (\hat y - y)",
        text_product="ŷ (−y / ŷ − Σ_c ŷ (−y / ŷ)) / N = (ŷ Σ_c y − y) / N",
        latex_product=r"\frac{1}{N} \hat y \left(-\frac{y}{\hat y} - \sum_c \hat y (-\frac{y}{\hat y})\right) "
        r"= \frac{1}{N} \left(\hat y \sum_c y - y\right)",
        parameters={
            "label_smoothing": Parameter(0, 1, "with it as ε, y stands for (1 − ε) y + ε/C"),
            "class_weight": Parameter(
                0,
                1e6,
                "with it as w, y stands for w ⊙ y, and for class numbers N is the sum of the samples' weights",
                per_output=True,
            ),
        },
        probabilities=True,
        distribution=True,
    ),
    "binary_cross_entropy": Loss(
        value=_binary_cross_entropy,
        derivative=_binary_cross_entropy_derivative,
        matched="sigmoid",
        matched_value=_binary_cross_entropy_matched,
        matched_delta=_binary_cross_entropy_delta,
        target="values",
        torch_function="binary_cross_entropy",
        torch_matched="binary_cross_entropy_with_logits",
        text="−Σ (y log ŷ + (1 − y) log(1 − ŷ)) / N",
        text_derivative="(ŷ − y) / (ŷ (1 − ŷ)) / N",
        text_matched="(ŷ − y) / N",
        latex=r"-\frac{1}{N} \sum \left(y \log \hat y + (1 - y) \log (1 - \hat y)\right)",
        latex_derivative=r"\frac{1}{N} \frac{\hat y - y}{\hat y (1 - \hat y)}",
        latex_matched=r"\frac{1}{N} (\hat y - y)",
        text_product="(ŷ − y) / (ŷ (1 − ŷ)) / N ⊙ ŷ (1 − ŷ)",
        latex_product=r"\frac{1}{N} \frac{\hat y - y}{\hat y (1 - \hat y)} \odot \hat y (1 - \hat y)",
        parameters={
            "pos_weight": Parameter(
                0,
                1e6,
                "with it as w, the terms with y count w times: ŷ − y becomes (1 + (w − 1) y) ŷ − w y",
                per_output=True,
            )
        },
        probabilities=True,
    ),
    "poisson_nll": Loss(
        # ŷ is the logarithm of the expected count, as in torch's default.
        value=lambda p, y: (p.exp() - y * p).mean((-2, -1)),
        derivative=lambda p, y: (p.exp() - y) / _elements(p),
        matched="identity",
        target="counts",
        torch_function="poisson_nll_loss",
        text="Σ (e^ŷ − y ŷ) / N",
        text_derivative="(e^ŷ − y) / N",
        latex=r"\frac{1}{N} \sum \left(e^{\hat y} - y \hat y\right)",
        latex_derivative=r"\frac{1}{N} \left(e^{\hat y} - y\right)",
        mean=lambda p: p.exp(),
    ),
}


def check_parameters(loss: str, parameters: Mapping[str, Any], outputs: int) -> None:
    """Refuse a parameter that the loss does not have, or a value out of range; of a tensor only the shape is checked.

    Raises:
        UserError: one line with the parameter and what is allowed.
    """
    settings = LOSSES[loss].parameters
    for name, value in parameters.items():
        if name not in settings:
            owners = " or ".join(each for each, entry in LOSSES.items() if name in entry.parameters)
            has = f"it belongs to {owners}" if owners else f"it has {', '.join(settings) or 'none'}"
            raise UserError(f"{name}: the loss {loss} has no such parameter; {has}")
        if hasattr(value, "shape"):
            if tuple(value.shape) not in (((outputs,), ()) if settings[name].per_output else ((),)):
                raise UserError(f"{name}: has the shape {tuple(value.shape)}; it must be ({outputs},)")
            continue
        numbers = list(value) if settings[name].per_output and isinstance(value, Sequence) else [value]
        if not all(isinstance(number, int | float) and settings[name].allows(number) for number in numbers):
            raise UserError(f"{name}={value}: must be {settings[name].allowed}")
        if isinstance(value, list | tuple) and len(numbers) != outputs:
            raise UserError(f"{name}={value}: has {len(numbers)} numbers for {outputs} outputs")
