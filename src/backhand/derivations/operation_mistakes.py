"""Names what is wrong with the gradient of one input of an operation."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from backhand.derivations.operation_calls import CannotJudgeError, Operation, RaisedError
from backhand.derivations.operation_shapes import ONE, numbers
from backhand.derivations.operation_trials import Gradient, Trial, fit


class Mistake(NamedTuple):
    """What is wrong, in a few words and in a sentence, and the expression that would be right."""

    short: str
    text: str
    mend: Callable[[str], str] | None = None
    named: bool = True
    divisor: str = ""  # the size by which a gradient is divided


def explain(operation: Operation, trials: Sequence[Trial], name: str) -> Mistake:
    """What is wrong with the gradient of this input, which is wrong in one of the trials."""
    wrong = [trial for trial in trials if name in trial.gradients and trial.gradients[name].is_wrong]
    note = wrong[0].note
    alike = [trial for trial in trials if trial.note == note]
    found = explain_alike(operation, alike, [trial for trial in wrong if trial.note == note], name)
    if not note:
        return found
    return Mistake(f"{found.short} {note}", f"{note}, {found.text}", found.mend, found.named)


def explain_alike(operation: Operation, trials: Sequence[Trial], wrong: Sequence[Trial], name: str) -> Mistake:
    """The same for trials with the same arguments but for the random numbers and the sizes."""
    trial, gradient = wrong[0], wrong[0].gradients[name]
    assert gradient.found is not None
    if gradient.fitted is None:
        return of_shape(operation, trial, gradient)
    if not np.isfinite(gradient.fitted).all():
        return Mistake("is NaN or infinite", f"the gradient of {name} is NaN or infinite, and the right one is not")
    wrong = [each for each in wrong if each.gradients[name].fitted is not None]
    is_ignored = ignores_upstream(operation, trial, name)
    if any(each.draws_random_numbers for each in wrong):
        return Mistake(
            "backward draws random numbers of its own",
            f"the gradient of {name} is wrong, and backward draws random numbers: a mask is drawn once, in the "
            "forward pass, and saved",
        )
    found = of_value(operation, wrong, name, is_ignored)
    if is_ignored:
        up = operation.upstream
        text = f"{up} is ignored: the incoming gradient must be multiplied (chain rule)"
        further = [] if found is None or not found.short else [f"also, {found.text}"]
        is_factor = gradient.slope is not None or trial.outputs[0].ndim == 0
        mend = (lambda e: f"{up} * {wrapped(e)}") if is_factor else None
        return Mistake(f"{up} is ignored", "; ".join([text, *further]), mend, named=found is not None)
    part = of_region(trials, name)
    if found and part and gradient.slope is not None:
        return Mistake(found.short, f"{found.text}; {part.text}", found.mend)
    return found or part or worst(trial, gradient)


def where(trial: Trial) -> str:
    """The size that is one in this trial."""
    ones = [word for letter, word in ONE.items() if trial.sizes[letter] == 1]
    return f"for one {ones[0]} " if len(ones) == 1 else "where every size is one, " if ones else ""


def of_shape(operation: Operation, trial: Trial, gradient: Gradient) -> Mistake:
    """Why the shape is not that of the input."""
    found, shape, name = gradient.found, gradient.x.shape, gradient.name
    assert found is not None
    shapes = f"shape is {found.shape}, should be {shape}"

    def matches(candidate: np.ndarray) -> bool:
        if candidate.shape != shape:
            return False
        at = candidate.ravel()[gradient.entries]
        return bool(np.allclose(at, gradient.right, rtol=1e-4, atol=1e-8 + gradient.noise))

    transpose = ".t()" if operation.flavour.startswith("torch") else ".T"
    if found.ndim >= 2 and np.swapaxes(found, -1, -2).shape == shape:
        also = "" if matches(np.swapaxes(found, -1, -2)) else ", and its numbers are wrong, too"
        return Mistake(
            "is transposed",
            f"the gradient of {name} is transposed: {shapes} (a square {name} would hide it){also}",
            lambda e: f"{wrapped(e)}{transpose}",
        )
    if found.size == gradient.x.size and np.squeeze(found).shape == np.squeeze(gradient.x).shape:
        if found.ndim < len(shape):
            to = " to a scalar" if not found.ndim else ""

            text = f"the gradient of {name}: {where(trial)}it is squeezed{to}: {shapes}"
            return Mistake("is squeezed", text, lambda e: re.sub(r"\.squeeze\([^()]*\)", "", e))
        return Mistake("has a dimension too many", f"the gradient of {name} has a dimension too many: {shapes}")
    outputs = trial.outputs
    if len(outputs) == 1:
        axes = [c for n in range(1, outputs[0].ndim) for c in itertools.combinations(range(outputs[0].ndim), n)]
        sums = {c: trial.upstream[0].sum(c) for c in axes}
        mine = next((c for c, s in sums.items() if s.shape == found.shape and np.allclose(s, found)), None)
        right = next((c for c, s in sums.items() if s.size == gradient.x.size and matches(s.reshape(shape))), None)
        if mine is not None and right is not None:
            return Mistake(
                "is summed over the wrong axis",
                f"the gradient of {name} is summed over axis {listed(mine)}, and should be over axis {listed(right)}: "
                f"{shapes}",
            )
    summed = fit(found, shape, sums=True)
    if summed is not None:
        axis = tuple(range(found.ndim - len(shape)))
        return Mistake(
            "is not summed",
            f"the gradient of {name} is not summed over the dimensions in which {name} was broadcast: {shapes}",
            (lambda e: f"{wrapped(e)}.sum({listed(axis)})") if len(axis) == 1 and matches(summed) else None,
        )
    if found.size == 1:
        return Mistake("is summed to a scalar", f"the gradient of {name} is summed to one number, a scalar: {shapes}")
    return Mistake("has a wrong shape", f"the gradient of {name}: {where(trial)}the {shapes}", named=False)


def ignores_upstream(operation: Operation, trial: Trial, name: str) -> bool:
    """Whether another upstream gradient gives the same."""
    if not operation.uses_upstream or name not in trial.found or trial.gradients[name].is_flat:
        return False
    rng = np.random.default_rng(99)
    try:
        other = operation.backward(trial.values, [numbers(each.shape, rng, "real") for each in trial.upstream])
    except (RaisedError, CannotJudgeError):
        return False
    mine, theirs = trial.found[name], other.gradients.get(name)
    return mine is not None and theirs is not None and mine.shape == theirs.shape and np.allclose(mine, theirs)


def of_value(operation: Operation, wrong: Sequence[Trial], name: str, is_ignored: bool) -> Mistake | None:
    """The mistake whose result is what was returned in every trial; an empty one if ignoring the upstream is all."""
    candidates = [dict(results(operation, trial, name, is_ignored)) for trial in wrong[:4]]
    for mistake in candidates[0]:
        if all(
            is_told(trial.gradients[name], each.get(mistake)) for each, trial in zip(candidates, wrong, strict=False)
        ):
            return named(mistake, operation, name)
    return of_factor(wrong, name, is_ignored)


def is_told(gradient: Gradient, candidate: np.ndarray | None) -> bool:
    """Whether what was returned is this, and this is not the right one, as f′ anywhere is for a linear function."""
    if candidate is None or not gradient.resembles(candidate):
        return False
    return not np.allclose(candidate, gradient.right, rtol=1e-2, atol=gradient.noise)


TEXTS = {
    "sign": ("has the wrong sign", "the gradient of {name} has the wrong sign"),
    "passed": (
        "lacks the derivative",
        "the derivative is missing: {up} is passed on unchanged, as if the derivative were the constant 1",
    ),
    "up twice": ("has {up} twice", "{up} is multiplied twice"),
    "f": ("has f in the place of f′", "f(x) stands in the place of f′(x)"),
    "f′²": ("has f′ twice", "the derivative is multiplied twice"),
    "1/f′": ("is 1/f′", "the derivative is 1/f′(x), the reciprocal of the right one"),
    "f′(f)": ("has f′ at the output", "f′ is taken at the output f(x), and not at the input x"),
    "f′(g)": ("has f′ at the incoming gradient", "f′ is taken at the incoming gradient, and not at the input x"),
    "diagonal": (
        "is the diagonal of the Jacobian only",
        "only the diagonal of the Jacobian is used, and every output depends on several entries of {name}",
    ),
    "transposed": ("is transposed", "the gradient of {name} is transposed"),
}


def named(mistake: str, operation: Operation, name: str) -> Mistake:
    """The words for a mistake."""
    if mistake == "ignored":
        return Mistake("", "")
    if mistake.startswith("swapped"):
        other = mistake.removeprefix("swapped ")
        return Mistake(
            f"is swapped with that of {other}",
            f"the gradients of {name} and {other} are swapped: yours is that of {other}",
        )
    short, text = (each.format(name=name, up=operation.upstream or "the incoming gradient") for each in TEXTS[mistake])
    mend = (lambda e: f"-{wrapped(e)}") if mistake == "sign" else None
    return Mistake(short, text, mend)


def results(operation: Operation, trial: Trial, name: str, is_ignored: bool) -> Iterator[tuple[str, np.ndarray]]:
    """What the usual mistakes would return, at the entries that were measured."""
    gradient, entries = trial.gradients[name], trial.gradients[name].entries
    place = operation.inputs(trial.values)[name]
    up = np.concatenate([each.ravel() for each in trial.upstream])
    g = np.ones_like(up) if is_ignored else up
    right = gradient.right / up[entries] * g[entries] if gradient.jacobian is None else g @ gradient.jacobian
    if is_ignored:
        yield "ignored", right
    yield "sign", -right
    for other, theirs in trial.gradients.items():
        full = np.full(theirs.x.size, np.nan)
        full[theirs.entries] = theirs.right
        if other != name and theirs.x.shape == gradient.x.shape:
            yield f"swapped {other}", full[entries]
    full = np.full(gradient.x.size, np.nan)
    full[entries] = right
    if gradient.x.ndim == 2 and gradient.x.shape[0] == gradient.x.shape[1]:
        yield "transposed", full.reshape(gradient.x.shape).T.ravel()[entries]
    if gradient.jacobian is not None:
        yield "up twice", g**2 @ gradient.jacobian
    if len(trial.outputs) != 1 or trial.outputs[0].shape != gradient.x.shape:
        return
    g = g[entries]
    if gradient.slope is None:
        assert gradient.jacobian is not None
        yield "diagonal", g * gradient.jacobian[entries, np.arange(len(entries))]
        yield "passed", g
        return
    yield "passed", g
    slope, f = gradient.slope, trial.outputs[0].ravel()[entries]
    with np.errstate(all="ignore"):
        yield "f", g * f
        yield "f′²", g * slope**2
        yield "1/f′", g / slope
        for mistake, points in (("f′(f)", trial.outputs[0]), ("f′(g)", trial.upstream[0])):
            try:
                ends = [
                    operation.flat([*trial.values[:place], points + h, *trial.values[place + 1 :]])
                    for h in (-1e-5, 1e-5)
                ]
            except (RaisedError, CannotJudgeError):
                continue
            yield mistake, g * ((ends[1] - ends[0]) / 2e-5)[entries]


def of_factor(wrong: Sequence[Trial], name: str, is_ignored: bool) -> Mistake | None:
    """A constant factor, or one that depends on the size."""
    factors: list[float] = []
    sizes: list[dict[str, int]] = []
    for trial in wrong:
        gradient, output = trial.gradients[name], trial.outputs[0]
        if gradient.is_flat or (is_ignored and gradient.jacobian is None):
            continue
        assert gradient.fitted is not None
        right = gradient.jacobian.sum(0) if is_ignored and gradient.jacobian is not None else gradient.right
        factor = float(gradient.fitted @ right / float(right @ right))
        if factor == 0 or not gradient.equals(factor * right):
            return None
        shape = output.shape or np.atleast_1d(gradient.x).shape
        words = ("", "the number of rows", "the number of columns", "the number of elements")
        sizes.append(dict(zip(words, (1, shape[0], shape[-1], int(np.prod(shape))), strict=True)))
        factors.append(factor)
    for word, power in itertools.product(sizes[0] if sizes else (), (1, -1)):
        constants = [factor / each[word] ** power for factor, each in zip(factors, sizes, strict=True)]
        is_told = not word or len({each[word] for each in sizes}) > 1
        if is_told and np.ptp(constants) <= 1e-3 * abs(constants[0]):
            return factor_mistake(name, constants[0], word, power if word else 0, sizes[0][word])
    if not factors:
        return None
    text = f"the gradient of {name} is {number(factors[0])} times the right one, a factor that depends on the arguments"
    return Mistake(f"is {number(factors[0])} times the right one", text)


def factor_mistake(name: str, constant: float, word: str, power: int, size: int) -> Mistake:
    """The words for a factor: a constant times a size, its reciprocal, or nothing."""
    times = "" if abs(constant - 1) < 1e-3 else number(constant)
    if not power:
        is_small, factor = abs(constant) < 1, f"{max(constant, 1 / constant, key=abs):.4g}"
        return Mistake(
            f"is {times} times the right one",
            f"the gradient of {name} is {times} times the right one: the factor {factor} is "
            + ("missing" if is_small else "too much"),
            lambda e: f"{factor} * {wrapped(e)}" if is_small else f"{wrapped(e)} / {factor}",
        )
    what = "multiplied by" if power > 0 else "divided by"
    also = f", and by {times}" if times and power > 0 else f", and multiplied by {times}" if times else ""
    meant = "a mean must be divided by it" if power > 0 else "a sum is right, not a mean"
    text = f"the gradient of {name} is {what} {size}, {word}{also}"
    if not times:
        text += f" ({meant})"
    return Mistake(f"is {what} {word}", text, divisor=word if power < 0 and not times else "")


def of_region(trials: Sequence[Trial], name: str) -> Mistake | None:
    """For which values of the input it is wrong, where it is right for others."""
    parts: dict[str, list[np.ndarray]] = {}
    for trial in trials:
        gradient = trial.gradients.get(name)
        if gradient is None or gradient.fitted is None:
            continue
        mine, right = gradient.fitted, gradient.right
        if gradient.slope is not None:
            g = trial.upstream[0].ravel()[gradient.entries]
            mine, right = mine / g, right / g
        others = [o for o in trial.gradients.values() if o is not gradient and o.x.shape == gradient.x.shape]
        variables = {name: gradient.x}
        for other in others:
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
            text = f"the gradient of {name} is wrong {said}: at {label} = {x} yours is {yours}, right is {its}"
            return Mistake(f"is wrong {said.partition(',')[0]}", text)
    return None


def region(label: str, at: np.ndarray, off: np.ndarray) -> str | None:
    """The interval of the values that are off, where all in it are."""
    low, high = float(at[off].min()), float(at[off].max())
    if low == high:
        return f"where {label} is {number(low)}"
    inside = (at >= low) & (at <= high)
    if off[inside].mean() < 0.97:
        return None
    from_start, to_end = low <= at.min(), high >= at.max()
    if from_start and to_end:
        return None
    if from_start:
        below = at[at > high].min()
        return f"for negative {label}" if high <= 0 <= below else f"for {label} below {number(high)}"
    if to_end:
        above = at[at < low].max()
        return f"for positive {label}" if above <= 0 <= low else f"for {label} above {number(low)}"
    sign = "negative " if high <= 0 else "positive " if low >= 0 and "|" not in label else ""
    return f"for {sign}{label}{',' if sign else ''} between {number(low)} and {number(high)}"


def worst(trial: Trial, gradient: Gradient) -> Mistake:
    """The entry with the largest difference."""
    assert gradient.fitted is not None
    place = int(np.argmax(np.abs(gradient.fitted - gradient.right)))
    index = [int(each) for each in np.unravel_index(gradient.entries[place], gradient.x.shape)]
    x, yours, its = (number(v[place]) for v in (gradient.x.ravel()[gradient.entries], gradient.fitted, gradient.right))
    return Mistake(
        "is wrong",
        f"the gradient of {gradient.name}: {where(trial)}{int(gradient.off().sum())} of {len(gradient.entries)} "
        f"numbers are wrong, most of all at {index}, where {gradient.name} is {x}: yours is {yours}, right is {its}",
        named=False,
    )


def hint(error: RaisedError, operation: Operation | None) -> str:
    """What is probably meant, where an error is a known one."""
    source = source_of(operation.backward_function) if operation else None
    unpacked = re.search(r"^\s*(\w+)\s*=\s*ctx\.saved_(?:tensors|variables)\s*$", source or "", re.M)
    if unpacked and "tuple" in error.said:
        return f"ctx.saved_tensors is a tuple: write {unpacked[1]}, = ctx.saved_tensors"
    made = re.search(r"(?:np|numpy|torch)\.(zeros|ones|empty)\((\w+)\)", error.line)
    if made and error.said.startswith("TypeError"):
        library = error.line[made.start() :].partition(".")[0]
        return f"{made[0]} takes {made[2]} for a shape: write {library}.{made[1]}_like({made[2]})"
    if re.search(r"cannot be multiplied|not aligned|mismatch in its core|size mismatch|inconsistent", error.said):
        return "the shapes of a product do not fit: transpose a factor, or exchange the two"
    if "could not be broadcast" in error.said or "must match the size" in error.said:
        return "the shapes do not fit"
    if "truth value" in error.said or "Boolean value" in error.said:
        return "`if` takes one number: use np.where or a mask"
    return ""


def source_of(function: Any) -> str | None:
    """The text of a function."""
    try:
        return textwrap.dedent(inspect.getsource(inspect.unwrap(function))) if function else None
    except (OSError, TypeError):
        return None


def line_of(operation: Operation, name: str) -> tuple[str, str] | None:
    """The line of backward that makes the gradient of this input, with its place, and the expression in it."""
    function: Any = operation.backward_function and inspect.unwrap(operation.backward_function)
    source = source_of(function)
    if source is None:
        return None
    try:
        tree = ast.parse(source)
        first = inspect.getsourcelines(function)[1]
    except (SyntaxError, OSError):
        return None
    nodes = list(ast.walk(tree))
    assignments = [node for node in nodes if isinstance(node, ast.Assign) and len(node.targets) == 1]
    returns = [node for node in nodes if isinstance(node, ast.Return) and node.value is not None]
    statement: ast.Assign | ast.Return
    if name in getattr(operation, "slots", {}):
        label = operation.slots[name]
        own = [a for a in assignments if isinstance(a.targets[0], ast.Attribute) and a.targets[0].attr == label]
        if not own:
            return None
        statement, value = own[-1], own[-1].value
    elif returns:
        statement = returns[-1]
        assert statement.value is not None
        value = statement.value
        arrays = [each for each in operation.names if each not in operation.slots]
        if isinstance(value, ast.Tuple) and len(value.elts) == len(arrays):
            value = value.elts[arrays.index(name)]
        elif isinstance(value, ast.Tuple) and operation.sums_itself:
            value = value.elts[min(arrays.index(name), len(value.elts) - 1)]
    else:
        return None
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


def listed(numbers_: Sequence[int]) -> str:
    """One number, or several in brackets."""
    return str(numbers_[0]) if len(numbers_) == 1 else str(tuple(numbers_))


def number(value: float) -> str:
    """Two or three digits, with a minus sign."""
    return f"{float(value):.2g}".replace("-", "−") if abs(value) < 1 else f"{float(value):.3g}".replace("-", "−")
