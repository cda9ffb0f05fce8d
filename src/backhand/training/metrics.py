"""Metrics as sums over batches: loss and accuracy, or loss, R² and mean absolute error; one number a run."""

from typing import Any

import torch
from torch import Tensor

from backhand.training.optimizers import precise


class Sums:
    """Adds up what each batch contributes, and makes the metrics of it.

    The numbers are added in float64, where the device has it. The last batch's are kept apart until the next one comes,
    so that a step that is left out can be dropped.
    """

    def __init__(self) -> None:
        self.totals: dict[str, Any] = {}
        self.pending: dict[str, Any] = {}

    def add(self, **contributions: Any) -> None:
        """Add a batch's numbers, or tensors (…), by name."""
        self.settle()
        self.pending = contributions

    def drop(self, runs: Tensor) -> None:
        """Take the last batch back, of the runs (…) that are true."""
        self.pending = {
            name: torch.where(runs.to(value.device), 0.0, value) if isinstance(value, Tensor) else value * ~runs
            for name, value in self.pending.items()
        }

    def settle(self) -> None:
        """Add the last batch to the totals."""
        for name, value in self.pending.items():
            if isinstance(value, Tensor):
                value = value.to(precise(value.device))
            before = self.totals.get(name)
            self.totals[name] = value if before is None else before + value
        self.pending = {}

    def compute(self, strategy: Any) -> dict[str, Tensor]:
        """The metrics (…) of everything added so far, in all processes of the strategy.

        `loss` is the mean over the rows, or their weights; `acc` the share of right ones among the samples. `r2` is
        1 − Σ(y − ŷ)² / Σ(y − ȳ)² and `mae` the mean of |y − ŷ|, both averaged over the outputs.
        """
        self.settle()
        of = {}
        for name, value in self.totals.items():
            total = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
            of[name] = strategy.reduce(total.to(strategy.root_device), reduce_op="sum")
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
        self.totals, self.pending = {}, {}
