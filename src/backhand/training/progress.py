"""How far the runs are: the metrics of the epochs behind them, why some have ended, and what follows for the next one.

The decisions themselves are the pure functions of `decisions`; here they are taken from what the runs have.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backhand.config.validation import larger_is_better
from backhand.reporting.epochs import Epochs
from backhand.training.decisions import SCHEDULE, STOPPING, Ending, divergence, has_stopped, is_lost, learning_rate


class Progress:
    """Of one run, or of K in the same tensors.

    Args:
        settings: the arguments of `LightningMLP` by name.

    Attributes:
        history: the metrics of each epoch.
        row: those of the epoch at hand, as far as they are known.
        first_loss: of the first step (…), by which divergence is measured; None before it.
        endings: for each run, why it ended before the last epoch; None as long as it has not.
        frozen: the runs (K,) that have ended.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings, self.maximize = settings, larger_is_better(settings["objective"])
        self.frozen = torch.zeros(settings["runs"] or 1, dtype=torch.bool)
        self.begin()

    def begin(self) -> None:
        self.history, self.row = Epochs(runs=self.settings["runs"]), dict[str, Any]()
        self.first_loss: Tensor | None = None
        self.forget_endings()

    def forget_endings(self) -> None:
        """Forget how the run of a checkpoint ended: this one trains on from it."""
        self.endings: list[Ending | None] = [None] * len(self.frozen)
        self.frozen[:] = False

    def state(self) -> dict[str, Any]:
        return {
            "history": self.history.state(),
            "row": {name: torch.as_tensor(value) for name, value in self.row.items()},
            "first_loss": self.first_loss,
            "endings": [ending and asdict(ending) for ending in self.endings],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.history, self.row, self.first_loss = Epochs.of(state["history"]), state["row"], state["first_loss"]
        self.endings = [None if ending is None else Ending(**ending) for ending in state["endings"]]
        self.frozen[:] = torch.tensor([ending is not None for ending in self.endings])

    def close_epoch(self, epoch: int, step: int, lr: Any) -> dict[str, np.ndarray]:
        """Add the row to the history; returns it (…), training and validation first, as metrics.csv has them."""
        names = sorted(self.row, key=lambda name: not name.startswith(("train/", "val/")))
        row = {name: _array(self.row[name]) for name in names} | {"lr": _array(lr)}
        self.row = {}
        self.history.append({"epoch": epoch, "step": step, **row})
        return row

    def end(self, run: int, ending: Ending) -> None:
        """Let a run train no further, unless it has ended already."""
        if self.endings[run] is None:
            self.endings[run], self.frozen[run] = ending, True

    def end_runs(self, none_taken: np.ndarray) -> None:
        """End the runs that are lost, that could take no step of the epoch (…), or that stop early."""
        epochs, loss = len(self.history), self.history.column("train/loss")[-1]
        if self.settings["on_nan"] == "continue":
            for run, value in enumerate(np.atleast_1d(loss)):
                lost = None if np.isfinite(value) else Ending("diverged", divergence(value, epochs), epochs)
                self.endings[run] = lost
        else:
            for run in map(int, np.flatnonzero(is_lost(loss, _array(self.first_loss)))):
                left_out = np.broadcast_to(none_taken, loss.shape).flat[run]
                reason = f"no step of epoch {epochs} could be taken: each was left out"
                reason = reason if left_out else divergence(loss.flat[run], epochs)
                self.end(run, Ending("diverged", reason, epochs))
        if (stopping := self.settings["early_stopping"]) is not None:
            values = self.history.column(self.settings["objective"])
            stopped = has_stopped(values, self.maximize, **{**STOPPING, **stopping})
            for run in map(int, np.flatnonzero(stopped)):
                self.end(run, Ending("stopped", None, epochs))

    def next_learning_rate(self, max_epochs: int | None) -> Any:
        """Of the epoch that begins, (…); None where there is no schedule."""
        schedule = self.of_all_runs("scheduler")
        if "_target_" in schedule or schedule["name"] == "none":
            return None
        schedule = {**SCHEDULE, **{key: value for key, value in schedule.items() if value is not None}}
        first, values = self.of_all_runs("optimizer")["lr"], self.history.column(self.settings["objective"])
        return learning_rate(schedule, first, len(self.history), max_epochs, values, self.maximize)

    def of_each_run(self, name: str) -> list[Any]:
        """A setting as a list, one for each run."""
        return of_each_run(self.settings[name], self.settings["runs"])

    def of_all_runs(self, group: str) -> dict[str, Any]:
        """The settings of the optimizer or the schedule; of several runs those that are numbers as arrays (K,)."""
        each = self.of_each_run(group)
        if self.settings["runs"] is None:
            return each[0]
        return {
            key: np.array([one[key] for one in each]) if isinstance(value, int | float) else value
            for key, value in each[0].items()
        }


def of_each_run(setting: Any, runs: int | None) -> list[Any]:
    """A setting that may be a list, one for each run, as such a list."""
    return setting if isinstance(setting, list) else [setting] * (runs or 1)


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().double().numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=float)
