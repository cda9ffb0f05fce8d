"""Metrics from sums over batches: loss and accuracy, or loss, R² and mean absolute error; one number per run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backhand.calculus.float64 import widest_dtype
from backhand.calculus.losses import LOSSES
from backhand.calculus.mlp import MLP
from backhand.data.batches import Batch

# Batches whose contributions are stored before they are added up: one addition takes as long as a small matrix product.
MOST_PENDING = 256


class Metrics:
    """Sums the contributions of batches, and computes the metrics from the sums, in float64 where the device has it.

    Args:
        model: the network.
        loss: a key of `LOSSES`.
        classifies: whether the target is a class.
        unit: the factor that turns a regression's error into the target's units.
    """

    def __init__(self, model: MLP, loss: str, classifies: bool, unit: float) -> None:
        self.model, self.loss, self.classifies, self.unit = model, loss, classifies, unit
        self.totals: dict[str, Tensor] = {}
        self.pending: dict[str, list[Any]] = {}

    def add(self, batch: Batch, loss: Tensor, z_O: Tensor, processes: int = 1, fit: bool = False) -> None:
        """Add a batch with its loss (…) and z_O (…, B, C).

        Args:
            batch: if processes share it, only this process's part counts.
            loss: its loss.
            z_O: its outputs before the last activation.
            processes: how many share each batch.
            fit: whether it is a training batch; a regression then has only its loss.
        """
        if batch.total is None:
            rows: Any = float(z_O.shape[-2]) if batch.weight is None else batch.weight.sum(-1)
            own, found = 1.0, {"loss": loss * rows, "rows": rows}
        else:
            own = float(batch.part > 0)  # or else the rows belong to another process
            share = batch.total * batch.share / processes
            found = {"loss": loss * share, "rows": batch.total * batch.part}
        if self.classifies:
            correct = self._is_correct(z_O, batch.y).sum(-1)
            found |= {"right": correct if own else correct * 0, "samples": own * z_O.shape[-2]}
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
        if self.pending and len(self.pending["rows"]) >= MOST_PENDING:
            self.flush()
        for name, value in found.items():
            self.pending.setdefault(name, []).append(value)

    def _is_correct(self, z_O: Tensor, y: Tensor) -> Tensor:
        """Whether each sample is classified correctly, (…, B); with several yes-or-no outputs, the share that is."""
        # softmax and the identity have the same argmax as z_O.
        scores = z_O if self.model.network.output_activation in ("softmax", "identity") else self.model.output(z_O)
        if LOSSES[self.loss].matched == "sigmoid" and scores.shape[-1] > 1:
            return ((scores > 0.5) == (y > 0.5)).float().mean(-1)
        return classes_of(scores) == classes_of(y)

    def drop(self, runs: Tensor) -> None:
        """Remove the last batch from the sums of the runs (…) that are true."""
        for values in self.pending.values():
            last = values[-1] if isinstance(values[-1], Tensor) else torch.tensor(values[-1], device=runs.device)
            values[-1] = torch.where(runs.to(last.device), 0.0, last)

    def flush(self) -> None:
        """Add the pending contributions to the totals."""
        for name, values in self.pending.items():
            self.totals[name] = self.totals.get(name, 0.0) + _stacked(values).sum(0)
        self.pending = {}

    def state(self) -> dict[str, Any]:
        """The sums for a checkpoint; pending ones are not added up, so that a resumed run gives the same bits."""
        return {"totals": self.totals, "kept": {name: _stacked(values) for name, values in self.pending.items()}}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        self.totals = {name: value.to(device) for name, value in state["totals"].items()}
        self.pending = {name: list(values.to(device)) for name, values in state["kept"].items()}

    def compute(self, strategy: Any) -> dict[str, Tensor]:
        """The metrics (…) of everything added so far, in all processes of the strategy.

        `loss` is the mean over the rows, or their weights; `acc` the share of samples classified correctly. `r2` is
        1 − Σ(y − ŷ)² / Σ(y − ȳ)² and `mae` the mean of |y − ŷ|, both averaged over the outputs.
        """
        self.flush()
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
        """Whether the computed metrics include no row, (…)."""
        return torch.as_tensor(self.totals.get("rows", 1.0)).cpu().numpy() == 0

    def clear(self) -> None:
        self.totals, self.pending = {}, {}


def classes_of(y: Tensor) -> Tensor:
    """Class numbers (…, B), from class numbers, one probability (…, B, 1), or one score per class (…, B, C)."""
    if not y.is_floating_point():
        return y
    return (y[..., 0] > 0.5).long() if y.shape[-1] == 1 else y.argmax(-1)


def _stacked(values: Sequence[Any]) -> Tensor:
    """Contributions of batches as one tensor (N, …); some may be numbers."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors:
        return torch.tensor(values, dtype=torch.float64)
    device = tensors[0].device
    dtype = widest_dtype(device)
    shape = torch.broadcast_shapes(*(each.shape for each in tensors))
    return torch.stack([torch.as_tensor(each, dtype=dtype, device=device).expand(shape) for each in values])
