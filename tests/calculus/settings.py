"""The settings that the tests are parametrised over, read from the tables that the code uses."""

from itertools import product

import torch
from torch import Tensor

from backhand.calculus.activations import ACTIVATIONS, hidden_activations
from backhand.calculus.losses import LOSSES
from backhand.calculus.mlp import MLP

MATCHED = [(loss.matched, name) for name, loss in LOSSES.items()]
FITTING = [
    (output, name)
    for output, name in product(ACTIVATIONS, LOSSES)
    if LOSSES[name].misfit(output, ACTIVATIONS[output].range) is None
]
HIDDEN_SIZES = {0: [], 1: [4], 3: [4, 3, 5]}
RUNS = [None, 2]
D, C, B = 3, 4, 5

HIDDEN_ACTIVATIONS = hidden_activations()
__all__ = ["ACTIVATIONS", "FITTING", "HIDDEN_ACTIVATIONS", "HIDDEN_SIZES", "LOSSES", "MATCHED", "RUNS"]


def network(g: str, f: str, depth: int, runs: int | None, **options: object) -> MLP:
    """A small network in float64, with initial values large enough to leave the activations' linear part."""
    options = {"dtype": torch.float64, "init_scale": 2.0} | options
    return MLP([D, *HIDDEN_SIZES[depth], C], g, f, runs=runs, **options)  # type: ignore[arg-type]


def batch(loss: str, runs: int | None, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Inputs (…, B, D), and targets as the loss takes them."""
    axis = () if runs is None else (runs,)
    x = torch.randn(*axis, B, D, dtype=dtype)
    if LOSSES[loss].target == "classes":
        return x, torch.randint(C, (*axis, B))
    return x, torch.rand(*axis, B, C, dtype=dtype)
