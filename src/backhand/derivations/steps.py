"""The derivation taken apart: each step is one function of the steps before it, and a mistake replaces one of them.

Shapes: x (…, B, D), and of each layer W (…, n, m), b (…, m), z and δ (…, B, m), everything in float64. The dots are an
optional axis of K draws: networks and batches of the same sizes, for which a mistake is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from backhand.calculus.activations import Activation
from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.chain import (
    Layer,
    Step,
    backward_steps,
    evaluate_steps,
    forward_steps,
    is_elementwise,
    layers,
    with_jacobian,
)


def quantities(depth: int) -> tuple[str, ...]:
    """What a derivation may return, in the order in which it is computed."""
    return tuple(name for layer in layers(depth) for name in (layer.delta, *layer.gradients))


@dataclass(frozen=True, eq=False)
class Case:
    """A network, a batch, and everything that the forward pass gives.

    Attributes:
        network, criterion, weight: what is derived; `weight` (C,) is the loss's own, or None.
        x, y: the batch; y as the loss takes it, class numbers (…, B) or rows (…, B, C).
        weights, biases: of each layer, first to last; None where a layer has no bias.
        upstream: ∂L/∂ŷ (…, B, C) where it is handed to the derivation; None where that derives it from y.
        previous: the case of the step before, for gradients that are a step late.
        slope: leaky_relu's own for negative z, where it is not 0.01.
    """

    network: Network
    criterion: Criterion
    weight: Tensor | None
    x: Tensor
    y: Tensor
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    upstream: Tensor | None = None
    previous: Case | None = None
    slope: float | None = None

    @cached_property
    def forward(self) -> tuple[list[Tensor], list[Tensor]]:
        """Each layer's z (…, B, m), and the activations x, h, …, ŷ, one more."""
        values, upward = {"x": self.x}, layers(self.depth)[::-1]
        for layer, W, b in zip(upward, self.weights, self.biases, strict=True):
            values[layer.W] = W
            values[layer.b] = W.new_zeros(*W.shape[:-2], W.shape[-1]) if b is None else b
        values = evaluate_steps(forward_steps(self.network, self.activations), values)
        return [values[each.z] for each in upward], [self.x, *(values[each.a] for each in upward)]

    @cached_property
    def values(self) -> dict[str, Tensor]:
        """What the steps of the backward pass read, by name."""
        values = {"x": self.x, "y": self.y if self.criterion.loss.target == "classes" else self.rows}
        for layer in layers(self.depth):
            values |= {layer.W: self.W(layer), layer.z: self.z(layer), layer.a: self.output(layer)}
        return values

    @cached_property
    def chain(self) -> dict[str, Step]:
        """The lines of the right derivation, by name."""
        steps = backward_steps(self.criterion, self.weight, self.activations)
        return {step.name: step for step in steps}

    @property
    def activations(self) -> list[Activation]:
        """Of each layer, first to last."""
        return [self.activation(layer) for layer in layers(self.depth)[::-1]]

    def W(self, layer: Layer) -> Tensor:
        """(…, n, m)."""
        return self.weights[layer.index]

    def z(self, layer: Layer) -> Tensor:
        """(…, B, m)."""
        return self.forward[0][layer.index]

    def input(self, layer: Layer) -> Tensor:
        """(…, B, n)."""
        return self.forward[1][layer.index]

    def output(self, layer: Layer) -> Tensor:
        """(…, B, m)."""
        return self.forward[1][layer.index + 1]

    def activation(self, layer: Layer) -> Activation:
        """The layer's g or f."""
        own = self.network.f if layer.is_last else self.network.g(layer.index)
        if self.slope is None or own.torch_module != "LeakyReLU":
            return own
        slope = self.slope
        return replace(
            own,
            value=lambda z: z.where(z > 0, slope * z),
            derivative=lambda a: a.new_ones(()).where(a > 0, slope),
        )

    @property
    def depth(self) -> int:
        """Layers with weights."""
        return len(self.weights)

    @property
    def last(self) -> Layer:
        """The output layer."""
        return Layer(self.depth - 1, self.depth)

    @property
    def yhat(self) -> Tensor:
        """(…, B, C)."""
        return self.forward[1][-1]

    @property
    def rows(self) -> Tensor:
        """The target as rows (…, B, C), also where it holds class numbers."""
        return self.y if self.y.is_floating_point() else torch.nn.functional.one_hot(self.y, self.C).to(self.x)

    @property
    def B(self) -> int:
        """Samples."""
        return self.x.shape[-2]

    @property
    def C(self) -> int:
        """Outputs."""
        return self.weights[-1].shape[-1]

    @property
    def N(self) -> float | Tensor:
        """What the loss divides by for its mean over the batch: B, or each draw's sum of the samples' weights (…)."""
        if self.weight is None or self.y.is_floating_point() or self.criterion.name != "cross_entropy":
            return float(self.B)
        total = self.weight[self.y].sum(-1)
        return total if total.dim() else float(total)

    @property
    def means(self) -> list[float | Tensor]:
        """What a δ may be larger by, where the mean is taken in the gradients."""
        return [self.N, float(self.B), self.N * self.C, float(self.C)]

    @property
    def mean_over_outputs(self) -> bool:
        """Whether the loss is a mean over the outputs, too."""
        return self.criterion.loss.target != "classes"

    def dL_dyhat(self, criterion: Criterion | None = None, **changed: Any) -> Tensor:
        """∂L/∂ŷ (…, B, C), of another loss or with other parameters where they are given."""
        parameters = {} if criterion else self.criterion.parameters(self.weight) | changed
        criterion = criterion or self.criterion
        given = {name: value for name, value in parameters.items() if value is not None}
        y = self.y if criterion.loss.target == "classes" else self.rows
        return criterion.loss.derivative(self.yhat, y, **given)

    def draw(self, k: int) -> Case:
        """One of the draws by itself."""
        return replace(
            self,
            x=self.x[k],
            y=self.y[k],
            weights=tuple(W[k] for W in self.weights),
            biases=tuple(None if b is None else b[k] for b in self.biases),
            upstream=None if self.upstream is None else self.upstream[k],
            previous=None,
        )


def derivative(activation: Activation, at: Tensor) -> Tensor:
    """The derivative as a function of the pre-activation, `at`, whatever its formula reads."""
    return activation.derivative(activation(at) if activation.reads == "a" else at)


def through(activation: Activation, v: Tensor, at: Tensor) -> Tensor:
    """`v` through an activation's derivative, taken at the pre-activation `at`."""
    return activation.delta(v, activation(at) if activation.reads == "a" else at)


def scaled(value: Tensor, factor: float | Tensor, draws: int) -> Tensor:
    """The value times one number for all draws, or one for each (K,), the axis that the last `draws` axes follow."""
    return value * (factor.reshape(*factor.shape, *[1] * draws) if isinstance(factor, Tensor) else factor)


@dataclass
class Draft:
    """A derivation under way: the case, and each step that has been computed.

    With `paths` it is so many derivations at once: each step has them as its first axis. `returned` is what the
    derivation returned that is to be explained, where there is one.
    """

    case: Case
    steps: dict[str, Tensor] = field(default_factory=dict)
    paths: tuple[int, ...] = ()
    returned: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        return self.steps[name] if name in self.steps else self.case.values[name]

    def repeat(self, tensor: Tensor) -> Tensor:
        """What does not depend on the steps, once for each path."""
        return tensor.expand(*self.paths, *tensor.shape)

    def times(self, value: Tensor, factor: float | Tensor) -> Tensor:
        """The value (paths, draws, …) times one number for all draws, or one for each."""
        draws = self.case.x.dim() - 2
        return scaled(value, factor, value.dim() - len(self.paths) - draws)


Rule = Callable[[Draft], Tensor]


@cache
def right_rules(depth: int) -> dict[str, Rule]:
    """The right derivation, step by step; the product in δ is a step of its own, for what is done to it afterwards."""
    rules: dict[str, Rule] = {}
    for layer in layers(depth):
        rules[layer.upstream] = _given_or_derived if layer.is_last else _right(layer.upstream)
        rules[layer.chain] = _right(layer.delta)
        rules[layer.delta] = lambda d, chain=layer.chain: d[chain]  # type: ignore[misc]
        rules |= {name: _right(name) for name in layer.gradients}
    return rules


def _right(name: str) -> Rule:
    def rule(d: Draft) -> Tensor:
        step = d.case.chain[name]
        return step.rule(*(d[each] for each in step.reads))

    return rule


def _given_or_derived(d: Draft) -> Tensor:
    """∂L/∂ŷ."""
    return d.repeat(_right(d.case.last.upstream)(d) if d.case.upstream is None else d.case.upstream)


def right_line(case: Case, layer: Layer, step: str) -> str:
    """The right line for a step, as a formula."""
    is_delta = step == layer.chain or (step == layer.upstream and not layer.is_last)
    line = case.chain[layer.delta if is_delta else step]
    return f"{line.left} = {line.right}".replace("∇", "d")


def with_mean(formula: str, mean: str) -> str:
    """A formula of a loss with what its N is."""
    return formula.replace("/ N", f"/ ({mean})" if " " in mean else f"/ {mean}")


@dataclass(frozen=True, eq=False)
class Mistake:
    """One wrong line.

    Attributes:
        name: a few words, the same for the same mistake in another layer.
        variant: tells the forms of a mistake apart that have the same name; the same in another layer, too.
        text: what is wrong, as half a sentence; `{amount}`, `{rate}` and `{activation}` are filled in.
        layer, step: where it is made.
        rule: the wrong line in the place of the right one. It may raise RuntimeError where shapes do not allow it. Or
        factor: what the right line is multiplied by, one number or one for each draw. Or
        direction: what is added to the right line, times an unknown number that the diagnosis fits.
        yours: the wrong line: a part of the right one and what stands in its place; or what is right of the equals
            sign; for a factor, the factor. «z» is the formula for the derivative in terms of the output, given z.
        right: instead of `yours`, a factor that the right line has and the wrong one lacks.
        applies: whether there can be such a mistake in this case.
        rank: among mistakes that give the same numbers those with the lowest rank are named.
        any_size: the rule's value counts times an unknown positive number.
        unscaled: the rule's value does not take part in a common factor of all gradients.
    """

    name: str
    text: str
    layer: Layer
    step: str
    rule: Rule | None = None
    factor: Callable[[Case], float | Tensor] | None = None
    direction: Rule | None = None
    yours: str | tuple[str, str] = ""
    right: str = ""
    applies: Callable[[Case], bool] = lambda c: True
    rank: int = 0
    any_size: bool = False
    unscaled: bool = False
    variant: str = ""

    def is_same_as(self, other: Mistake) -> bool:
        """Whether it is the same mistake, perhaps in another layer."""
        return (self.name, self.variant) == (other.name, other.variant)

    @property
    def is_fitted(self) -> bool:
        """Whether it comes with an unknown number."""
        return self.direction is not None or self.any_size

    def formulas(self, case: Case, amount: float = 1.0) -> tuple[str, str]:
        """The right line and the wrong one."""
        right = right_line(case, self.layer, self.step)
        left, _, value = right.partition(" = ")
        if self.right:
            right, wrong = f"{left} = {self.right} {value}", right
        elif isinstance(self.yours, tuple):
            wrong = right.replace(*self.yours)
        elif self.factor is not None:
            times = "" if self.yours == "−" else " · " if value[0].isdigit() else " "
            wrong = f"{left} = {self.yours}{times}{value}"
        else:
            wrong = f"{left} = {self.yours}"
        wrong = wrong.replace("{amount}", f"{amount:.3g}")
        wrong = re.sub("«(.*)»", lambda found: self._slope(case, found[1]), wrong)
        mean = "Σw" if isinstance(case.N, Tensor) or case.N != case.B else case.criterion.loss.mean_over
        right, wrong = with_mean(right, mean), with_mean(wrong, mean)
        if self.layer.is_last and not is_elementwise(case.network.f):
            return with_jacobian(right), with_jacobian(wrong)
        return right, wrong

    def _slope(self, case: Case, at: str) -> str:
        """The formula of the layer's derivative that reads the output, given something else."""
        text, given = case.activation(self.layer).text_derivative, f"({at})" if " " in at else at
        formula, count = re.subn(r"\ba\b", given, text)
        return f"({formula})" if count else f"{self.layer.g}′({at})"


def derive(case: Case, mistakes: Sequence[Mistake] = (), amount: float = 1.0) -> dict[str, Tensor]:
    """Every step of the derivation with these mistakes in it; without any, the right ones.

    Args:
        case: what is derived.
        mistakes: at most one with a `rule` for each step.
        amount: the unknown number that comes with one of them.

    Raises:
        RuntimeError: the shapes do not allow one of the mistakes.
    """
    draft = Draft(case)
    for step in right_rules(case.depth):
        draft.steps[step] = altered(draft, step, mistakes, amount)
    return draft.steps


def altered(draft: Draft, step: str, mistakes: Sequence[Mistake] = (), amount: float = 1.0) -> Tensor:
    """One step with those of the mistakes that concern it."""
    own = [mistake for mistake in mistakes if mistake.step == step]
    rule = next((mistake for mistake in own if mistake.rule is not None), None)
    value = right_rules(draft.case.depth)[step](draft) if rule is None else rule.rule(draft)  # type: ignore[misc]
    if rule is not None and rule.any_size:
        value = amount * value
    for mistake in own:
        if mistake.factor is not None:
            value = draft.times(value, mistake.factor(draft.case))
        if mistake.direction is not None:
            value = value + amount * mistake.direction(draft)
    return value
