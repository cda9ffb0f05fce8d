"""Random networks and batches on which different mistakes give different numbers."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.losses import LOSSES
from backhand.derivations.search import search
from backhand.derivations.steps import Case

# Samples, inputs, hidden units, outputs: all different, so that a wrong shape is seen, and no product of some of them
# and 2 equals another one, so that factors are told apart.
SIZES = (7, 4, 5, 3)
# How many batches are drawn to find one that tells the mistakes apart; fewer in a deep network, where each takes time.
DRAWS, DRAWS_DEEP, DEEP = 6, 2, 4


def draw_case(
    network: Network,
    criterion: Criterion,
    weight: Tensor | None = None,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
    draws: int | None = None,
    biases: bool | Sequence[bool] = True,
    slope: float | None = None,
) -> Case:
    """A case with one before it, in which as many single mistakes as possible differ from each other and from none.

    Args:
        network: its activations.
        criterion: its loss; cross-entropy gets class numbers.
        weight: the loss's own, (C,), or None.
        sizes: samples, and the units of each layer from the input on: B, D, …, C.
        seed: of everything that is drawn.
        draws: K networks and batches in one case, as the first axis of all tensors; None for one without that axis.
        biases: whether there are biases, for all layers or for each.
        slope: leaky_relu's own for negative z.
    """
    generator = torch.Generator().manual_seed(seed)
    depth = len(sizes) - 2
    has_bias = [biases] * depth if isinstance(biases, bool) else list(biases)

    def drawn() -> Case:
        cases = [_draw(network, criterion, weight, sizes, has_bias, slope, generator) for _ in range(draws or 1)]
        return cases[0] if draws is None else _stacked(cases)

    def pair() -> Case:
        before = drawn()
        return replace(drawn(), previous=before)

    return max((pair() for _ in range(DRAWS if depth < DEEP else DRAWS_DEEP)), key=different)


def different(case: Case) -> int:
    """How many different numbers single mistakes in the deltas give."""
    return len(search(case, {}, 0.0, at_once=1)[-1].made)


def _draw(
    network: Network,
    criterion: Criterion,
    weight: Tensor | None,
    sizes: Sequence[int],
    has_bias: Sequence[bool],
    slope: float | None,
    generator: torch.Generator,
) -> Case:
    B, *units = sizes
    C = units[-1]

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    def target() -> Tensor:
        kind = LOSSES[criterion.name]
        if kind.target == "classes":
            # Every class as evenly as B allows, in random order.
            return (torch.arange(max(B, C)) % C)[torch.randperm(max(B, C), generator=generator)][:B]
        if kind.target == "counts":
            return torch.randint(5, (B, C), generator=generator).double()
        if kind.probabilities:  # yes or no, for a derivation may rely on it
            return torch.randint(2, (B, C), generator=generator).double()
        return normal(B, C, scale=1.5)

    x, y = normal(B, units[0]), target()
    # Pre-activations of about ±1.5: some units saturate, most do not.
    weights, biases = [], []
    for (n, m), bias in zip(pairwise(units), has_bias, strict=True):
        weights.append(normal(n, m, scale=1.4 / n**0.5))
        biases.append(normal(m, scale=0.5) if bias else None)
    return Case(network, criterion, weight, x, y, tuple(weights), tuple(biases), slope=slope)


def _stacked(cases: Sequence[Case]) -> Case:
    """Several cases as one, with the draws as the first axis."""
    return replace(
        cases[0],
        x=torch.stack([case.x for case in cases]),
        y=torch.stack([case.y for case in cases]),
        weights=tuple(map(torch.stack, zip(*(case.weights for case in cases), strict=True))),
        biases=tuple(
            None if each[0] is None else torch.stack(each)
            for each in zip(*(case.biases for case in cases), strict=True)
        ),
    )
