"""Random networks and batches on which different mistakes give different numbers."""

import torch
from torch import Tensor

from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.losses import LOSSES
from backhand.checking.mistakes import IN_DELTA_I, IN_DELTA_O
from backhand.checking.runner import QUANTITIES
from backhand.checking.steps import Case, Mistake, derive

# Samples, inputs, hidden units, outputs: all different, so that a wrong shape is seen, and no product of some of them
# and 2 equals another one, so that factors are told apart.
SIZES = (7, 4, 5, 3)
# How many batches are drawn to find one that tells the mistakes apart.
DRAWS = 6


def draw_case(
    network: Network,
    criterion: Criterion,
    weight: Tensor | None = None,
    sizes: tuple[int, int, int, int] = SIZES,
    seed: int = 0,
) -> Case:
    """A case with one before it, in which as many single mistakes as possible differ from each other and from none.

    Args:
        network: its activations.
        criterion: its loss; cross-entropy gets class numbers.
        weight: the loss's own, (C,), or None.
        sizes: B, D, H, C.
        seed: of everything that is drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = (_draw(network, criterion, weight, sizes, generator) for _ in range(DRAWS))
    return max(drawn, key=lambda case: len(outcomes(case)))


def outcomes(case: Case) -> dict[str, list[Mistake]]:
    """The single mistakes in the deltas that change a number, those with the same numbers together."""
    right = _fingerprint(derive(case))
    found: dict[str, list[Mistake]] = {}
    for mistake in (*IN_DELTA_O, *IN_DELTA_I):
        if mistake.applies(case):
            try:
                fingerprint = _fingerprint(derive(case, (mistake,), amount=0.1))
            except RuntimeError:  # the shapes do not allow it
                continue
            if fingerprint != right:
                found.setdefault(fingerprint, []).append(mistake)
    return found


def _fingerprint(steps: dict[str, Tensor]) -> str:
    numbers = torch.cat([steps[name].flatten() for name in QUANTITIES])
    return f"{float(numbers @ torch.linspace(1, 2, len(numbers), dtype=numbers.dtype).sin()):.4e}"


def _draw(
    network: Network,
    criterion: Criterion,
    weight: Tensor | None,
    sizes: tuple[int, int, int, int],
    generator: torch.Generator,
) -> Case:
    B, D, H, C = sizes

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    def target() -> Tensor:
        kind = LOSSES[criterion.name]
        if kind.target == "classes":
            # Every class as evenly as B allows, in random order.
            return (torch.arange(B) % C)[torch.randperm(B, generator=generator)]
        if kind.target == "counts":
            return torch.randint(5, (B, C), generator=generator).double()
        if kind.probabilities:  # yes or no, for a derivation may rely on it
            return torch.randint(2, (B, C), generator=generator).double()
        return normal(B, C, scale=1.5)

    def once(previous: Case | None) -> Case:
        # Pre-activations of about ±1.5: some units saturate, most do not.
        return Case(
            network,
            criterion,
            weight,
            x=normal(B, D),
            y=target(),
            W_I=normal(D, H, scale=1.4 / D**0.5),
            b_I=normal(H, scale=0.5),
            W_O=normal(H, C, scale=1.4 / H**0.5),
            b_O=normal(C, scale=0.5),
            previous=previous,
        )

    return once(once(None))
