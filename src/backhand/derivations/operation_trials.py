"""One trial of an operation: what backward returns, and what differences of the forward pass give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backhand.derivations.loading import RefusedError
from backhand.derivations.operation_calls import NotKeptError, Operation, RaisedError, Returned
from backhand.derivations.operation_shapes import Scene, draw_all, numbers

MOST_ENTRIES = 16  # of an input; they are drawn at random
# Central differences, extrapolated: the step, the rounding of the outputs, what two steps may differ by, and the
# tolerance. A small constant that keeps a logarithm finite, and that a derivation leaves out, makes errors near 1e-5.
FINE, COARSE = (1e-4, 2e-16, 1e-6, 1e-4), (2e-2, 6e-8, 1e-2, 4e-3)
EXACT = 2e-6


@dataclass
class Gradient:
    """The gradient of one input, at the entries where differences can be trusted.

    Attributes:
        x: the input.
        upstream: the incoming gradient, of all outputs in one vector.
        found: the gradient as it was returned.
        fitted: at the entries; None where its shape does not fit.
        noise: how large a difference may be by rounding.
        jacobian: outputs × entries; None where only the slope was measured.
        slope: the derivative, where each output depends on the same entry of the input alone.
    """

    name: str
    x: np.ndarray
    entries: np.ndarray
    upstream: np.ndarray
    found: np.ndarray | None
    fitted: np.ndarray | None
    tolerance: float
    noise: float
    jacobian: np.ndarray | None = None
    slope: np.ndarray | None = None

    def times(self, upstream: np.ndarray) -> np.ndarray:
        """The right gradient for another incoming gradient."""
        if self.jacobian is not None:
            return upstream @ self.jacobian
        assert self.slope is not None
        return upstream[self.entries] * self.slope

    @property
    def right(self) -> np.ndarray:
        return self.times(self.upstream)

    @property
    def is_flat(self) -> bool:
        """Whether the derivative is zero at every entry."""
        slopes = self.slope if self.jacobian is None else self.jacobian
        return slopes is None or float(np.abs(slopes).max(initial=0)) <= self.noise

    @property
    def error(self) -> float | None:
        if self.fitted is None:
            return None
        difference = np.linalg.norm(self.fitted - self.right)
        size = max(np.linalg.norm(self.fitted), np.linalg.norm(self.right))
        return float(difference / size) if not difference <= self.noise and np.isfinite(size) else 0.0

    @property
    def cosine(self) -> float | None:
        if self.fitted is None or self.is_flat:
            return None
        sizes = np.linalg.norm(self.fitted) * np.linalg.norm(self.right)
        cosine = float(np.clip(self.fitted @ self.right / sizes, -1, 1)) if 0 < sizes < np.inf else np.nan
        return cosine if np.isfinite(cosine) else None

    def equals(self, candidate: np.ndarray) -> bool:
        """Whether what was returned is this, up to rounding."""
        if self.fitted is None or not (np.isfinite(self.fitted).all() and np.isfinite(candidate).all()):
            return False
        size = max(np.linalg.norm(self.fitted), np.linalg.norm(candidate))
        return bool(np.linalg.norm(self.fitted - candidate) <= self.tolerance * size + self.noise)

    def off(self) -> np.ndarray:
        """At which entries it is wrong."""
        assert self.fitted is not None
        limit = 10 * self.tolerance * np.maximum(np.abs(self.right), np.abs(self.fitted)) + self.noise
        return np.abs(self.fitted - self.right) > limit

    @property
    def is_wrong(self) -> bool:
        if self.found is None:
            return False
        if self.fitted is None or not self.equals(self.right):
            return True
        return self.slope is not None and bool(self.off().any())


@dataclass
class Trial:
    """One call of forward and backward.

    Attributes:
        note: what else than the numbers and the sizes differs from the first trial.
    """

    sizes: Mapping[str, int]
    values: list[Any]
    note: str = ""
    outputs: list[np.ndarray] = field(default_factory=list)
    upstream: list[np.ndarray] = field(default_factory=list)
    returned: Returned = field(default_factory=Returned)
    gradients: dict[str, Gradient] = field(default_factory=dict)
    error: RaisedError | None = None

    @property
    def wrong(self) -> list[Gradient]:
        return [gradient for gradient in self.gradients.values() if gradient.is_wrong]

    @property
    def returned_nothing(self) -> bool:
        return all(each is None for each in self.returned.gradients.values())

    @property
    def is_wrong(self) -> bool:
        found = self.returned
        return bool(self.error or found.fault or found.damage or self.wrong or self.returned_nothing)

    @property
    def misfits(self) -> bool:
        return bool(self.error or self.returned.fault or any(each.fitted is None for each in self.wrong))

    @property
    def was_summed(self) -> bool:
        return any(g.found is not None and g.found.shape != g.x.shape for g in self.gradients.values())


@dataclass
class Finding:
    """An operation, called in one way with one kind of arguments.

    Attributes:
        rank: how unlikely the shapes are, the place of the reading of backward's arguments, and of the scene.
    """

    operation: Operation
    scene: Scene
    span: str
    trials: list[Trial]
    rank: tuple[int, int, int] = (0, 0, 0)

    @property
    def first_wrong(self) -> Trial | None:
        return next((trial for trial in self.trials if trial.is_wrong), None)

    @property
    def right(self) -> bool:
        return self.first_wrong is None

    def is_flat(self, name: str) -> bool:
        """Whether the derivative is zero wherever it was tried."""
        return all(trial.gradients[name].is_flat for trial in self.trials if name in trial.gradients)

    @property
    def is_identity(self) -> bool:
        """Whether the output is the input."""
        return all(
            len(trial.outputs) == len(trial.gradients) == 1 and np.array_equal(gradient.x, trial.outputs[0])
            for trial in self.trials
            for gradient in trial.gradients.values()
        )


def run_trial(
    operation: Operation,
    scene: Scene,
    sizes: Mapping[str, int],
    span: str,
    seed: int,
    note: str = "",
    elementwise: bool = False,
) -> Trial | None:
    """Call the operation on one draw; None where the forward pass cannot be used.

    What is known to be elementwise is measured at all entries at once.

    Raises:
        RefusedError: the forward pass is not a function of its inputs.
    """
    rng = np.random.default_rng(seed + 1000)
    trial = Trial(sizes, draw_all(scene, sizes, seed, span), note)
    try:
        trial.outputs = operation.forward(trial.values)
        trial.upstream = [numbers(output.shape, rng, "real") for output in trial.outputs]
        if seed == 0:
            try:
                operation.find_slots(trial.values, trial.upstream)
            except RaisedError as error:
                trial.error = error
                return trial
        trial.values += operation.slot_values(trial.values, rng, span)
        trial.outputs = operation.forward(trial.values)
        base, again = operation.flat(trial.values), operation.flat(trial.values)
    except RefusedError:
        return None
    if not np.array_equal(base, again, equal_nan=True):
        raise RefusedError(
            f"{operation.path}: the forward pass gives different numbers in two calls with the same input; "
            "draw its random numbers with np.random or torch, whose seeds are set here"
        )
    if not np.isfinite(base).all():
        return None
    try:
        trial.returned = operation.backward(trial.values, trial.upstream)
    except NotKeptError:
        return None
    except RaisedError as error:
        trial.error = error
        return trial
    for name, place in operation.inputs(trial.values).items():
        size = trial.values[place].size
        if elementwise and base.size != size:
            return None
        entries = np.arange(size) if elementwise else rng.permutation(size)[:MOST_ENTRIES]
        gradient = trial.gradients[name] = measure(operation, trial, name, place, entries, base, elementwise)
        if 2 * len(gradient.entries) < len(entries):
            return None
        if seed and gradient.fitted is not None and not np.isfinite(gradient.fitted).all():
            return None  # a size at which the formula is 0 / 0
    return trial


def measure(
    operation: Operation, trial: Trial, name: str, place: int, entries: np.ndarray, base: np.ndarray, elementwise: bool
) -> Gradient:
    """The differences for some entries of an input, without those at a kink."""
    is_coarse = any(output.dtype.itemsize < 8 for output in trial.outputs if output.dtype.kind == "f")
    step, rounding, may_differ, tolerance = COARSE if is_coarse or operation.flavour == "torch float32" else FINE
    x = trial.values[place]
    noise = 50 * rounding * float(np.abs(base).max(initial=0)) / step
    h = step * np.maximum(1.0, np.abs(x.ravel()[entries]))
    groups = [entries] if elementwise else entries.reshape(-1, 1)
    columns, followed = [], []
    for group, steps in zip(groups, [h] if elementwise else h, strict=True):
        at = {}
        for factor in (-1, -0.5, 0.5, 1):
            moved = x.copy()
            moved.reshape(-1)[group] += factor * steps
            try:
                at[factor] = operation.flat([*trial.values[:place], moved, *trial.values[place + 1 :]])
            except RefusedError:
                break
        if len(at) == 4 and all(each.shape == base.shape and np.isfinite(each).all() for each in at.values()):
            wide, narrow = (at[1] - at[-1]) / (2 * steps), (at[0.5] - at[-0.5]) / steps
            sides = (at[0.5] - base) / (steps / 2) - (base - at[-0.5]) / (steps / 2)
            columns.append(((4 * narrow - wide) / 3, np.abs(wide - narrow), np.abs(sides)))
            followed += list(group)
    slopes, differ, sides = np.array(columns).reshape(-1, 3, base.size).transpose(1, 0, 2)
    size = np.maximum(np.abs(slopes), 1e-3) if elementwise else np.abs(slopes).max(initial=0)
    may_differ *= 10 if elementwise else 1
    good = (differ <= may_differ * size + noise) & (sides <= 0.02 * size + noise)
    good = good.ravel() if elementwise else good.all(1)
    entries = np.array(followed, dtype=int)[good]
    found = trial.returned.gradients.get(name)
    fitted = None if found is None else fit(found, x.shape, operation.is_function)
    fitted = None if fitted is None else fitted.ravel()[entries]
    jacobian = None if elementwise else slopes[good].T
    slope = slopes.ravel()[good] if jacobian is None else own_slope(jacobian, entries, x, trial, noise)
    upstream = np.concatenate([each.ravel() for each in trial.upstream])
    noise *= 5 if elementwise else 1 + float(np.abs(upstream).sum())
    return Gradient(name, x, entries, upstream, found, fitted, tolerance, noise, jacobian, slope)


def own_slope(
    jacobian: np.ndarray, entries: np.ndarray, x: np.ndarray, trial: Trial, noise: float
) -> np.ndarray | None:
    """The diagonal of the Jacobian, where there is nothing else in it."""
    if [output.shape for output in trial.outputs] != [x.shape]:
        return None
    own = jacobian[entries, np.arange(len(entries))]
    others = jacobian.copy()
    others[entries, np.arange(len(entries))] = 0
    return own if np.abs(others).max(initial=0) <= noise else None


def fit(found: np.ndarray, shape: tuple[int, ...], sums: bool) -> np.ndarray | None:
    """The gradient in the shape of its input: torch sums it over dimensions that were broadcast, nobody else does."""
    if found.shape == shape:
        return found
    padded = (1,) * (found.ndim - len(shape)) + shape
    if not sums or len(padded) != found.ndim or any(a not in (1, b) for a, b in zip(padded, found.shape, strict=True)):
        return None
    axes = tuple(axis for axis, size in enumerate(padded) if size == 1)
    return found.sum(axes, keepdims=True).reshape(shape)
