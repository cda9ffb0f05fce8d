"""Names what is wrong with the gradient of one input of an operation."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from backhand.derivations.loading import RefusedError
from backhand.derivations.operation_calls import Operation, RaisedError
from backhand.derivations.operation_shapes import ONE, numbers
from backhand.derivations.operation_trials import Gradient, Trial, fit


class Mistake(NamedTuple):
    """What is wrong with a gradient, in short, in more words, and the expression that would be right."""

    short: str
    more: str = ""
    mend: Callable[[str], str] | None = None
    named: bool = True
    divisor: str = ""  # the size by which a gradient is divided
    is_sentence: bool = False  # it is not said of a gradient

    def said(self, name: str) -> str:
        return self.short if self.is_sentence else f"the gradient of {name} {self.short}"


class Seen:
    """What formulas of mistakes are made of, in one trial, at the entries that were measured.

    Attributes:
        all_g: the incoming gradient of every output; ones if it is ignored.
        g, f: that of the same entry as the input's, and the output there.
        diagonal: the derivative of that output.
        right: the gradient for `all_g`.
        kinds: which formulas can be computed.
    """

    def __init__(self, operation: Operation, trial: Trial, name: str, is_ignored: bool) -> None:
        self.operation, self.trial, self.gradient = operation, trial, trial.gradients[name]
        x, entries, slope = self.gradient.x, self.gradient.entries, self.gradient.slope
        self.place = operation.inputs(trial.values)[name]
        self.all_g = np.ones_like(self.gradient.upstream) if is_ignored else self.gradient.upstream
        self.right = self.gradient.times(self.all_g)
        self.kinds = {"any", *(("square",) if x.ndim == 2 and x.shape[0] == x.shape[1] else ())}
        if len(trial.outputs) == 1 and trial.outputs[0].shape == x.shape:
            self.kinds |= {"same shape"} if slope is None else {"same shape", "elementwise"}
            self.g, self.f = self.all_g[entries], trial.outputs[0].ravel()[entries]
            if slope is None:
                assert self.gradient.jacobian is not None
                slope = self.gradient.jacobian[entries, np.arange(len(entries))]
            self.diagonal = slope

    @property
    def transposed(self) -> np.ndarray:
        square = np.full(self.gradient.x.shape, np.nan)  # some entries were not measured
        square.flat[self.gradient.entries] = self.right
        return square.T.ravel()[self.gradient.entries]

    def of_other(self, name: str) -> np.ndarray:
        """The right gradient of another input of the same shape."""
        other = self.trial.gradients[name]
        full = np.full(other.x.size, np.nan)
        full[other.entries] = other.right
        return full[self.gradient.entries]

    def slope_at(self, points: np.ndarray) -> np.ndarray:
        """The derivative at other points than the input."""
        values, place = self.trial.values, self.place
        try:
            low, high = (
                self.operation.flat([*values[:place], points + h, *values[place + 1 :]]) for h in (-1e-5, 1e-5)
            )
        except RefusedError:
            return np.full(len(self.gradient.entries), np.nan)
        return ((high - low) / 2e-5)[self.gradient.entries]

    def shows(self, candidate: np.ndarray) -> bool:
        """Whether nearly all that was returned is this, and this is not right, as f′ anywhere is for a linear f."""
        known, noise, fitted = ~np.isnan(candidate), self.gradient.noise, self.gradient.fitted
        if fitted is None or not candidate[known].any():
            return False
        is_near = np.isclose(fitted[known], candidate[known], rtol=1e-3, atol=noise).mean() > 0.9
        return bool(is_near) and not np.allclose(candidate, self.gradient.right, rtol=1e-2, atol=noise)


# The usual mistakes: what the formula needs, what is said in short and further, and what is returned then.
CATALOGUE: tuple[tuple[str, str, str, Callable[[Seen], np.ndarray]], ...] = (
    ("any", "has the wrong sign", "", lambda at: -at.right),
    ("square", "is transposed", "", lambda at: at.transposed),
    ("any", "has {up} twice", "", lambda at: at.gradient.times(at.all_g**2)),
    (
        "same shape",
        "is the diagonal of the Jacobian only",
        ", and every output depends on several inputs",
        lambda at: at.g * at.diagonal,
    ),
    (
        "same shape",
        "lacks the derivative",
        ": {up} is passed on unchanged, as if the derivative were the constant 1",
        lambda at: at.g,
    ),
    ("elementwise", "has f where f′ is needed", "", lambda at: at.g * at.f),
    ("elementwise", "has f′ twice", "", lambda at: at.g * at.diagonal**2),
    ("elementwise", "is 1/f′", ", the reciprocal of the right derivative", lambda at: at.g / at.diagonal),
    ("elementwise", "has f′ at the output", ", not the input", lambda at: at.g * at.slope_at(at.trial.outputs[0])),
    ("elementwise", "has f′ at the incoming gradient", "", lambda at: at.g * at.slope_at(at.trial.upstream[0])),
)


def explain(operation: Operation, trials: Sequence[Trial], name: str) -> Mistake:
    """What is wrong with the gradient of this input, which is wrong in one of the trials."""
    note = next(trial.note for trial in trials if name in trial.gradients and trial.gradients[name].is_wrong)
    trials = [trial for trial in trials if trial.note == note and name in trial.gradients]
    found = cause(operation, trials, [trial for trial in trials if trial.gradients[name].is_wrong], name)
    if not note:
        return found
    return Mistake(f"{found.short} {note}", found.more, found.mend, found.named, is_sentence=found.is_sentence)


def cause(operation: Operation, trials: Sequence[Trial], wrong: Sequence[Trial], name: str) -> Mistake:
    """What is wrong in trials that differ by random numbers and sizes alone."""
    trial, gradient, up = wrong[0], wrong[0].gradients[name], operation.upstream
    if gradient.fitted is None:
        return of_shape(operation, trial, gradient)
    if not np.isfinite(gradient.fitted).all():
        return Mistake("is NaN or infinite", ", and the right one is not")
    if any(each.returned.draws_random_numbers for each in wrong):
        more = ": a mask is drawn once, in the forward pass, and saved"
        return Mistake("backward draws random numbers of its own", more, is_sentence=True)
    is_ignored = ignores_upstream(operation, trial, name)
    found = of_value(operation, [each for each in wrong if each.gradients[name].fitted is not None], name, is_ignored)
    if is_ignored:
        more = ": the incoming gradient must be multiplied (chain rule)"
        more += f"; also, {found.said(name)}{found.more}" if found and found.short else ""
        is_factor = gradient.slope is not None or trial.outputs[0].ndim == 0
        mend = (lambda e: f"{up} * {wrapped(e)}") if is_factor else None
        return Mistake(f"{up} is ignored", more, mend, named=found is not None, is_sentence=True)
    part = of_region(trials, name)
    if found and part and gradient.slope is not None:
        return Mistake(found.short, f"{found.more}; it {part.short}{part.more}", found.mend)
    return found or part or worst(trial, gradient)


def where(trial: Trial) -> str:
    """The size that is one in this trial."""
    ones = [word for letter, word in ONE.items() if trial.sizes[letter] == 1]
    return f"for one {ones[0]} " if len(ones) == 1 else "where every size is one, " if ones else ""


def of_shape(operation: Operation, trial: Trial, gradient: Gradient) -> Mistake:
    """Why the shape is not that of the input."""
    found, shape, name, outputs = gradient.found, gradient.x.shape, gradient.name, trial.outputs
    assert found is not None
    shapes = f"shape is {found.shape}, should be {shape}"

    def matches(candidate: np.ndarray) -> bool:
        at = candidate.ravel()[gradient.entries]
        return bool(np.allclose(at, gradient.right, rtol=1e-4, atol=1e-8 + gradient.noise))

    if found.ndim >= 2 and np.swapaxes(found, -1, -2).shape == shape:
        also = "" if matches(np.swapaxes(found, -1, -2)) else ", and its numbers are wrong, too"
        transpose = ".t()" if operation.flavour.startswith("torch") else ".T"
        more = f": {shapes} (a square {name} would hide it){also}"
        return Mistake("is transposed", more, lambda e: f"{wrapped(e)}{transpose}")
    if found.size == gradient.x.size and np.squeeze(found).shape == np.squeeze(gradient.x).shape:
        if found.ndim >= len(shape):
            return Mistake("has a dimension too many", f": {shapes}")
        short = "is squeezed" if found.ndim else "is squeezed to a scalar"
        return Mistake(short, f": {where(trial)}the {shapes}", lambda e: re.sub(r"\.squeeze\([^()]*\)", "", e))
    axes = [c for n in range(1, outputs[0].ndim) for c in itertools.combinations(range(outputs[0].ndim), n)]
    sums = {c: trial.upstream[0].sum(c) for c in axes} if len(outputs) == 1 else {}
    mine = next((c for c, s in sums.items() if s.shape == found.shape and np.allclose(s, found)), None)
    right = next((c for c, s in sums.items() if s.size == gradient.x.size and matches(s)), None)
    if mine is not None and right is not None:
        return Mistake("is summed over the wrong axis", f", {listed(mine)} and not {listed(right)}: {shapes}")
    summed = fit(found, shape, sums=True)
    if summed is not None:
        axis = tuple(range(found.ndim - len(shape)))
        mend = (lambda e: f"{wrapped(e)}.sum({listed(axis)})") if len(axis) == 1 and matches(summed) else None
        return Mistake("is not summed", f" over the dimensions in which {name} was broadcast: {shapes}", mend)
    if found.size == 1:
        return Mistake("is summed to a scalar", f": {shapes}")
    return Mistake("has a wrong shape", f": {where(trial)}the {shapes}", named=False)


def ignores_upstream(operation: Operation, trial: Trial, name: str) -> bool:
    """Whether another upstream gradient gives the same."""
    if not operation.uses_upstream or trial.gradients[name].is_flat:
        return False
    rng = np.random.default_rng(99)
    try:
        other = operation.backward(trial.values, [numbers(each.shape, rng, "real") for each in trial.upstream])
    except RefusedError:
        return False
    mine, theirs = trial.returned.gradients.get(name), other.gradients.get(name)
    return mine is not None and theirs is not None and mine.shape == theirs.shape and np.allclose(mine, theirs)


def of_value(operation: Operation, wrong: Sequence[Trial], name: str, is_ignored: bool) -> Mistake | None:
    """The mistake whose result is what was returned in every trial."""
    seen = [Seen(operation, trial, name, is_ignored) for trial in wrong[:4]]
    if is_ignored and all(at.shows(at.right) for at in seen):
        return Mistake("")  # it is right but for that
    with np.errstate(all="ignore"):
        for kind, short, more, formula in CATALOGUE:
            if all(kind in at.kinds and at.shows(formula(at)) for at in seen):
                short, more = (each.format(up=operation.upstream) for each in (short, more))
                return Mistake(short, more, (lambda e: f"-{wrapped(e)}") if short == "has the wrong sign" else None)
    first = wrong[0].gradients
    for other in first:
        if other == name or first[other].x.shape != first[name].x.shape:
            continue
        if all(other in at.trial.gradients and at.shows(at.of_other(other)) for at in seen):
            return Mistake(f"is swapped with that of {other}")
    return of_factor(wrong, name, is_ignored)


def of_factor(wrong: Sequence[Trial], name: str, is_ignored: bool) -> Mistake | None:
    """A constant factor, or one that depends on the size."""
    factors: list[float] = []
    sizes: list[dict[str, int]] = []
    for trial in wrong:
        gradient = trial.gradients[name]
        if gradient.is_flat:
            continue
        assert gradient.fitted is not None
        right = gradient.times(np.ones_like(gradient.upstream)) if is_ignored else gradient.right
        factor = float(gradient.fitted @ right / float(right @ right))
        if factor == 0 or not gradient.equals(factor * right):
            return None
        shape = trial.outputs[0].shape or np.atleast_1d(gradient.x).shape
        words = ("", "the number of rows", "the number of columns", "the number of elements")
        sizes.append(dict(zip(words, (1, shape[0], shape[-1], int(np.prod(shape))), strict=True)))
        factors.append(factor)
    if not factors:
        return None
    for word, power in itertools.product(sizes[0], (1, -1)):
        constants = [factor / each[word] ** power for factor, each in zip(factors, sizes, strict=True)]
        differs = not word or len({each[word] for each in sizes}) > 1
        if not differs or np.ptp(constants) > 1e-3 * abs(constants[0]):
            continue
        if not word:
            return of_constant(constants[0])
        short = f"is {'multiplied' if power > 0 else 'divided'} by {sizes[0][word]}, {word}"
        if abs(constants[0] - 1) >= 1e-3:
            return Mistake(short, f", and multiplied by {number(constants[0])}")
        more = " (a mean must be divided by it)" if power > 0 else " (a sum is right, not a mean)"
        return Mistake(short, more, divisor=word if power < 0 else "")
    return Mistake(f"is {number(factors[0])} times the right one", ", a factor that depends on the arguments")


def of_constant(constant: float) -> Mistake:
    """A constant factor."""
    is_small, factor = abs(constant) < 1, f"{max(constant, 1 / constant, key=abs):.4g}"
    return Mistake(
        f"is {number(constant)} times the right one",
        f": the factor {factor} is {'missing' if is_small else 'too much'}",
        lambda e: f"{factor} * {wrapped(e)}" if is_small else f"{wrapped(e)} / {factor}",
    )


def of_region(trials: Sequence[Trial], name: str) -> Mistake | None:
    """For which values of the input it is wrong, where it is right for others."""
    parts: dict[str, list[np.ndarray]] = {}
    for trial in trials:
        gradient = trial.gradients.get(name)
        if gradient is None or gradient.fitted is None:
            continue
        mine, right = gradient.fitted, gradient.right
        if gradient.slope is not None:
            g = gradient.upstream[gradient.entries]
            mine, right = mine / g, right / g
        variables = {name: gradient.x}
        for other in trial.gradients.values():
            if other is not gradient and other.x.shape == gradient.x.shape:
                variables |= {f"{name} − {other.name}": gradient.x - other.x, other.name: other.x}
        for label, values in variables.items():
            rows = np.stack([values.ravel()[gradient.entries], mine, right, gradient.off()])
            parts.setdefault(label, []).append(rows)
    for label, found in parts.items():
        at, mine, right, off = np.concatenate(found, axis=1)
        is_off = off.astype(bool)
        near = np.abs(mine - right)[~is_off] > 1e-5 * np.abs(right)[~is_off]
        # A difference that fades out has no edge.
        if len(at) < 16 or is_off.sum() < 2 or len(near) < 2 or near.mean() > 0.01:
            continue
        said = region(label, at, is_off) or region(f"|{label}|", np.abs(at), is_off)
        if said is not None:
            middle = np.flatnonzero(is_off)[np.argsort(at[is_off])[int(is_off.sum()) // 2]]
            x, yours, its = (number(values[middle]) for values in (at, mine, right))
            return Mistake(f"is wrong {said}", f": at {label} = {x} yours is {yours}, right is {its}")
    return None


def region(label: str, at: np.ndarray, off: np.ndarray) -> str | None:
    """The interval of the values that are off, where all in it are."""
    low, high = float(at[off].min()), float(at[off].max())
    below, above = at[at < low], at[at > high]
    if low == high:
        return f"where {label} is {number(low)}"
    if off[(at >= low) & (at <= high)].mean() < 0.97 or not (below.size or above.size):
        return None
    if not below.size:
        return f"for negative {label}" if high <= 0 <= above.min() else f"for {label} below {number(high)}"
    if not above.size:
        return f"for positive {label}" if below.max() <= 0 <= low else f"for {label} above {number(low)}"
    sign = "negative " if high <= 0 else "positive " if low >= 0 and "|" not in label else ""
    return f"for {sign}{label}{',' if sign else ''} between {number(low)} and {number(high)}"


def worst(trial: Trial, gradient: Gradient) -> Mistake:
    """The entry with the largest difference."""
    assert gradient.fitted is not None
    place = int(np.argmax(np.abs(gradient.fitted - gradient.right)))
    index = [int(each) for each in np.unravel_index(gradient.entries[place], gradient.x.shape)]
    x, yours, its = (number(v[place]) for v in (gradient.x.ravel()[gradient.entries], gradient.fitted, gradient.right))
    more = f": {where(trial)}{int(gradient.off().sum())} of {len(gradient.entries)} numbers, most of all at {index}, "
    return Mistake("is wrong", f"{more}where {gradient.name} is {x}: yours is {yours}, right is {its}", named=False)


def hint(error: RaisedError, backward: Any) -> str:
    """What is probably meant, where an error is a known one."""
    source, _ = source_of(backward)
    unpacked = re.search(r"^\s*(\w+)\s*=\s*ctx\.saved_(?:tensors|variables)\s*$", source, re.M)
    if unpacked and "tuple" in error.said:
        return f"ctx.saved_tensors is a tuple: write {unpacked[1]}, = ctx.saved_tensors"
    made = re.search(r"(np|numpy|torch)\.(zeros|ones|empty)\((\w+)\)", error.line)
    if made and error.said.startswith("TypeError"):
        return f"{made[0]} takes {made[3]} for a shape: write {made[1]}.{made[2]}_like({made[3]})"
    return next((text for pattern, text in HINTS.items() if re.search(pattern, error.said)), "")


HINTS = {
    "cannot be multiplied|not aligned|mismatch in its core|size mismatch|inconsistent": (
        "the shapes of a product do not fit: transpose a factor, or exchange the two"
    ),
    "could not be broadcast|must match the size": "the shapes do not fit",
    "truth value|Boolean value": "`if` takes one number: use np.where or a mask",
}


def source_of(function: Any) -> tuple[str, int]:
    """The text of a function and its first line; nothing where there is none."""
    try:
        lines, first = inspect.getsourcelines(inspect.unwrap(function))
    except (OSError, TypeError):
        return "", 0
    return textwrap.dedent("".join(lines)), first


def line_of(operation: Operation, name: str) -> tuple[str, str] | None:
    """The line of backward that makes the gradient of this input, with its place, and the expression in it."""
    source, first = source_of(operation.backward_function)
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return None
    assignments = [node for node in nodes if isinstance(node, ast.Assign) and len(node.targets) == 1]
    found: list[Any]
    if name in operation.slots:
        label = operation.slots[name]
        found = [a for a in assignments if isinstance(a.targets[0], ast.Attribute) and a.targets[0].attr == label]
    else:
        found = [node for node in nodes if isinstance(node, ast.Return) and node.value is not None]
    if not found:
        return None
    statement, value = found[-1], found[-1].value
    if isinstance(value, ast.Tuple) and name not in operation.slots:
        arrays = [each for each in operation.names if each not in operation.slots]
        place = arrays.index(name)
        if len(value.elts) == len(arrays):
            value = value.elts[place]
        elif operation.is_function:
            value = value.elts[min(place, len(value.elts) - 1)]
    own = [a for a in assignments if isinstance(value, ast.Name) and ast.unparse(a.targets[0]) == value.id]
    if len(own) == 1:
        statement, value = own[0], own[0].value
    line = source.splitlines()[statement.lineno - 1].strip()
    return f"{operation.path}:{first + statement.lineno - 1}: {line}", ast.unparse(value)


def wrapped(expression: str) -> str:
    """The expression, in brackets where it needs them as a factor."""
    node = ast.parse(expression, mode="eval").body
    plain = isinstance(node, ast.Name | ast.Call | ast.Attribute | ast.Subscript | ast.Constant) or (
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
    )
    return expression if plain else f"({expression})"


def listed(axes: Sequence[int]) -> str:
    """One number, or several in brackets."""
    return str(axes[0]) if len(axes) == 1 else str(tuple(axes))


def number(value: float) -> str:
    """Two or three digits, with a minus sign."""
    return f"{float(value):{'.2g' if abs(value) < 1 else '.3g'}}".replace("-", "−")
