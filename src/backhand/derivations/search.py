"""Every wrong derivation with a few mistakes in its deltas, all of them at once.

From the output down, each step is computed for all derivations together, as the first axis of one tensor: those that
have been right so far may go wrong there in each way of the catalogue, those with a mistake may make a second one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from backhand.calculus.chain import Layer, layers
from backhand.derivations.mistakes import in_delta
from backhand.derivations.steps import Case, Draft, Mistake, altered

# Mistakes in the deltas that are looked for at once; the same one in one layer after another counts once.
AT_ONCE = 2
# With more derivations than this, only those are followed whose mistakes some gradient of the layer confirms.
MANY = 2000
# A number that is fitted is never fitted to fewer numbers.
ENOUGH = 3
# Of two numbers, both smaller than that: they are zero.
ZERO = 1e-12


@dataclass(frozen=True, eq=False)
class Made:
    """A mistake that has been made, with the others that give the same numbers, and the number fitted to it."""

    quantity: str
    mistake: Mistake
    same: tuple[Mistake, ...] = ()
    amount: float = 1.0
    again: bool = False  # as in the layer above


@dataclass
class Paths(Draft):
    """Derivations down to a layer, M of them.

    Attributes:
        made: the mistakes of each.
        parent: the place of each among the paths of the layer above.
        own: of each, the deltas that are taken as they were returned, whatever led to them.
    """

    made: list[tuple[Made, ...]] = None  # type: ignore[assignment]
    parent: Tensor = None  # type: ignore[assignment]
    own: list[tuple[str, ...]] = None  # type: ignore[assignment]

    @cached_property
    def counts(self) -> list[int]:
        """The mistakes of each."""
        return [count(made) for made in self.made]

    @cached_property
    def places(self) -> list[set[tuple[str, str, Layer]]]:
        """What mistakes each has made, and in which layers."""
        return [{(each.mistake.name, each.mistake.variant, each.mistake.layer) for each in made} for made in self.made]

    def take(self, places: Sequence[int] | Tensor) -> Paths:
        """Some of them."""
        index = torch.as_tensor(places, dtype=torch.long)
        return replace(
            self,
            steps={name: value[index] for name, value in self.steps.items()},
            paths=(len(index),),
            made=[self.made[i] for i in index.tolist()],
            parent=self.parent[index],
            own=[self.own[i] for i in index.tolist()],
        )

    def with_mistake(self, quantity: str, mistake: Mistake) -> Paths:
        """Each with one more mistake."""
        made = []
        for before in self.made:
            again = any(each.mistake.is_same_as(mistake) for each in before)
            made.append((*before, Made(quantity, mistake, again=again)))
        return replace(self, made=made)

    def with_amounts(self, mistake: Mistake, amounts: Sequence[float]) -> Paths:
        """Each with the number that comes with one of its mistakes."""
        made = [
            tuple(replace(each, amount=amount) if each.mistake is mistake else each for each in before)
            for before, amount in zip(self.made, amounts, strict=True)
        ]
        return replace(self, made=made)

    def with_step(self, step: str, value: Tensor) -> Paths:
        """Each with one more step."""
        return replace(self, steps={**self.steps, step: value})

    def value(self, layer: Layer, step: str, mistakes: Sequence[Mistake] = ()) -> Tensor | None:
        """A step of the layer's δ, (M, …, B, n), or None where the shapes do not allow it."""
        try:
            value = altered(self, step, mistakes)
        except RuntimeError:
            return None
        return value if value.shape == (*self.paths, *self.case.z(layer).shape) else None


def search(case: Case, found: Mapping[str, Tensor], tolerance: float, at_once: int = AT_ONCE) -> list[Paths]:
    """The derivations with at most so many mistakes, from the output layer down."""
    # The one derivation that has not begun.
    tree = [Paths(case, {}, (1,), found, [()], torch.zeros(1, dtype=torch.long), [()])]
    for layer in layers(case.depth):
        tree.append(_down(tree[-1], layer, found, tolerance, at_once))
    return tree[1:]


def _down(before: Paths, layer: Layer, found: Mapping[str, Tensor], tolerance: float, at_once: int) -> Paths:
    needed = () if layer.is_last else (layer.above.upstream, layer.above.delta)
    before = replace(before, steps={name: before[name] for name in needed}, parent=torch.arange(len(before.made)))
    paths = before
    applicable = [mistake for mistake in in_delta(layer) if at_once and mistake.applies(before.case)]
    steady = [mistake for mistake in applicable if not mistake.is_fitted]
    for step in (layer.upstream, layer.chain, layer.delta):
        paths = _step(paths, layer, step, [mistake for mistake in steady if mistake.step == step], at_once)
    finite = paths[layer.delta].flatten(1).isfinite().all(1)
    paths = paths if bool(finite.all()) else paths.take(finite.nonzero().flatten())
    parts = [_confirmed(paths, before, layer, found, tolerance)]
    for mistake in applicable:
        if mistake.is_fitted:
            parts += _fitted(before, layer, mistake, steady, found, tolerance, at_once)
    if layer.delta in found and found[layer.delta].shape == before.case.z(layer).shape and at_once:
        own = replace(before, own=[(*each, layer.delta) for each in before.own])
        for step in (layer.upstream, layer.chain):
            own = own.with_step(step, altered(own, step))
        for size in (1.0, *before.case.means):  # the gradients may take the mean
            parts.append(own.with_step(layer.delta, own.times(own.repeat(found[layer.delta]), 1 / size)))
    return _distinct(_joined(parts), layer)


def _confirmed(paths: Paths, before: Paths, layer: Layer, found: Mapping[str, Tensor], tolerance: float) -> Paths:
    """Without those that have made their last mistake here, the most that there may be, and that no number confirms."""
    counts, above = torch.tensor(paths.counts), torch.tensor(before.counts)
    returned = [quantity for quantity in (layer.delta, *layer.gradients) if quantity in found]
    is_last = (counts == AT_ONCE) & (above[paths.parent] < AT_ONCE)
    doubtful = (is_last | ((counts > 0) & (len(counts) > MANY))).nonzero().flatten()
    if not returned or not len(doubtful):
        return paths
    some = replace(paths, steps={layer.delta: paths[layer.delta][doubtful]}, paths=(len(doubtful),))
    fits = torch.zeros(len(doubtful), dtype=torch.bool)
    for quantity in returned:
        value = some[quantity] if quantity == layer.delta else altered(some, quantity)
        fits |= proportion(found[quantity], value, tolerance)[1]
    is_possible = torch.ones(len(counts), dtype=torch.bool)
    is_possible[doubtful[~fits]] = False
    return paths.take(is_possible.nonzero().flatten())


def _step(paths: Paths, layer: Layer, step: str, mistakes: Sequence[Mistake], at_once: int) -> Paths:
    """One step, right and with each mistake."""
    right = paths.value(layer, step)
    assert right is not None
    parts = [paths.with_step(step, right)]
    for mistake in mistakes:
        if mistake.rule is not None and (places := _may_make(paths, mistake, at_once)):
            some = paths.take(places)
            value = some.value(layer, step, (mistake,))
            if value is not None:
                parts.append(some.with_mistake(layer.delta, mistake).with_step(step, value))
    paths = _joined(parts)
    for mistake in mistakes:
        if mistake.factor is not None and (places := _may_make(paths, mistake, at_once)):
            some = paths.take(places)
            value = some.times(some[step], mistake.factor(some.case))
            paths = _joined([paths, some.with_mistake(layer.delta, mistake).with_step(step, value)])
    return paths


def _may_make(paths: Paths, mistake: Mistake, at_once: int) -> list[int]:
    """Those that have made fewer mistakes than are looked for, and those that have made the same one above."""
    same = None if mistake.layer.is_last else (mistake.name, mistake.variant, mistake.layer.above)
    return [i for i, n in enumerate(paths.counts) if n < at_once or same in paths.places[i]]


def count(made: Sequence[Made]) -> int:
    """Mistakes, the same one in several layers once."""
    return sum(not each.again for each in made)


def _joined(parts: Sequence[Paths]) -> Paths:
    if len(parts) == 1:
        return parts[0]
    names = [name for name in parts[0].steps if all(name in part.steps for part in parts)]
    made = [each for part in parts for each in part.made]
    return replace(
        parts[0],
        steps={name: torch.cat([part[name] for part in parts]) for name in names},
        paths=(len(made),),
        made=made,
        parent=torch.cat([part.parent for part in parts]),
        own=[each for part in parts for each in part.own],
    )


def _fitted(
    before: Paths,
    layer: Layer,
    mistake: Mistake,
    others: Sequence[Mistake],
    found: Mapping[str, Tensor],
    tolerance: float,
    at_once: int,
) -> list[Paths]:
    """Those with a mistake that comes with an unknown number, where one fits what was found.

    What follows from a δ is linear in that number, so it is found between two ends: the number 0, and 1.
    """
    places = _may_make(before, mistake, at_once)
    if not places:
        return []
    start = before.take(places).with_mistake(layer.delta, mistake)
    ends: list[Paths] = []
    for mistakes in ((), (mistake,)):
        value = start.value(layer, layer.upstream, mistakes)
        if value is None:
            return []
        end = start.with_step(layer.upstream, value)
        for step in (layer.chain, layer.delta):
            end = _step(end, layer, step, [each for each in others if each.step == step], at_once)
        ends.append(end)
    for quantity in (layer.delta, *layer.gradients):
        if quantity not in found or found[quantity].numel() < ENOUGH:
            continue
        values = [altered(end, quantity) if quantity != layer.delta else end[quantity] for end in ends]
        if mistake.any_size:
            size, fits = proportion(found[quantity], values[1], tolerance)
            common = _common_factor(before, layer.above, found, tolerance)
            amount = size / common[ends[1].parent]
        else:
            _, amount, fits = mixture(found[quantity], values[0], values[1] - values[0], tolerance)
        fits &= amount > 1e-6
        if bool(fits.any()):
            index = fits.nonzero().flatten()
            some = ends[1].take(index).with_amounts(mistake, amount[index].tolist())
            for step in (layer.upstream, layer.chain, layer.delta):
                at_none, at_one = (end[step][index] for end in ends)
                size = amount[index].reshape(-1, *[1] * (at_one.dim() - 1))
                value = size * at_one if mistake.any_size else at_none + size * (at_one - at_none)
                some = some.with_step(step, value)
            return [some]
    return []


def _common_factor(paths: Paths, layer: Layer, found: Mapping[str, Tensor], tolerance: float) -> Tensor:
    """How many times the right one the layer's gradients are, for each path; 1 where that is not known."""
    factor = torch.ones(len(paths.made), dtype=torch.float64)
    for quantity in (layer.db, layer.dW):
        if quantity in found:
            ratio, fits = proportion(found[quantity], altered(paths, quantity), tolerance)
            factor = ratio.where(fits & ratio.isfinite() & (ratio != 0), factor)
    return factor


def _distinct(paths: Paths, layer: Layer) -> Paths:
    """Of those with the same numbers the one with the fewest mistakes, which then knows of single ones like its own."""
    order = sorted(range(len(paths.made)), key=lambda i: (len(paths.own[i]), *cost(paths.made[i])))
    parents, delta = paths.parent.tolist(), paths[layer.delta].flatten(1)
    weights = torch.linspace(1, 2, delta.shape[1], dtype=delta.dtype).sin()
    signatures = (delta @ weights).tolist()
    representatives: dict[tuple[int, str, int], int] = {}
    same: dict[int, list[Mistake]] = {}
    for i in order:
        first = representatives.setdefault((parents[i], f"{signatures[i]:.9e}", len(paths.own[i])), i)
        made, others = paths.made[first], paths.made[i]
        if first != i and made and len(made) == len(others) and made[:-1] == others[:-1]:
            same.setdefault(first, []).append(others[-1].mistake)
    paths = replace(
        paths,
        made=[
            (*made[:-1], replace(made[-1], same=tuple(same[i]))) if i in same else made
            for i, made in enumerate(paths.made)
        ],
    )
    return paths.take(list(representatives.values()))


def cost(made: Sequence[Made]) -> tuple[float, int]:
    """How much is wrong: mistakes, the same one again in the next layer little more; then their ranks."""
    return count(made) + 0.25 * sum(each.again for each in made), sum(each.mistake.rank for each in made)


def proportion(found: Tensor, values: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """How many times each of the values (M, …) what was found (…) is, and whether it is that exactly.

    Infinite where both are zero, which any number fits; NaN where the shapes differ.
    """
    if values.shape[1:] != found.shape:
        none = torch.full(values.shape[:1], torch.nan, dtype=torch.float64)
        return none, none > 0
    f, v = found.flatten(), values.reshape(len(values), -1)
    ratio = (v @ f) / v.square().sum(1).clamp(min=1e-300)
    fits = (f - ratio.unsqueeze(1) * v).norm(dim=1) <= tolerance * f.norm() + ZERO
    zero = v.norm(dim=1) <= ZERO
    if f.norm() <= ZERO:
        return ratio.where(~zero, torch.inf), zero
    return ratio, fits & ~zero


def mixture(found: Tensor, values: Tensor, directions: Tensor, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """`found = c (value + amount · direction)` for each of the values and directions (M, …): c, amount, and whether."""
    if values.shape[1:] != found.shape or found.numel() < ENOUGH:
        none = torch.full(values.shape[:1], torch.nan, dtype=torch.float64)
        return none, none, none > 0
    f, v, d = found.flatten(), values.reshape(len(values), -1), directions.reshape(len(values), -1)
    vv, vd, dd, vf, df = (v * v).sum(1), (v * d).sum(1), (d * d).sum(1), v @ f, d @ f
    determinant = vv * dd - vd * vd
    usable = determinant > 1e-12 * vv * dd
    determinant = determinant.where(usable, 1.0)
    c, moved = (vf * dd - df * vd) / determinant, (df * vv - vf * vd) / determinant
    rest = f - c.unsqueeze(1) * v - moved.unsqueeze(1) * d
    fits = usable & (rest.norm(dim=1) <= tolerance * f.norm() + ZERO) & (c.abs() > ZERO)
    return c, moved / c.where(fits, 1.0), fits
