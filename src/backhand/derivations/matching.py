"""Which of the arrays that a derivation left is which gradient: by name, then by shape."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from backhand.derivations.binding import RATE
from backhand.derivations.layouts import Draw, Layout
from backhand.derivations.leaves import Leaf
from backhand.derivations.names import Meaning, consecutive, gradient

Key = tuple[str, int]  # ("W", 1) is the first layer's weights


@dataclass
class Match:
    """One reading of what was returned.

    Attributes:
        found: by parameter, its gradient in our layout; a wrong shape is kept as it is. ("z", l) is δ_l.
        labels: by parameter, the name that it has there.
        steps: whether these are (old − new) of weights that were stepped.
        known_rate: whether the learning rate of these steps was given, so that they are divided by it already.
        missing: the parameters whose gradients were expected and not found.
        shapes: the wrong shapes of biases whose numbers may be right: by parameter, theirs and the right one.
    """

    found: dict[Key, np.ndarray] = field(default_factory=dict)
    labels: dict[Key, str] = field(default_factory=dict)
    steps: bool = False
    known_rate: bool = False
    missing: list[Key] = field(default_factory=list)
    shapes: dict[Key, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    @property
    def complete(self) -> int:
        """How many parameters were found."""
        return sum(kind in "Wb" for kind, _ in self.found)


def matches(
    leaves: Sequence[Leaf], draw: Draw, layout: Layout, expected: Sequence[Key], known_rate: bool
) -> Iterator[Match]:
    """The readings of the arrays, the likeliest first.

    Args:
        leaves: what the derivation left.
        draw: what it was given.
        layout: how.
        expected: the parameters of the network.
        known_rate: whether it was given a learning rate.
    """
    returned = [leaf for leaf in leaves if leaf.origin == "returned"]
    given = [leaf for leaf in leaves if leaf.origin == "given"]
    for some in (returned, given):
        marked, plain, deltas = _sorted(some, draw, layout)
        if some is returned and (fitting := _only_fitting(some, draw, layout, expected)) is not None:
            named = [_match(each, draw, layout, expected) for each in (marked, plain) if each]
            if all(each.missing or (_misshapen(each, draw) and not _spelled_out(each, layout)) for each in named):
                yield _match(fitting | deltas, draw, layout, expected)
                if not any(kind == "W" for kind, _ in marked):
                    yield _stepped(fitting, draw, layout, expected, known_rate)
                return
        if any(kind == "W" for kind, _ in marked):
            yield _match(_completed(marked, some, draw, layout, expected) | deltas, draw, layout, expected)
            return
        attributes = {key: leaf for key, leaf in _sorted(given, draw, layout)[0].items() if key[0] in "Wb"}
        if some is returned and any(kind == "W" for kind, _ in attributes):
            yield _match(attributes, draw, layout, expected)
            return
        if any(kind == "W" for kind, _ in plain):
            if some is returned:
                yield _match(plain | marked | deltas, draw, layout, expected)
            if any(_changed(leaf, key, draw, layout) for key, leaf in plain.items()):
                yield _stepped(plain, draw, layout, expected, known_rate)
            if some is returned and any(_changed(leaf, key, draw, layout) for key, leaf in plain.items()):
                return
        if some is returned:
            yield from _by_shape(some, draw, layout, expected, known_rate)


def _sorted(
    leaves: Sequence[Leaf], draw: Draw, layout: Layout
) -> tuple[dict[Key, Leaf], dict[Key, Leaf], dict[Key, Leaf]]:
    """Gradients by name, parameters by name, and the deltas."""
    depth = len(draw.W)
    placed = consecutive([leaf.label for leaf in leaves], depth)
    labels = [placed.get(leaf.label, leaf.label) for leaf in leaves]
    marked: dict[str, list[tuple[Meaning, Leaf]]] = {"W": [], "b": []}
    plain: dict[str, list[tuple[Meaning, Leaf]]] = {"W": [], "b": []}
    deltas: dict[Key, Leaf] = {}
    for leaf, label in zip(leaves, labels, strict=True):
        means = gradient(label, depth, labels, dict(layout.names))
        kind = {"weights": "W", "biases": "b"}.get(means.kind, means.kind) if means else ""
        if means is not None and kind in ("W", "b"):
            (marked if means.gradient else plain)[kind].append((means, leaf))
        elif means is not None and kind == "z" and means.gradient and means.layer:
            deltas[("z", means.layer)] = leaf
        elif means is not None and kind == "x" and means.gradient:
            deltas[("x", 0)] = leaf
    for kind, group in plain.items():
        # Weights that are only handed back say nothing where their gradients stand beside them.
        moved = [each for each in group if not _is_given(each[1], kind, draw, layout)]
        if len(group) > depth and moved:
            plain[kind] = moved
    return _by_layer(marked, depth), _by_layer(plain, depth), deltas


def _is_given(leaf: Leaf, kind: str, draw: Draw, layout: Layout) -> bool:
    keys = [(kind, layer) for layer in range(1, len(draw.W) + 1) if kind == "W" or draw.b[layer - 1] is not None]
    return any(np.array_equal(leaf.value, _theirs(key, draw, layout)) for key in keys)


def _by_layer(groups: Mapping[str, Sequence[tuple[Meaning, Leaf]]], depth: int) -> dict[Key, Leaf]:
    """Each layer's leaf: by the numbers in the names where they are the layers', else by the order of appearance."""
    found: dict[Key, Leaf] = {}
    for kind, group in groups.items():
        layers = [means.layer for means, _ in group]
        distinct = {layer for layer in layers if layer}
        if (len(distinct) < len(group) and len(group) > 1) or None in layers:
            ordered = [leaf for _, leaf in group]
            if len(ordered) == depth or depth == 1:
                found |= {
                    (kind, layer): leaf for layer, leaf in enumerate(ordered[-depth:] if depth > 1 else ordered[:1], 1)
                }
            continue
        for means, leaf in group:
            found.setdefault((kind, means.layer or 1), leaf)
    return found


def _theirs(key: Key, draw: Draw, layout: Layout) -> np.ndarray:
    """The parameter as it was given."""
    kind, layer = key
    plain = replace(layout, kind="numpy")
    W, b = draw.W[layer - 1], draw.b[layer - 1]
    if kind == "W":
        return np.asarray(plain.weight(W, b))
    assert b is not None
    return np.asarray(plain.bias_of(b))


def _changed(leaf: Leaf, key: Key, draw: Draw, layout: Layout) -> bool:
    if key[0] == "b" and draw.b[key[1] - 1] is None:
        return False
    theirs = _theirs(key, draw, layout)
    return leaf.value.shape != theirs.shape or not np.array_equal(leaf.value, theirs)


def _stepped(
    leaves: Mapping[Key, Leaf], draw: Draw, layout: Layout, expected: Sequence[Key], known_rate: bool
) -> Match:
    moved = {}
    for key, leaf in leaves.items():
        if key[0] == "b" and draw.b[key[1] - 1] is None:
            continue
        theirs = _theirs(key, draw, layout)
        try:
            new = leaf.value.reshape(theirs.shape) if leaf.value.size == theirs.size and key[0] == "b" else leaf.value
            difference = (theirs - new) / (RATE if known_rate else 1.0)
        except ValueError:  # the shapes do not fit
            difference = leaf.value
        moved[key] = Leaf(leaf.label, difference)
    found = _match(moved, draw, layout, expected)
    found.steps, found.known_rate = True, known_rate
    return found


def _match(leaves: Mapping[Key, Leaf], draw: Draw, layout: Layout, expected: Sequence[Key]) -> Match:
    """Each parameter's gradient in our layout."""
    match = Match()
    for key, leaf in leaves.items():
        kind, layer = key
        value = leaf.value
        match.labels[key] = leaf.label
        if kind in ("z", "x"):
            right = draw.x if kind == "x" else draw.z[layer - 1]
            ours = _number(layout.ours_of_samples(value), right.shape)
            if ours.shape == right.shape:
                match.found[key] = ours
            continue
        W = draw.W[layer - 1]
        if kind == "W":
            if layout.folded and draw.b[layer - 1] is not None and (split := _split(value, W, layout)):
                match.found[key], match.found[("b", layer)] = split
                match.labels[("b", layer)] = f"{leaf.label}'s bias"
            else:
                match.found[key] = _number(layout.ours(value), W.shape)
        else:
            match.found[key] = _bias(-value if layout.thresholds else value, W.shape[1], key, layout, draw, match)
    match.missing = [key for key in expected if key not in match.found]
    return match


def _split(value: np.ndarray, W: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray] | None:
    """The gradients of a layer's weights and of the bias that is a part of their array."""
    ours = layout.ours(value)
    if ours.ndim != 2 or ours.shape != (W.shape[0] + 1, W.shape[1]):
        return None
    return (ours[1:], ours[0]) if "first" in layout.bias else (ours[:-1], ours[-1])


def _number(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A plain number as an array where there is one entry."""
    return value.reshape(shape) if value.size == 1 and np.prod(shape) == 1 else value


def _bias(value: np.ndarray, n: int, key: Key, layout: Layout, draw: Draw, match: Match) -> np.ndarray:
    given = {"(1, n)": (1, n), "(n, 1)": (n, 1)}.get(layout.bias, (n,))
    if value.shape == given or value.size == n == 1:
        return value.reshape(n)
    if value.shape in ((n,), (1, n)) and given in ((n,), (1, n)):
        return value.reshape(n)
    if value.shape in ((n,), (n, 1), (1, n)):
        match.shapes[key] = (value.shape, given)
        return value.reshape(n)
    ours = layout.ours_of_samples(value)
    B = len(draw.x)  # summed over the units, with the axis kept
    return ours.reshape(B) if ours.shape == (B, 1) and n > 1 < B else ours


def _by_shape(
    unnamed: Sequence[Leaf], draw: Draw, layout: Layout, expected: Sequence[Key], known_rate: bool
) -> Iterator[Match]:
    """Arrays without names that tell: each goes where its shape alone fits, or all in the parameters' order."""
    arrays = [leaf for leaf in unnamed if leaf.value.ndim > 0 or all(size == 1 for size in draw.sizes)]
    if len(arrays) == 1 < len(expected) and arrays[0].value.size == sum(_theirs_size(key, draw) for key in expected):
        yield from _unrolled(arrays[0], draw, layout, expected)
        return
    assigned, free = _fitting(arrays, draw, layout, expected)
    if len(assigned) < len(expected) and len(arrays) == len(expected):
        assigned = dict(zip(expected, arrays, strict=True))
    elif len(assigned) == len(expected) - 1 and len(free) == 1:
        assigned[next(key for key in expected if key not in assigned)] = free[0]
    if not any(kind == "W" for kind, _ in assigned):
        return
    yield _match(assigned, draw, layout, expected)
    yield _stepped(assigned, draw, layout, expected, known_rate)


def _fitting(
    arrays: Sequence[Leaf], draw: Draw, layout: Layout, expected: Sequence[Key]
) -> tuple[dict[Key, Leaf], list[Leaf]]:
    """The arrays whose shape is that of one parameter alone, and the others."""
    assigned: dict[Key, Leaf] = {}
    free = list(arrays)
    for key in expected:
        shapes = {_theirs(key, draw, layout).shape}
        if key[0] == "b":
            n = draw.W[key[1] - 1].shape[1]
            shapes |= {(n,), (1, n), (n, 1)}
        fitting = [leaf for leaf in free if leaf.value.shape in shapes]
        others = [other for other in expected if other != key and _theirs(other, draw, layout).shape in shapes]
        if len(fitting) == 1 and not others:
            assigned[key] = fitting[0]
            free.remove(fitting[0])
    return assigned, free


def _completed(
    named: Mapping[Key, Leaf], leaves: Sequence[Leaf], draw: Draw, layout: Layout, expected: Sequence[Key]
) -> dict[Key, Leaf]:
    """The named gradients, and the others by shape among the unnamed: `return x.T @ d1, d1.sum(0), dW2, db2`."""
    missing = [key for key in expected if key not in named]
    unnamed = [leaf for leaf in leaves if re.fullmatch(r"\[\d+\]", leaf.label) and leaf.value.ndim > 0]
    assigned, _ = _fitting(unnamed, draw, layout, missing)
    return {**named, **(assigned if len(assigned) == len(missing) else {})}


def _only_fitting(
    leaves: Sequence[Leaf], draw: Draw, layout: Layout, expected: Sequence[Key]
) -> dict[Key, Leaf] | None:
    """Each parameter's array by its shape alone, where there is exactly one for each."""
    arrays = [leaf for leaf in leaves if leaf.value.ndim > 0]
    assigned, _ = _fitting(arrays, draw, layout, expected)
    return assigned if len(assigned) == len(expected) else None


def _spelled_out(match: Match, layout: Layout) -> bool:
    """Whether each gradient's name tells its layer, and not only a place in a list, which may begin at either end."""
    depth = max(layer for _, layer in match.labels)
    told = {label: gradient(label, depth, match.labels.values(), dict(layout.names)) for label in match.labels.values()}
    return not any(
        re.search(r"\[\d+\]", label) or (means := told[label]) is None or means.layer is None
        for label in match.labels.values()
    )


def _misshapen(match: Match, draw: Draw) -> bool:
    """Whether a gradient has another shape than its parameter."""
    return any(
        value.shape != (draw.W[layer - 1].shape if kind == "W" else draw.W[layer - 1].shape[1:])
        for (kind, layer), value in match.found.items()
        if kind in "Wb"
    )


def _theirs_size(key: Key, draw: Draw) -> int:
    kind, layer = key
    W = draw.W[layer - 1]
    return W.size if kind == "W" else W.shape[1]


def _unrolled(leaf: Leaf, draw: Draw, layout: Layout, expected: Sequence[Key]) -> Iterator[Match]:
    """A vector of all gradients, in the orders that people use."""
    depth = len(draw.W)
    layers = range(1, depth + 1)
    pairs = [key for layer in layers for key in (("W", layer), ("b", layer)) if key in expected]
    kinds = [key for kind in "Wb" for layer in layers if (key := (kind, layer)) in expected]
    vector = leaf.value.ravel()
    for order in (pairs, kinds):
        parts: dict[Key, Leaf] = {}
        start = 0
        for key in order:
            size = _theirs_size(key, draw)
            shape = layout.shape_of_weight(draw.W[key[1] - 1]) if key[0] == "W" else (size,)
            parts[key] = Leaf(f"{leaf.label}[{start}:{start + size}]", vector[start : start + size].reshape(shape))
            start += size
        found = _match(parts, draw, replace(layout, bias="(n,)"), expected)
        yield found
    for bias in ("first", "last"):
        parts, start = {}, 0
        for layer in layers:
            W = draw.W[layer - 1]
            n_in, n_out = W.shape[0] + 1, W.shape[1]
            shape = (n_out, n_in) if layout.weights == "(out, in)" else (n_in, n_out)
            if start + n_in * n_out > vector.size:
                break
            parts[("W", layer)] = Leaf(
                f"{leaf.label}, layer {layer}", vector[start : start + n_in * n_out].reshape(shape)
            )
            start += n_in * n_out
        if start == vector.size:
            yield _match(
                parts,
                draw,
                replace(layout, bias=f"{bias} {'column' if layout.weights == '(out, in)' else 'row'}"),
                expected,
            )
