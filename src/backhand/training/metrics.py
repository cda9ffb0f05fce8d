"""Metrics as sums over batches: loss and accuracy, or loss, R² and mean absolute error; one number a run."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from backhand.calculus.float64 import widest_dtype

# Batches whose contributions are kept before they are added up: to add two numbers takes as long as a small product of
# matrices.
KEPT = 256


class Sums:
    """Adds up what each batch contributes, and makes the metrics of it, in float64 where the device has it."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.kept: dict[str, list[Any]] = {}

    def add(self, **contributions: Any) -> None:
        """Add a batch's numbers, or tensors (…), by name."""
        if self.kept and len(self.kept["rows"]) >= KEPT:
            self.settle()
        for name, value in contributions.items():
            self.kept.setdefault(name, []).append(value)

    def drop(self, runs: Tensor) -> None:
        """Take the last batch back, of the runs (…) that are true."""
        for values in self.kept.values():
            last = values[-1] if isinstance(values[-1], Tensor) else torch.tensor(values[-1], device=runs.device)
            values[-1] = torch.where(runs.to(last.device), 0.0, last)

    def settle(self) -> None:
        """Add what is kept to the totals."""
        for name, values in self.kept.items():
            self.totals[name] = self.totals.get(name, 0.0) + _stacked(values).sum(0)
        self.kept = {}

    def state(self) -> dict[str, Any]:
        """What a run that is resumed must have to come to the same bits: nothing is added up before its time."""
        return {"totals": self.totals, "kept": {name: _stacked(values) for name, values in self.kept.items()}}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from a state."""
        self.totals = {name: value.to(device) for name, value in state["totals"].items()}
        self.kept = {name: list(values.to(device)) for name, values in state["kept"].items()}

    def compute(self, strategy: Any) -> dict[str, Tensor]:
        """The metrics (…) of everything added so far, in all processes of the strategy.

        `loss` is the mean over the rows, or their weights; `acc` the share of right ones among the samples. `r2` is
        1 − Σ(y − ŷ)² / Σ(y − ȳ)² and `mae` the mean of |y − ŷ|, both averaged over the outputs.
        """
        self.settle()
        device, reduce = strategy.root_device, strategy.reduce
        of = {name: reduce(total.to(device), reduce_op="sum") for name, total in self.totals.items()}
        if not of:
            return {}
        metrics = {"loss": of["loss"] / of["rows"]}
        if "right" in of:
            metrics["acc"] = of["right"] / of["samples"]
        if "y" in of:
            spread = of["yy"] - of["y"] ** 2 / of["samples"]
            metrics["r2"] = (1 - of["squared_error"] / spread).mean(-1)
            metrics["mae"] = (of["absolute_error"] / of["samples"]).mean(-1)
        return {name: value.float() for name, value in metrics.items()}

    def clear(self) -> None:
        """Begin anew."""
        self.totals, self.kept = {}, {}


def _stacked(values: Sequence[Any]) -> Tensor:
    """What batches contributed, (N, …), some of it as numbers."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors:
        return torch.tensor(values, dtype=torch.float64)
    device = tensors[0].device
    dtype = widest_dtype(device)
    shape = torch.broadcast_shapes(*(each.shape for each in tensors))
    return torch.stack([torch.as_tensor(each, dtype=dtype, device=device).expand(shape) for each in values])
