"""Metrics as sums over batches: loss and accuracy, or loss, R² and mean absolute error; one number a run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backhand.calculus.float64 import widest_dtype
from backhand.calculus.losses import LOSSES
from backhand.calculus.mlp import MLP
from backhand.data.batches import Batch

# Batches whose contributions are kept before they are added up: to add two numbers takes as long as a small product of
# matrices.
KEPT = 256


class Metrics:
    """Adds up what each batch contributes, and makes the metrics of it, in float64 where the device has it.

    Args:
        model: the network.
        loss: a key of `LOSSES`.
        classifies: whether the target is a class.
        unit: what a regression's error is multiplied by, to be in the target's own units.
    """

    def __init__(self, model: MLP, loss: str, classifies: bool, unit: float) -> None:
        self.model, self.loss, self.classifies, self.unit = model, loss, classifies, unit
        self.totals: dict[str, Tensor] = {}
        self.kept: dict[str, list[Any]] = {}

    def add(self, batch: Batch, loss: Tensor, z_O: Tensor, processes: int = 1, fit: bool = False) -> None:
        """Add a batch with its loss (…) and z_O (…, B, C).

        Args:
            batch: of which, where processes share it, this one's part counts.
            loss: its loss.
            z_O: its outputs before the last activation.
            processes: how many share each batch.
            fit: whether it is trained on; a regression then has its loss alone.
        """
        if batch.total is None:
            rows: Any = float(z_O.shape[-2]) if batch.weight is None else batch.weight.sum(-1)
            own, found = 1.0, {"loss": loss * rows, "rows": rows}
        else:
            own = float(batch.part > 0)  # else the rows are another process's
            share = batch.total * batch.share / processes
            found = {"loss": loss * share, "rows": batch.total * batch.part}
        if self.classifies:
            right = self._is_right(z_O, batch.y).sum(-1)
            found |= {"right": right if own else right * 0, "samples": own * z_O.shape[-2]}
        elif not fit:
            y, yhat = batch.y, LOSSES[self.loss].mean(self.model.output(z_O))
            y, yhat = (each.to(widest_dtype(each.device)) * own for each in (y, yhat))
            error = y - yhat
            found |= {
                "samples": own * z_O.shape[-2],
                "y": y.sum(-2),
                "yy": y.square().sum(-2),
                "squared_error": error.square().sum(-2),
                "absolute_error": error.abs().sum(-2) * self.unit,
            }
        if self.kept and len(self.kept["rows"]) >= KEPT:
            self.settle()
        for name, value in found.items():
            self.kept.setdefault(name, []).append(value)

    def _is_right(self, z_O: Tensor, y: Tensor) -> Tensor:
        """Whether each sample (…, B) is classified rightly; of several yes-or-no outputs which share of them."""
        # softmax and the identity have their greatest number where z_O has it.
        scores = z_O if self.model.network.output_activation in ("softmax", "identity") else self.model.output(z_O)
        if LOSSES[self.loss].matched == "sigmoid" and scores.shape[-1] > 1:
            return ((scores > 0.5) == (y > 0.5)).float().mean(-1)
        return classes_of(scores) == classes_of(y)

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

    @property
    def is_empty(self) -> np.ndarray:
        """Whether no row was counted in what has been computed, (…)."""
        return torch.as_tensor(self.totals.get("rows", 1.0)).cpu().numpy() == 0

    def clear(self) -> None:
        self.totals, self.kept = {}, {}


def classes_of(y: Tensor) -> Tensor:
    """Class numbers (…, B): of themselves, of one probability (…, B, 1) or of a score for each class (…, B, C)."""
    if not y.is_floating_point():
        return y
    return (y[..., 0] > 0.5).long() if y.shape[-1] == 1 else y.argmax(-1)


def _stacked(values: Sequence[Any]) -> Tensor:
    """What batches contributed, (N, …), some of it as numbers."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors:
        return torch.tensor(values, dtype=torch.float64)
    device = tensors[0].device
    dtype = widest_dtype(device)
    shape = torch.broadcast_shapes(*(each.shape for each in tensors))
    return torch.stack([torch.as_tensor(each, dtype=dtype, device=device).expand(shape) for each in values])
