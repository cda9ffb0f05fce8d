"""What the arguments of an operation may be: guessed from their names, then tried."""

from __future__ import annotations

import copy
import inspect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from backhand.derivations.operation_names import KINDS, OF_CONSTRUCTOR, SCALAR, TARGET, Constant

# The letters of shapes: samples, columns, outputs, channels, length, kernel.
SIZES = {"n": 4, "d": 3, "m": 5, "c": 2, "l": 6, "k": 3}
OTHER_SIZES = {"n": 3, "d": 5, "m": 2, "c": 3, "l": 8, "k": 2}
MANY = 400  # samples, to scan what is elementwise
ONE = {"n": "sample", "d": "column", "m": "output", "c": "channel", "k": "kernel element"}
SPANS = ("real", "positive", "unit", "signed unit", "above one")
TRIES = 500

NO_DEFAULT = inspect.Parameter.empty
# What a target may be, and the prediction then; one-hot rows and labels, where they run, must both be right.
TARGETS = {"one-hot nd": "nd", "labels n": "nd", "nd": "nd", "rows nd": "nd", "n": "n", "ncl": "ncl"}
NATURAL_TARGETS = ("one-hot nd", "labels n")


class Parameter(NamedTuple):
    """An argument of the forward pass, or of the constructor before it."""

    name: str
    default: Any = NO_DEFAULT
    of_constructor: bool = False


Scene = tuple[Any, ...]  # a kind for each parameter

FIRST = ("nd", "n", "dd", "ncl", "ncll", "d1", "2")
ARRAYS = ("nd", "d", "", "dm", "md", "n", "m", "1d", "n1", "mn", "ncl", "nlk", "dd", "mck", "mckk", "1")


def parameters_of(function: Any, skip: int = 0, of_constructor: bool = False) -> list[Parameter]:
    """The arguments of a function that can be given by position."""
    if isinstance(function, np.ufunc):
        return [Parameter(name) for name in "xyz"[: function.nin]]
    try:
        found = list(inspect.signature(function).parameters.values())[skip:]
    except (TypeError, ValueError):  # written in C
        return [Parameter("x")]
    return [
        Parameter(each.name, each.default, of_constructor)
        for each in found
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD, each.VAR_POSITIONAL)
    ]


def target_place(parameters: Sequence[Parameter]) -> int | None:
    """Which argument is the target of a loss, by its name."""
    own = [place for place, each in enumerate(parameters) if not each.of_constructor]
    places = [p for p in own if TARGET.fullmatch(parameters[p].name) and parameters[p].default in (NO_DEFAULT, None)]
    return places[0] if places and len(own) > 1 else None


def data_place(parameters: Sequence[Parameter]) -> int | None:
    """Which argument is the data, the first one that is no target."""
    target = target_place(parameters)
    places = (place for place, each in enumerate(parameters) if not each.of_constructor and place != target)
    return next(places, None)


def kinds(parameters: Sequence[Parameter], place: int) -> tuple[Any, ...]:
    """What the argument may be, the likeliest first."""
    name, default, of_constructor = parameters[place]
    table = (*OF_CONSTRUCTOR, *KINDS) if of_constructor else KINDS
    found = next((kinds for pattern, kinds in table if re.fullmatch(pattern, name, re.I)), ())
    if name == "b" and parameters[place - 1].name == "a":
        found = ()  # two operands, and no bias
    if default is None and not of_constructor:
        return (*(found or ARRAYS), Constant(None))
    if default is not NO_DEFAULT:
        return (Constant(default),)
    if place == data_place(parameters) and not str((*found, "")[0]).startswith(("labels", "mask")):
        return (*FIRST, *(kind for kind in found if kind not in FIRST))
    return found or (*ARRAYS, Constant(0.7), Constant(2))


def scenes(parameters: Sequence[Parameter], fixed: Mapping[int, Any]) -> Iterator[Scene]:
    """The combinations of kinds, the likeliest first, with some arguments fixed."""
    choices = [(fixed[place],) if place in fixed else kinds(parameters, place) for place in range(len(parameters))]
    data = data_place(parameters)
    combinations = sorted(
        itertools.islice(itertools.product(*(range(len(each)) for each in choices)), 20000),
        key=lambda places: (places[data] if data is not None else 0, sum(places), max(places, default=0)),
    )
    for places in combinations[:TRIES]:
        scene = tuple(choice[place] for choice, place in zip(choices, places, strict=True))
        # A scalar bias where there are several outputs would hide that its gradient is summed over too much.
        is_scalar = any(k in ("", "1") and p.name in ("b", "bias") for k, p in zip(scene, parameters, strict=True))
        if is_scalar and any(isinstance(kind, str) and len(kind) > 1 for kind in scene[1:]):
            continue
        yield scene


def letters(scene: Scene) -> str:
    """The letters of the sizes in it."""
    text = "".join(kind.rpartition(" ")[2] for kind in scene if isinstance(kind, str))
    return "".join(letter for letter in SIZES if letter in text)


def other_defaults(scene: Scene, parameters: Sequence[Parameter]) -> Scene:
    """The scene with other values for the numbers that have a default: a 1 hides that it is forgotten."""
    return tuple(
        Constant(0.7 * kind.value)
        if isinstance(kind, Constant)
        and (isinstance(kind.value, float) or (kind.value == 1 and re.fullmatch(SCALAR, each.name, re.I)))
        and not isinstance(kind.value, bool)
        else kind
        for kind, each in zip(scene, parameters, strict=True)
    )


def draw_all(scene: Scene, sizes: Mapping[str, int], seed: int, span: str) -> list[Any]:
    """A value for each argument."""
    rng = np.random.default_rng(seed)
    return [draw(kind, sizes, rng, span) for kind in scene]


def draw(kind: Any, sizes: Mapping[str, int], rng: np.random.Generator, span: str) -> Any:
    """A value of this kind; real numbers have both signs and both sides of ±1, and none is close to 0 or ±1."""
    if isinstance(kind, Constant):
        return copy.deepcopy(kind.value)
    what, _, shape_letters = kind.rpartition(" ")
    if what == "size":
        return sizes[shape_letters]
    shape = tuple(int(letter) if letter.isdigit() else sizes[letter] for letter in shape_letters)
    if what == "labels":
        return rng.integers(0, sizes["d"], shape)
    if what == "mask":
        mask = rng.random(shape) < 0.5
        return mask | (~mask.any(-1, keepdims=True) & (np.arange(shape[-1]) == 0))  # a row without any is undefined
    if what == "one-hot":
        return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]
    if what == "rows":
        rows = rng.random(shape) + 0.1
        return rows / rows.sum(-1, keepdims=True)
    return numbers(shape, rng, span)


def numbers(shape: tuple[int, ...], rng: np.random.Generator, span: str) -> np.ndarray:
    """Random numbers of a span: `real` ones are spread over (−3, −1), (−1, 0), (0, 1) and (1, 3)."""
    count = int(np.prod(shape))
    quarter = rng.permutation(np.arange(count) + int(rng.integers(4))) % 4
    inner, outer = rng.uniform(0.05, 0.95, count), rng.uniform(1.05, 3.0, count)
    if span == "wide":  # close to the kinks at 0 and ±1, too
        inner, outer = rng.random(count), rng.uniform(1, 10, count)
    sign = np.where(quarter % 2, 1.0, -1.0)
    both = np.where(quarter < 2, inner, outer)
    spans = {"positive": both, "unit": inner, "signed unit": sign * inner, "above one": outer}
    return spans.get(span, sign * both).reshape(shape)
