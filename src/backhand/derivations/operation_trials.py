"""One trial of an operation: what backward returns, and what differences of the forward pass give."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backhand.derivations.operation_calls import Answer, CannotJudgeError, Operation, PlainOperation, RaisedError
from backhand.derivations.operation_shapes import Scene, draw_all, numbers

MOST_ENTRIES = 32  # of an input; they are drawn at random
SECONDS_AN_INPUT = 0.04
# Central differences, extrapolated: the step, the rounding of the outputs, and what two steps may differ by.
FINE, COARSE = (1e-4, 2e-16, 1e-6), (2e-2, 6e-8, 1e-2)
# A small constant that keeps a logarithm finite, and that a derivation leaves out, makes errors near 1e-5.
TOLERANCE = {"fine": 1e-4, "coarse": 4e-3}
EXACT = 2e-6


@dataclass
class Gradient:
    """The gradient of one input, at the entries where differences can be trusted."""

    name: str
    x: np.ndarray
    entries: np.ndarray
    right: np.ndarray
    found: np.ndarray | None  # as it was returned
    fitted: np.ndarray | None  # at the entries; None where its shape does not fit
    tolerance: float
    noise: float
    jacobian: np.ndarray | None = None  # outputs × entries
    slope: np.ndarray | None = None  # where each output depends on the same entry of the input alone

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
        if self.fitted is None or candidate.shape != self.fitted.shape:
            return False
        if not (np.isfinite(self.fitted).all() and np.isfinite(candidate).all()):
            return False
        size = max(np.linalg.norm(self.fitted), np.linalg.norm(candidate))
        return bool(np.linalg.norm(self.fitted - candidate) <= self.tolerance * size + self.noise)

    def resembles(self, candidate: np.ndarray) -> bool:
        """Whether nearly all numbers are those: enough for a name."""
        known = ~np.isnan(candidate)  # some entries were not measured
        if self.fitted is None or not candidate[known].any():
            return False
        return bool(np.isclose(self.fitted[known], candidate[known], rtol=1e-3, atol=self.noise).mean() > 0.9)

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
    """One call of forward and backward."""

    sizes: Mapping[str, int]
    values: list[Any]
    outputs: list[np.ndarray] = field(default_factory=list)
    upstream: list[np.ndarray] = field(default_factory=list)
    gradients: dict[str, Gradient] = field(default_factory=dict)
    found: dict[str, np.ndarray | None] = field(default_factory=dict)
    error: RaisedError | None = None
    fault: str = ""
    damage: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    draws_random_numbers: bool = False
    has_unknown: bool = False
    note: str = ""  # what else than the numbers and the sizes differs from the first trial
    usable: bool = True

    @property
    def wrong(self) -> list[Gradient]:
        return [gradient for gradient in self.gradients.values() if gradient.is_wrong]

    @property
    def is_wrong(self) -> bool:
        returned_nothing = all(each is None for each in self.found.values())
        return bool(self.error or self.fault or self.damage or self.wrong or returned_nothing)

    @property
    def misfits(self) -> bool:
        return bool(self.error or self.fault or any(each.fitted is None for each in self.wrong))

    @property
    def was_summed(self) -> bool:
        return any(g.found is not None and g.found.shape != g.x.shape for g in self.gradients.values())


def run_trial(operation: Operation, scene: Scene, sizes: Mapping[str, int], span: str, seed: int) -> Trial:
    """Call the operation on one draw; a trial that cannot be used says so.

    Raises:
        CannotJudgeError: the forward pass is not a function of its inputs.
    """
    rng = np.random.default_rng(seed + 1000)
    trial = Trial(sizes, draw_all(scene, sizes, seed, span))
    try:
        trial.outputs = operation.forward(trial.values)
        trial.upstream = [numbers(output.shape, rng, "real") for output in trial.outputs]
        if seed == 0 and isinstance(operation, PlainOperation):
            try:
                operation.find_slots(trial.values, trial.upstream[0])
            except RaisedError as error:
                trial.error = error
                return trial
        trial.values += operation.slot_values(trial.values, rng, span)
        trial.outputs = operation.forward(trial.values)
        base = operation.flat(trial.values)
        start = time.monotonic()
        again = operation.flat(trial.values)
        seconds = time.monotonic() - start
    except (RaisedError, CannotJudgeError):
        trial.usable = False
        return trial
    if not np.array_equal(base, again, equal_nan=True):
        raise CannotJudgeError(
            f"{operation.path}: the forward pass gives different numbers in two calls with the same input; "
            "draw its random numbers with np.random or torch, whose seeds are set here"
        )
    if not np.isfinite(base).all():
        trial.usable = False
        return trial
    try:
        answer = operation.backward(trial.values, trial.upstream)
        again_answered = operation.backward(trial.values, trial.upstream) if seed == 0 else answer
        if not answer.fault and not same_gradients(answer, again_answered):
            trial.damage.append("two calls of backward with the same numbers give different gradients")
    except RaisedError as error:
        trial.error = error
        return trial
    trial.found, trial.fault, trial.remarks = answer.gradients, answer.fault, answer.remarks
    trial.damage += answer.damage
    trial.draws_random_numbers, trial.has_unknown = answer.draws_random_numbers, answer.has_unknown
    for name, place in operation.inputs(trial.values).items():
        most = int(np.clip(SECONDS_AN_INPUT / 4 / max(seconds, 1e-6), 8, MOST_ENTRIES))
        entries = rng.permutation(trial.values[place].size)[:most]
        gradient = measure(operation, trial, name, place, entries, base)
        if 2 * len(gradient.entries) < len(entries):
            trial.usable = False
        if seed and gradient.fitted is not None and not np.isfinite(gradient.fitted).all():
            trial.usable = False  # a size at which the formula is 0 / 0
        trial.gradients[name] = gradient
    return trial


def measure(
    operation: Operation, trial: Trial, name: str, place: int, entries: np.ndarray, base: np.ndarray
) -> Gradient:
    """The differences for some entries of an input, without those at a kink."""
    is_coarse = any(output.dtype.itemsize < 8 for output in trial.outputs if output.dtype.kind == "f")
    step, rounding, may_differ = COARSE if is_coarse or operation.flavour == "torch float32" else FINE
    x, columns, kept = trial.values[place], [], []
    noise = 50 * rounding * float(np.abs(base).max(initial=0)) / step
    for entry in entries:
        h = step * max(1.0, abs(float(x.flat[entry])))
        at = {}
        for factor in (-1, -0.5, 0.5, 1):
            moved = x.copy()
            moved.reshape(-1)[entry] += factor * h
            try:
                at[factor] = operation.flat([*trial.values[:place], moved, *trial.values[place + 1 :]])
            except (RaisedError, CannotJudgeError):
                break
        if len(at) == 4 and all(each.shape == base.shape and np.isfinite(each).all() for each in at.values()):
            columns.append(slopes(at, base, h))
            kept.append(entry)
    good, jacobian = trusted(columns, base.size, may_differ, noise)
    entries = np.array([entry for entry, is_good in zip(kept, good, strict=True) if is_good], dtype=int)
    found = trial.found.get(name)
    fitted = None if found is None else fit(found, x.shape, operation.sums_itself)
    is_half = found is not None and found.dtype.itemsize < 4 and found.dtype.kind == "f"
    kind = "coarse" if step == COARSE[0] or is_half else "fine"
    upstream = np.concatenate([each.ravel() for each in trial.upstream])
    slope = own_slope(jacobian, entries, x, trial, noise)
    noise *= 1 + float(np.abs(upstream).sum())
    fitted = None if fitted is None else fitted.ravel()[entries]
    return Gradient(name, x, entries, upstream @ jacobian, found, fitted, TOLERANCE[kind], noise, jacobian, slope)


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


def slopes(at: Mapping[float, np.ndarray], base: np.ndarray, h: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The extrapolated difference, how much two steps differ, and how much the two sides do."""
    wide, narrow = (at[1] - at[-1]) / (2 * h), (at[0.5] - at[-0.5]) / h
    sides = (at[0.5] - base) / (h / 2) - (base - at[-0.5]) / (h / 2)
    return (4 * narrow - wide) / 3, np.abs(wide - narrow), np.abs(sides)


def trusted(
    columns: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], outputs: int, may_differ: float, noise: float
) -> tuple[list[bool], np.ndarray]:
    """Which columns have no kink or step within the difference, and those columns."""
    scale = max((float(np.abs(slope).max(initial=0)) for slope, _, _ in columns), default=0.0)
    good = [
        bool(differ.max(initial=0) <= may_differ * scale + noise and sides.max(initial=0) <= 0.02 * scale + noise)
        for _, differ, sides in columns
    ]
    jacobian = [slope for (slope, _, _), is_good in zip(columns, good, strict=True) if is_good]
    return good, np.array(jacobian).reshape(-1, outputs).T


def scan(operation: Operation, main: Trial, name: str, place: int, span: str) -> Trial | None:
    """Compare an elementwise function of one input on many values; None where it takes no such shape."""
    rng = np.random.default_rng(1)
    x = main.values[place]
    shape = (400 // x.shape[-1], x.shape[-1]) if x.ndim == 2 else (400,) * (x.ndim == 1)
    if not shape:
        return None
    count = int(np.prod(shape))
    ranges = {"real": (-10, 10), "positive": (0.02, 9), "unit": (0.01, 0.99), "signed unit": (-0.99, 0.99)}
    low, high = ranges.get(span, (1.01, 9))
    near = rng.uniform(max(low, -1.3), min(high, 1.3) if low < 1 else high, count // 2)
    values = rng.permutation(np.concatenate([near, rng.uniform(low, high, count - len(near))])).reshape(shape)
    given = [*main.values[:place], values, *main.values[place + 1 :]]
    trial = Trial(main.sizes, given)
    is_coarse = operation.flavour == "torch float32"
    step, rounding, may_differ = COARSE if is_coarse else FINE
    try:
        base = operation.flat(given)
        trial.outputs = [base.reshape(shape)]
        at = {
            factor: operation.flat([*given[:place], values + factor * step, *given[place + 1 :]])
            for factor in (-1, -0.5, 0.5, 1)
        }
        trial.upstream = [numbers(shape, rng, "real")]
        answer = operation.backward(given, trial.upstream)
    except (RaisedError, CannotJudgeError, ValueError):
        return None
    found = answer.gradients.get(name)
    if base.size != count or found is None or found.shape != shape or not np.isfinite(base).all():
        return None
    slope, differ, sides = slopes(at, base, step)
    noise = 50 * rounding * max(float(np.abs(base).max()), 1.0) / step
    size = np.maximum(np.abs(slope), 1e-3)
    good = np.isfinite(slope) & (differ <= 10 * may_differ * size + noise) & (sides <= 0.02 * size + noise)
    entries = np.flatnonzero(good)
    right = trial.upstream[0].ravel()[entries] * slope[entries]
    trial.gradients[name] = Gradient(
        name, values, entries, right, found, found.ravel()[entries],
        TOLERANCE["coarse" if is_coarse else "fine"], 5 * noise, slope=slope[entries],
    )  # fmt: skip
    trial.found = answer.gradients
    return trial


def fit(found: np.ndarray, shape: tuple[int, ...], sums: bool) -> np.ndarray | None:
    """The gradient in the shape of its input: torch sums it over dimensions that were broadcast, nobody else does."""
    if found.shape == shape:
        return found
    padded = (1,) * (found.ndim - len(shape)) + shape
    if not sums or len(padded) != found.ndim or any(a not in (1, b) for a, b in zip(padded, found.shape, strict=True)):
        return None
    axes = tuple(axis for axis, size in enumerate(padded) if size == 1)
    return found.sum(axes, keepdims=True).reshape(shape)


def same_gradients(a: Answer, b: Answer) -> bool:
    """Whether two calls gave the same."""
    pairs = [(each, b.gradients.get(name)) for name, each in a.gradients.items()]
    return all(x is y is None or np.array_equal(np.asarray(x), np.asarray(y), equal_nan=True) for x, y in pairs)
