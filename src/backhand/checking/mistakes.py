"""The catalogue of wrong derivations: each entry is the right derivation with one line of it changed.

To add one, add a `Mistake` to the list that its step belongs to; the diagnosis and its tests read the lists.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from backhand.calculus.activations import Activation, RowActivation
from backhand.calculus.backpropagation import Criterion
from backhand.calculus.losses import LOSSES
from backhand.checking.steps import RIGHT, Case, Draft, Mistake, derivative, derive, through_f, through_g


def _late(c: Case) -> bool:
    return c.previous is not None


def _before(d: Draft) -> Case:
    assert d.case.previous is not None
    return d.case.previous


def _own_loss(c: Case) -> bool:
    return c.upstream is None


def _elementwise(activation: Activation) -> bool:
    return not isinstance(activation, RowActivation)


IN_DELTA_O: list[Mistake] = [
    # The loss.
    Mistake(
        "factor 2 missing",
        "the factor 2 of the squared error is missing",
        "v",
        factor=lambda c: 0.5,
        applies=lambda c: c.criterion.name == "mse" and _own_loss(c),
    ),
    Mistake("factor 2 extra", "there is a factor 2 too many", "v", factor=lambda c: 2.0),
    Mistake(
        "factor 1/2 extra",
        "there is a factor 1/2 too many",
        "v",
        factor=lambda c: 0.5,
        applies=lambda c: c.criterion.name != "mse" or not _own_loss(c),
    ),
    Mistake(
        "∂L/∂ŷ is ŷ − y",
        "∂L/∂ŷ is taken to be the plain difference ŷ − y",
        "v",
        lambda d: (d.case.yhat - d.case.rows) / (d.case.B * (d.case.C if d.case.mean_over_outputs else 1)),
        applies=lambda c: c.criterion.name != "mse" and _own_loss(c),
        rank=1,
    ),
    Mistake(
        "clipping missing",
        "the clipping at ±huber_delta is missing",
        "v",
        lambda d: d.case.dL_dyhat(huber_delta=math.inf),
        applies=lambda c: c.criterion.name == "huber" and _own_loss(c),
    ),
    Mistake(
        "divided by B, not by the weights",
        "the weighted mean divides by the number of samples, not by the sum of their weights",
        "v",
        factor=lambda c: c.N / c.B,
        applies=lambda c: c.B != c.N and _own_loss(c),
    ),
    *(
        Mistake(
            f"{name} forgotten",
            f"{name} is forgotten",
            "v",
            lambda d, name=name: d.case.dL_dyhat(**{name: None}),  # type: ignore[misc]
            applies=lambda c, name=name: name in c.criterion.parameters(c.weight) and _own_loss(c),  # type: ignore[misc]
        )
        for name in sorted({name for loss in LOSSES.values() for name in loss.parameters})
    ),
    *(
        Mistake(
            f"derivative of {name}",
            f"∂L/∂ŷ is that of {name}",
            "v",
            lambda d, name=name: d.case.dL_dyhat(Criterion(name)),  # type: ignore[misc]
            applies=lambda c, name=name: name != c.criterion.name and _own_loss(c),  # type: ignore[misc]
            rank=2,
        )
        for name in LOSSES
    ),
    # The output activation.
    Mistake("derivative left out", "the factor f′(z_O) is missing", "chain_O", lambda d: d["v"]),
    Mistake(
        "derivative at the output",
        "f′ is taken at ŷ, not at z_O",
        "chain_O",
        lambda d: through_f(d.case, d["v"], d.case.yhat),
    ),
    Mistake(
        "formula for the output given z",
        "the formula for f′ in terms of ŷ is given z_O",
        "chain_O",
        lambda d: d.case.network.f.delta(d["v"], d.case.z_O),
        applies=lambda c: c.network.f.reads == "a",
    ),
    Mistake(
        "activation instead of its derivative", "f stands in the place of f′", "chain_O", lambda d: d["v"] * d.case.yhat
    ),
    Mistake(
        "derivative twice",
        "the factor f′(z_O) is there twice (a short form such as ŷ − y has it already)",
        "chain_O",
        lambda d: through_f(d.case, through_f(d.case, d["v"], d.case.z_O), d.case.z_O),
    ),
    Mistake(
        "softmax as elementwise",
        "softmax is treated as elementwise, ŷ (1 − ŷ), but its derivative is a Jacobian",
        "chain_O",
        lambda d: d["v"] * d.case.yhat * (1 - d.case.yhat),
        applies=lambda c: not _elementwise(c.network.f),
    ),
    Mistake(
        "ŷ (1 − ŷ) on top of ŷ − y",
        "ŷ (1 − ŷ) is multiplied onto a δ_O that is complete without it",
        "chain_O",
        lambda d: RIGHT["chain_O"](d) * d.case.yhat * (1 - d.case.yhat),
        applies=lambda c: not _elementwise(c.network.f),
    ),
    Mistake(
        "derivative of the other activation",
        "g′ stands in the place of f′",
        "chain_O",
        lambda d: d["v"] * derivative(d.case.network.g(), d.case.z_O),
        rank=1,
    ),
    Mistake(
        "derivative at another layer",
        "f′ is taken at z_I, another layer's pre-activation",
        "chain_O",
        lambda d: through_f(d.case, d["v"], d.case.z_I),
        applies=lambda c: c.h.shape == c.z_O.shape,
    ),
    Mistake(
        "derivative a step late",
        "f′ is taken at the previous step's z_O",
        "chain_O",
        lambda d: through_f(d.case, d["v"], _before(d).z_O),
        applies=_late,
    ),
    # The delta as a whole.
    Mistake("sign flipped", "its sign is flipped (y − ŷ in the place of ŷ − y)", "delta_O", factor=lambda c: -1.0),
    Mistake(
        "mean over the batch missing",
        "the mean over the batch is missing",
        "delta_O",
        factor=lambda c: c.N,
        applies=_own_loss,
    ),
    Mistake(
        "mean over the batch twice",
        "the mean over the batch is taken once too often",
        "delta_O",
        factor=lambda c: 1 / c.B,
    ),
    Mistake(
        "sum over the outputs, not the mean",
        "it is the sum over the outputs, not the mean",
        "delta_O",
        factor=lambda c: float(c.C),
        applies=lambda c: c.mean_over_outputs and _own_loss(c),
    ),
    Mistake(
        "sum over samples and outputs, not the mean",
        "it is the sum over samples and outputs, not the mean",
        "delta_O",
        factor=lambda c: c.N * c.C,
        applies=lambda c: c.mean_over_outputs and _own_loss(c),
    ),
    Mistake(
        "mean over the outputs extra",
        "the mean over the outputs is taken once too often",
        "delta_O",
        factor=lambda c: 1 / c.C,
    ),
    Mistake(
        "delta a step late",
        "it is the previous step's",
        "delta_O",
        lambda d: derive(_before(d))["delta_O"],
        applies=_late,
    ),
]

IN_DELTA_I: list[Mistake] = [
    # The way back through W_O.
    Mistake(
        "weight not transposed",
        "W_O is not transposed",
        "u",
        lambda d: d["delta_O"] @ d.case.W_O,
        applies=lambda c: c.W_O.shape[0] == c.W_O.shape[1],
    ),
    Mistake("weight of another layer", "W_I stands in the place of W_Oᵀ", "u", lambda d: d["delta_O"] @ d.case.W_I),
    Mistake(
        "weight of another layer",
        "W_Iᵀ stands in the place of W_Oᵀ",
        "u",
        lambda d: d["delta_O"] @ d.case.W_I.mT,
    ),
    Mistake("weight left out", "the factor W_Oᵀ is missing", "u", lambda d: d["delta_O"]),
    Mistake(
        "∂L/∂ŷ in the place of δ_O",
        "it is built from ∂L/∂ŷ, not from δ_O",
        "u",
        lambda d: d["v"] @ d.case.W_O.mT,
        rank=1,
    ),
    Mistake(
        "weight a step late",
        "W_O is the previous step's",
        "u",
        lambda d: d["delta_O"] @ _before(d).W_O.mT,
        applies=_late,
    ),
    Mistake(
        "weight already updated",
        "W_O has already been updated when δ_I is taken through it (learning rate {amount:.3g})",
        "u",
        direction=lambda d: -d["delta_O"] @ d["dW_O"].mT,
        rank=3,
    ),
    # The hidden activation.
    Mistake("derivative left out", "the factor g′(z_I) is missing", "chain_I", lambda d: d["u"]),
    Mistake(
        "derivative at the output",
        "g′ is taken at h, not at z_I",
        "chain_I",
        lambda d: through_g(d.case, d["u"], d.case.h),
    ),
    Mistake(
        "formula for the output given z",
        "the formula for g′ in terms of h is given z_I",
        "chain_I",
        lambda d: d["u"] * d.case.network.g().derivative(d.case.z_I),
        applies=lambda c: c.network.g().reads == "a",
    ),
    Mistake(
        "activation instead of its derivative", "g stands in the place of g′", "chain_I", lambda d: d["u"] * d.case.h
    ),
    Mistake(
        "derivative twice",
        "the factor g′(z_I) is there twice",
        "chain_I",
        lambda d: through_g(d.case, through_g(d.case, d["u"], d.case.z_I), d.case.z_I),
    ),
    Mistake(
        "derivative of the other activation",
        "f′ stands in the place of g′",
        "chain_I",
        lambda d: d["u"] * derivative(d.case.network.f, d.case.z_I),
        applies=lambda c: _elementwise(c.network.f),
        rank=1,
    ),
    Mistake(
        "derivative at another layer",
        "g′ is taken at z_O, another layer's pre-activation",
        "chain_I",
        lambda d: through_g(d.case, d["u"], d.case.z_O),
        applies=lambda c: c.z_O.shape == c.h.shape,
    ),
    Mistake(
        "derivative at another layer",
        "g′ is taken at x, the layer below",
        "chain_I",
        lambda d: through_g(d.case, d["u"], d.case.x),
        applies=lambda c: c.x.shape == c.h.shape,
    ),
    Mistake(
        "derivative at the gradient",
        "g′ is taken at the gradient that comes from above, not at z_I",
        "chain_I",
        lambda d: through_g(d.case, d["u"], d["u"]),
        rank=1,
    ),
    Mistake(
        "derivative a step late",
        "g′ is taken at the previous step's z_I",
        "chain_I",
        lambda d: through_g(d.case, d["u"], _before(d).z_I),
        applies=_late,
    ),
    # The delta as a whole.
    Mistake("sign flipped", "its sign is flipped", "delta_I", factor=lambda c: -1.0),
    Mistake("factor 2 extra", "there is a factor 2 too many", "delta_I", factor=lambda c: 2.0),
    Mistake(
        "mean over the batch twice",
        "the mean over the batch is taken again",
        "delta_I",
        factor=lambda c: 1 / c.B,
    ),
]


def _in_gradients(layer: str, below: str, other: str, upstream: str, upstream_text: str) -> list[Mistake]:
    """What can go wrong in a layer's own two gradients: ∇W = belowᵀ δ and ∇b = Σ_B δ."""
    W, b, delta = f"dW_{layer}", f"db_{layer}", f"delta_{layer}"

    def at(c: Case, name: str) -> Tensor:
        return getattr(c, name)

    mistakes = [
        Mistake("outer product transposed", f"the product is transposed, δᵀ {below}", W, lambda d: RIGHT[W](d).mT),
        Mistake(
            f"{other} for {below}",
            f"{other} stands in the place of {below}",
            W,
            lambda d: at(d.case, other).mT @ d[delta],
        ),
        Mistake(
            "first sample only",
            "only the first sample is counted",
            W,
            lambda d: at(d.case, below)[:1].mT @ d[delta][:1],
            rank=1,
        ),
        Mistake(
            "input a step late",
            f"{below} is the previous step's",
            W,
            lambda d: at(_before(d), below).mT @ d[delta],
            applies=_late,
        ),
        Mistake("bias not summed", "δ is not summed over the batch", b, lambda d: d[delta]),
        Mistake(
            "bias summed over the units", "δ is summed over the units, not over the batch", b, lambda d: d[delta].sum(1)
        ),
        Mistake("first sample only", "only the first sample is counted", b, lambda d: d[delta][0], rank=1),
        *(
            Mistake(
                f"δ of another layer in d{kind}",
                f"δ_{'I' if layer == 'O' else 'O'} stands in the place of δ_{layer}",
                step,
                (lambda d, wrong=wrong: at(d.case, below).mT @ d[wrong])  # type: ignore[misc]
                if kind == "W"
                else (lambda d, wrong=wrong: d[wrong].sum(0)),  # type: ignore[misc]
                rank=1,
            )
            for kind, step in (("W", W), ("b", b))
            for wrong in (["delta_O"] if layer == "I" else [])
        ),
        *(
            Mistake(
                "derivative left out",
                f"{upstream_text} stands in the place of δ_{layer}: the activation's derivative is missing",
                step,
                (lambda d: at(d.case, below).mT @ d[upstream]) if step == W else (lambda d: d[upstream].sum(0)),
            )
            for step in (W, b)
        ),
    ]
    for step in (W, b):
        mistakes += [
            Mistake("sign flipped", "its sign is flipped", step, factor=lambda c: -1.0),
            Mistake("factor 2 extra", "there is a factor 2 too many", step, factor=lambda c: 2.0),
            Mistake("averaged", "it is averaged over the batch, not summed", step, factor=lambda c: 1 / c.B),
            Mistake("mean over the batch missing", "the mean over the batch is missing", step, factor=lambda c: c.N),
            Mistake(
                "weight decay inside",
                f"{step[1:]} is added, times {{amount:.3g}} (weight decay belongs to the optimizer)",
                step,
                direction=lambda d, name=step[1:]: at(d.case, name),  # type: ignore[misc]
                rank=3,
            ),
        ]
    return mistakes


IN_GRADIENTS: list[Mistake] = [
    *_in_gradients("O", "h", "x", "v", "∂L/∂ŷ"),
    *_in_gradients("I", "x", "h", "u", "∂L/∂h"),
    Mistake(
        "z_I for h",
        "z_I stands in the place of h: the activation is missing",
        "dW_O",
        lambda d: d.case.z_I.mT @ d["delta_O"],
    ),
    Mistake("weight not transposed", "W_I is not transposed", "dx", lambda d: d["delta_I"] @ d.case.W_I),
    Mistake("sign flipped", "its sign is flipped", "dx", factor=lambda c: -1.0),
]


@dataclass(frozen=True)
class Late:
    """A mistake of the whole derivation: it works on another step's forward pass."""

    name: str
    text: str
    case: Callable[[Case], Case]


def _with_forward_of(case: Case, names: tuple[str, ...]) -> Case:
    assert case.previous is not None
    late = replace(case)
    for name in names:
        late.__dict__[name] = getattr(case.previous, name)
    return late


LATE: list[Late] = [
    Late("gradient of the previous step", "these are the previous step's gradients", lambda c: c.previous or c),
    Late(
        "stale h",
        "h is a step late: it is the previous forward pass's",
        lambda c: _with_forward_of(_with_current_output(c), ("z_I", "h")),
    ),
    Late(
        "stale forward pass",
        "h and ŷ are a step late: they are the previous forward pass's",
        lambda c: _with_forward_of(c, ("z_I", "h", "z_O", "yhat")),
    ),
]


def _with_current_output(case: Case) -> Case:
    """The case with z_O and ŷ computed, so that changing h leaves them alone."""
    kept = replace(case)
    kept.__dict__.update(z_O=case.z_O, yhat=case.yhat)
    return kept
