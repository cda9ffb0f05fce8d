"""The progress of the runs: the metrics of their epochs, which runs have ended and why, the next learning rate.

The decisions are the pure functions of `decisions`; this file applies them to the runs.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backhand.config.validation import larger_is_better
from backhand.reporting.epochs import Epochs
from backhand.training.decisions import (
    SCHEDULE,
    STOPPING,
    Ending,
    divergence_reason,
    has_diverged,
    has_stopped,
    learning_rate,
)


class Progress:
    """The progress of one run, or of K in the same tensors.

    Args:
        settings: the arguments of `LightningMLP` by name.

    Attributes:
        history: the metrics of each epoch.
        row: the metrics of the current epoch so far.
        first_loss: the loss of the first step (…), for `has_diverged`; None before it.
        endings: for each run, why it ended before the last epoch; None while it trains.
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
        """Forget how a checkpoint's run ended, for a new run that starts from it."""
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
        """Add the row to the history, and return it (…) in the order of metrics.csv: training and validation first."""
        names = sorted(self.row, key=lambda name: not name.startswith(("train/", "val/")))
        row = {name: _array(self.row[name]) for name in names} | {"lr": _array(lr)}
        self.row = {}
        self.history.append({"epoch": epoch, "step": step, **row})
        return row

    def end(self, run: int, ending: Ending) -> None:
        """End a run, unless it has ended already."""
        if self.endings[run] is None:
            self.endings[run], self.frozen[run] = ending, True

    def end_runs(self, all_skipped: np.ndarray) -> None:
        """End the runs that diverged, whose steps were all skipped (`all_skipped`, (…)), or that stop early."""
        epochs, loss = len(self.history), self.history.column("train/loss")[-1]
        if self.settings["on_nan"] == "continue":
            for run, value in enumerate(np.atleast_1d(loss)):
                ending = None if np.isfinite(value) else Ending("diverged", divergence_reason(value, epochs), epochs)
                self.endings[run] = ending
        else:
            for run in map(int, np.flatnonzero(has_diverged(loss, _array(self.first_loss)))):
                reason = f"all steps of epoch {epochs} were skipped"
                if not np.broadcast_to(all_skipped, loss.shape).flat[run]:
                    reason = divergence_reason(loss.flat[run], epochs)
                self.end(run, Ending("diverged", reason, epochs))
        if (stopping := self.settings["early_stopping"]) is not None:
            values = self.history.column(self.settings["objective"])
            stopped = has_stopped(values, self.maximize, **{**STOPPING, **stopping})
            for run in map(int, np.flatnonzero(stopped)):
                self.end(run, Ending("stopped", None, epochs))

    def next_learning_rate(self, max_epochs: int | None) -> Any:
        """The learning rate (…) of the next epoch; None without a schedule."""
        schedule = self.of_all_runs("scheduler")
        if "_target_" in schedule or schedule["name"] == "none":
            return None
        schedule = {**SCHEDULE, **{key: value for key, value in schedule.items() if value is not None}}
        first, values = self.of_all_runs("optimizer")["lr"], self.history.column(self.settings["objective"])
        return learning_rate(schedule, first, len(self.history), max_epochs, values, self.maximize)

    def of_each_run(self, name: str) -> list[Any]:
        """A setting as a list with one entry per run."""
        return of_each_run(self.settings[name], self.settings["runs"])

    def of_all_runs(self, group: str) -> dict[str, Any]:
        """The settings of the optimizer or the schedule; numbers are arrays (K,) for several runs."""
        each = self.of_each_run(group)
        if self.settings["runs"] is None:
            return each[0]
        return {
            key: np.array([one[key] for one in each]) if isinstance(value, int | float) else value
            for key, value in each[0].items()
        }


def of_each_run(setting: Any, runs: int | None) -> list[Any]:
    """A setting as a list with one entry per run; it may be such a list already."""
    return setting if isinstance(setting, list) else [setting] * (runs or 1)


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().double().numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=float)
