"""Judges a script without functions: its own data and weights, and one turn of its loop."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, permutations, product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backhand.derivations.answer import Answer
from backhand.derivations.judging import Attempt, Judge, Settings
from backhand.derivations.layouts import Draw, Layout
from backhand.derivations.leaves import Resolver, leaves, plain
from backhand.derivations.loading import RefusedError, Source, turns
from backhand.derivations.matching import Key, Match
from backhand.derivations.names import Meaning, gradient, meaning
from backhand.derivations.question import Question
from backhand.derivations.steps import Case
from backhand.derivations.telling import tell


def judge_script(source: Source, name: str, settings: Settings) -> Answer:
    """Run the script up to one turn of the loop that changes the weight, and judge what it was stepped by.

    Raises:
        RefusedError: there is no such loop, or what it changes are not the weights of such a network.
    """
    depth = len(settings.hidden) + 1
    question = Question(source, name, None, None, depth)
    judge = Judge(question, settings)
    attempts: list[Attempt] = []
    shapes, is_guess = "", False
    for before, after in turns(source, name):
        arrays = _arrays(before, question)
        changed = {
            key: (arrays[key], new)
            for key, new in _arrays({key: after[key] for key in before if key in after}, question).items()
            if key in arrays and new.shape == arrays[key].shape and not np.array_equal(new, arrays[key])
        }
        if not any(_root(key) == name for key in changed):
            continue
        shapes = ", ".join(f"{key} {arrays[key].shape}" for key in changed)
        for chain, layout, x, y, has_target in _chains(arrays, changed, depth, after, name):
            biases = {re.split(r"\W+", name)[-1]: Meaning(*key) for key, name in chain.items() if key[0] == "b"}
            layout = replace(layout, thresholds=question.has_thresholds(biases))
            attempts.append(judge.judged(_attempt(chain, changed, layout, x, y, settings, arrays)))
            is_guess |= not has_target
            if attempts[-1].right:
                break
        if attempts:
            break
    if not shapes:
        raise RefusedError(f"{source.path}: one turn of its loop does not change {name}")
    if not attempts:
        raise RefusedError(
            f"{source.path}: the weights that one turn changes ({shapes}) and its data do not make a network of "
            f"{depth} layers; the number of hidden layers is that of model.hidden"
        )
    best = min(attempts, key=lambda each: each.order)
    if is_guess and not best.right and not best.diagnosis.explained:
        raise RefusedError(f"{source.path}: which array holds the targets cannot be told; call it y, labels or targets")
    answer = tell(judge, best)
    answer.remarks.append("It was run on its own data and weights, for one turn of its loop.")
    return answer


def _arrays(values: Mapping[str, Any], question: Question) -> dict[str, np.ndarray]:
    """Every array in them, by the path to it, such as `W[0]` or `net.layers[1].b`."""
    resolve = Resolver(question)
    found = (leaf for name, value in values.items() for leaf in leaves(value, name, None, resolve, 0))
    return {leaf.label: leaf.value for leaf in found if leaf.value.size and leaf.value.ndim}


def _root(key: str) -> str:
    return key.partition(".")[0].partition("[")[0]


def _weights(changed: Mapping[str, tuple[np.ndarray, np.ndarray]], depth: int, name: str) -> list[str]:
    """The weights among what one turn changes, one of which has the name."""
    meanings = {key: gradient(key, depth, changed) for key in changed}
    some = [
        key
        for key, (old, _) in changed.items()
        if old.ndim == 2
        and not ((means := meanings[key]) and (means.gradient or (means.kind[0] == "b" and 1 in old.shape)))
    ]
    if len(some) > depth:  # there are momenta, or biases of shape (1, n), too
        own = [key for key in some if _root(key) == name]
        named = [key for key in own if (means := meanings[key]) and means.kind[0] in "Ww"]
        wide = [key for key in some if 1 not in changed[key][0].shape]
        some = next((each for each in (named, own) if len(each) == depth), wide)
    return some


def _chains(
    arrays: Mapping[str, np.ndarray],
    changed: Mapping[str, Any],
    depth: int,
    after: Mapping[str, Any],
    name: str,
) -> Iterator[tuple[dict[Key, str], Layout, np.ndarray, np.ndarray, bool]]:
    """The ways in which weights follow upon each other from an x to a y, by their shapes; whether y is named so."""
    some = _weights(changed, depth, name)
    if len(some) != depth:
        return
    numbers = {
        key: array for key, value in after.items() if not key.startswith("__") and (array := _array(value)) is not None
    }
    data = {**numbers, **arrays}
    xs = [key for key in data if key not in changed and (found := meaning(key, depth)) and found.kind == "x"] or [
        key for key in data if key not in changed
    ]
    targets = [key for key in data if key not in changed and (found := meaning(key, depth)) and found.kind == "y"]
    ys = targets or [key for key in data if key not in changed]
    for orientation, samples in product(("(in, out)", "(out, in)"), ("rows", "columns")):
        ours = {key: arrays[key] if orientation == "(in, out)" else arrays[key].T for key in some}
        orders = (each for each in permutations(some) if _follow(each, ours))
        if (weights := next(orders, None)) is None:
            continue
        D, C = ours[weights[0]].shape[0], ours[weights[-1]].shape[1]
        for x_name, y_name in product(xs, ys):
            x, y = _rows(data[x_name], samples, D), _rows(_one_hot(data[y_name], C), samples, C)
            if x is None or y is None or x_name == y_name:
                continue
            if len(x) != len(y) == 1 or len(y) != len(x) == 1:  # one of them is the loop's own sample, the first one
                x, y = x[:1], y[:1]
            if len(x) != len(y):
                continue
            chain: dict[Key, str] = {("W", layer): key for layer, key in enumerate(weights, 1)}
            for layer, key in enumerate(weights, 1):
                n = ours[key].shape[1]
                fitting = [
                    other
                    for other in changed
                    if other not in weights and arrays[other].size == n and other not in chain.values()
                ]
                named = [
                    other for other in fitting if (found := gradient(other, depth, changed)) and found.layer == layer
                ]
                if named or len(fitting) == 1:
                    chain[("b", layer)] = min(named or fitting, key=lambda other: _root(other) != _root(key))
            yield chain, Layout(samples, orientation), x, y, bool(targets)
            if len(x) > 1:  # a loop over samples has seen the first one
                yield chain, Layout(samples, orientation), x[:1], y[:1], bool(targets)


def _one_hot(array: np.ndarray, C: int) -> np.ndarray:
    """Class numbers (B,) as rows (B, C); anything else as it is."""
    if array.ndim != 1 or len(array) == C or C == 1 or not np.isin(array, np.arange(C)).all():
        return array
    return np.eye(C)[array.astype(int)]


def _follow(weights: Sequence[str], ours: Mapping[str, np.ndarray]) -> bool:
    """Whether each layer's weights take what the layer before gives."""
    return all(ours[a].shape[1] == ours[b].shape[0] for a, b in pairwise(weights))


def _array(value: Any) -> np.ndarray | None:
    return (
        plain(value)
        if hasattr(value, "shape") and not isinstance(value, type) and not hasattr(value, "__path__")
        else None
    )


def _rows(array: np.ndarray, samples: str, n: int) -> np.ndarray | None:
    """The array as (B, n); None where it has no such shape."""
    if array.ndim == 1:
        array = array[None] if len(array) == n else array[:, None] if n == 1 else array
    if array.ndim != 2:
        return None
    array = array if array.shape[1] == n and samples == "rows" else array.T if samples == "columns" else array
    return array if array.shape[1] == n else None


def _attempt(
    chain: Mapping[Key, str],
    changed: Mapping[str, tuple[np.ndarray, np.ndarray]],
    layout: Layout,
    x: np.ndarray,
    y: np.ndarray,
    settings: Settings,
    arrays: Mapping[str, np.ndarray],
) -> Attempt:
    depth = sum(kind == "W" for kind, _ in chain)

    def ours(key: Key, array: np.ndarray) -> Tensor:
        value = layout.ours(array)
        if key[0] == "b":
            value = -array.ravel() if layout.thresholds else array.ravel()
        return torch.from_numpy(np.array(value, dtype=np.float64))[None]

    parameters = {key: ours(key, arrays[name]) for key, name in chain.items()}
    target = torch.from_numpy(np.array(y, dtype=np.float64))[None]
    classes = settings.criterion.loss.target == "classes"
    case = Case(
        settings.network,
        settings.criterion,
        settings.weight,
        torch.from_numpy(np.array(x, dtype=np.float64))[None],
        target.argmax(-1) if classes else target,
        tuple(parameters[("W", layer)] for layer in range(1, depth + 1)),
        tuple(parameters.get(("b", layer)) for layer in range(1, depth + 1)),
    )
    match = Match(labels=dict(chain), steps=True)
    attempt = Attempt(layout, 0, match, case, [], fixed=True)
    for key, name in chain.items():
        old, new = changed[name]
        attempt.found[key] = ours(key, old) - ours(key, new)
        match.found[key] = attempt.found[key][0].numpy()
    attempt.draws = [Draw(x, y, None, tuple(W[0].numpy() for W in case.weights), (), (), ())]
    return attempt
