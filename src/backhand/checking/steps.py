"""The derivation of the page's network taken apart: each step is one function, and a mistake replaces one of them.

Shapes: x (B, D), W_I (D, H), b_I (H,), W_O (H, C), b_O (C,), δ_I (B, H), δ_O (B, C), everything in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from backhand.calculus import backpropagation as bp
from backhand.calculus.activations import Activation
from backhand.calculus.backpropagation import Criterion, Network

GRADIENTS = ("dW_I", "db_I", "dW_O", "db_O")


@dataclass(frozen=True, eq=False)
class Case:
    """A network, a batch, and everything that the forward pass gives.

    Attributes:
        network, criterion, weight: what is derived; `weight` (C,) is the loss's own, or None.
        x, y: the batch; y as the loss takes it.
        W_I, b_I, W_O, b_O: the parameters.
        upstream: ∂L/∂ŷ (B, C) where it is handed to the derivation; None where that derives it from y.
        previous: the case of the step before, for gradients that are a step late.
    """

    network: Network
    criterion: Criterion
    weight: Tensor | None
    x: Tensor
    y: Tensor
    W_I: Tensor
    b_I: Tensor
    W_O: Tensor
    b_O: Tensor
    upstream: Tensor | None = None
    previous: Case | None = None

    @cached_property
    def z_I(self) -> Tensor:
        """(B, H)."""
        return bp.preactivation(self.x, self.W_I, self.b_I)

    @cached_property
    def h(self) -> Tensor:
        """(B, H)."""
        return self.network.g()(self.z_I)

    @cached_property
    def z_O(self) -> Tensor:
        """(B, C)."""
        return bp.preactivation(self.h, self.W_O, self.b_O)

    @cached_property
    def yhat(self) -> Tensor:
        """(B, C)."""
        return self.network.f(self.z_O)

    @cached_property
    def rows(self) -> Tensor:
        """The target as rows (B, C), also where it holds class numbers."""
        return self.y if self.y.is_floating_point() else torch.nn.functional.one_hot(self.y, self.C).to(self.x)

    @property
    def B(self) -> int:
        """Samples."""
        return self.x.shape[0]

    @property
    def C(self) -> int:
        """Outputs."""
        return self.W_O.shape[1]

    @property
    def N(self) -> float:
        """What the loss divides by for its mean over the batch: B, or the sum of the samples' weights."""
        if self.weight is None or self.y.is_floating_point() or self.criterion.name != "cross_entropy":
            return float(self.B)
        return float(self.weight[self.y].sum())

    @property
    def mean_over_outputs(self) -> bool:
        """Whether the loss is a mean over the outputs, too."""
        return self.criterion.loss.target != "classes"

    def dL_dyhat(self, criterion: Criterion | None = None, **changed: Any) -> Tensor:
        """∂L/∂ŷ (B, C), of another loss or with other parameters where they are given."""
        parameters = {} if criterion else self.criterion.parameters(self.weight) | changed
        criterion = criterion or self.criterion
        given = {name: value for name, value in parameters.items() if value is not None}
        y = self.y if criterion.loss.target == "classes" else self.rows
        return criterion.loss.derivative(self.yhat, y, **given)


def derivative(activation: Activation, at: Tensor) -> Tensor:
    """The derivative as a function of the pre-activation, `at`, whatever its formula reads."""
    return activation.derivative(activation(at) if activation.reads == "a" else at)


def through_f(c: Case, v: Tensor, at: Tensor) -> Tensor:
    """`v` through the output activation's derivative, taken at the pre-activation `at`."""
    return c.network.f.delta(v, c.network.f(at) if c.network.f.reads == "a" else at)


def through_g(c: Case, u: Tensor, at: Tensor) -> Tensor:
    """`u` through the hidden activation's derivative, taken at the pre-activation `at`."""
    return u * derivative(c.network.g(), at)


@dataclass
class Draft:
    """A derivation under way: the case, and each step of `RIGHT` that has been computed."""

    case: Case
    steps: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, step: str) -> Tensor:
        return self.steps[step]


Rule = Callable[[Draft], Tensor]

# The right derivation: every step is a function of the steps before it. v is ∂L/∂ŷ, u is ∂L/∂h.
RIGHT: dict[str, Rule] = {
    "v": lambda d: d.case.dL_dyhat() if d.case.upstream is None else d.case.upstream,
    "chain_O": lambda d: through_f(d.case, d["v"], d.case.z_O),
    "delta_O": lambda d: d["chain_O"],
    "dW_O": lambda d: d.case.h.mT @ d["delta_O"],
    "db_O": lambda d: d["delta_O"].sum(0),
    "u": lambda d: d["delta_O"] @ d.case.W_O.mT,
    "chain_I": lambda d: through_g(d.case, d["u"], d.case.z_I),
    "delta_I": lambda d: d["chain_I"],
    "dW_I": lambda d: d.case.x.mT @ d["delta_I"],
    "db_I": lambda d: d["delta_I"].sum(0),
    "dx": lambda d: d["delta_I"] @ d.case.W_I.mT,
}
# The steps that each delta is made of; every other step is the quantity of its name.
DELTA_STEPS = {"delta_O": ("v", "chain_O", "delta_O"), "delta_I": ("u", "chain_I", "delta_I")}


@dataclass(frozen=True, eq=False)
class Mistake:
    """One wrong line.

    Attributes:
        name: a few words, the same for the same mistake in another layer.
        text: what is wrong, as half a sentence.
        step: the step of `RIGHT` that is wrong.
        rule: the wrong line in its place. It may raise RuntimeError where the shapes do not allow it. Or
        factor: what the right line is multiplied by. Or
        direction: what is added to the right line, times an unknown number that the diagnosis fits.
        applies: whether there can be such a mistake in this case.
        rank: among mistakes that give the same numbers those with the lowest rank are named.
    """

    name: str
    text: str
    step: str
    rule: Rule | None = None
    factor: Callable[[Case], float] | None = None
    direction: Rule | None = None
    applies: Callable[[Case], bool] = lambda c: True
    rank: int = 0


def derive(case: Case, mistakes: Sequence[Mistake] = (), amount: float = 1.0) -> dict[str, Tensor]:
    """Every step of the derivation with these mistakes in it; without any, the right ones.

    Args:
        case: what is derived.
        mistakes: at most one with a `rule` for each step.
        amount: the number that a `direction` is multiplied by.

    Raises:
        RuntimeError: the shapes do not allow one of the mistakes.
    """
    draft = Draft(case)
    for step, rule in RIGHT.items():
        draft.steps[step] = altered(draft, step, rule, mistakes, amount)
    return draft.steps


def altered(draft: Draft, step: str, right: Rule, mistakes: Sequence[Mistake], amount: float = 1.0) -> Tensor:
    """One step with those of the mistakes that concern it."""
    own = [mistake for mistake in mistakes if mistake.step == step]
    value = next((mistake.rule for mistake in own if mistake.rule is not None), right)(draft)
    for mistake in own:
        if mistake.factor is not None:
            value = value * mistake.factor(draft.case)
        if mistake.direction is not None:
            value = value + amount * mistake.direction(draft)
    return value
