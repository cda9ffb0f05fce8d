"""What a run's metrics decide at the end of an epoch: the learning rate, early stopping, and divergence.

Each is a pure function of the metrics so far, so that no state has to be stored: a resumed run, and a run of a
population, decide the same from the same numbers. The dots in the shapes are the run axis.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

# A run has diverged if its training loss is this many times that of its first step (or this large, if that was below
# 1): with such weights every unit is saturated or dead.
DIVERGENCE_FACTOR = 1e4
# A smaller relative change is no improvement to the plateau schedule: `threshold` of torch's ReduceLROnPlateau.
THRESHOLD = 1e-4
# The advice at the end of the reason why a run diverged.
ADVICE = "try a smaller optimizer.lr"
# The defaults of the schedules and of early stopping.
SCHEDULE = {"min_lr": 0.0, "every": 10, "factor": 0.5, "patience": 5}
STOPPING = {"patience": 10, "min_delta": 0.0}


@dataclass
class Ending:
    """Why a run ended before its last epoch.

    Attributes:
        status: `stopped` early, `diverged`, or `failed`.
        reason: in words; None for early stopping.
        epochs: how many it trained for.
        weights_are_good: whether they are finite, because the last step was skipped.
        steps: how many it took; None if it ended at the end of an epoch.
    """

    status: Literal["stopped", "diverged", "failed"]
    reason: str | None
    epochs: int
    weights_are_good: bool = False
    steps: int | None = None


def improvements(values: np.ndarray, maximize: bool, min_delta: float = 0.0, threshold: float = 0.0) -> np.ndarray:
    """Whether each value is better than the best before it.

    Args:
        values: the objective (N, …).
        maximize: whether larger is better.
        min_delta: how much better it must be.
        threshold: the same, relative to the best.

    Returns:
        (N, …); a NaN is never better, and the first finite value always is.
    """
    sign = -1.0 if maximize else 1.0
    found, best = np.zeros(values.shape, dtype=bool), np.full(values.shape[1:], sign * np.inf)
    for place, value in enumerate(values):
        margin = threshold * np.where(np.isfinite(best), best, 0.0) + min_delta
        found[place] = sign * value < sign * best - margin
        best = np.where(found[place], value, best)
    return found


def has_stopped(values: np.ndarray, maximize: bool, patience: int, min_delta: float) -> np.ndarray:
    """Whether the objective (N, …) has not improved for `patience` epochs, (…)."""
    improved = np.asarray(improvements(values, maximize, min_delta)[-patience:].any(0))
    return ~improved & (len(values) >= patience)


def learning_rate(
    schedule: Mapping[str, Any], lr: Any, epochs: int, max_epochs: int | None, values: np.ndarray, maximize: bool
) -> Any:
    """The learning rate (…) after `epochs` epochs.

    Args:
        schedule: `SchedulerConfig` as a dict; its numbers may be arrays (…), one for each run.
        lr: the learning rate of the first epoch (…).
        epochs: how many have ended.
        max_epochs: how many there will be (`cosine`).
        values: the objective of the epochs that have one (N, …) (`plateau`).
        maximize: whether larger is better.
    """
    match schedule["name"]:
        case "cosine":
            assert max_epochs is not None
            return schedule["min_lr"] + (lr - schedule["min_lr"]) * (1 + np.cos(np.pi * epochs / max_epochs)) / 2
        case "step":
            return lr * np.power(schedule["factor"], epochs // schedule["every"])
        case "plateau":
            waited = np.zeros(values.shape[1:], dtype=int)
            for improved in improvements(values, maximize, threshold=THRESHOLD):
                waited = np.where(improved, 0, waited + 1)
                is_due = waited > schedule["patience"]
                lr = np.where(is_due, np.maximum(lr * schedule["factor"], schedule["min_lr"]), lr)
                waited = np.where(is_due, 0, waited)
    return lr


def has_diverged(loss: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Whether a run has diverged, (…), by an epoch's mean training loss (…) and the loss of its first step (…)."""
    scale = np.where(np.isfinite(first), np.maximum(1.0, np.abs(first)), 1.0)
    return ~(np.isfinite(loss) & (loss <= DIVERGENCE_FACTOR * scale))


def divergence_reason(loss: float, epoch: int) -> str:
    """The reason that result.json gives."""
    what = f"{loss:.3g}" if np.isfinite(loss) else "not finite"
    return f"the training loss is {what} in epoch {epoch}; {ADVICE}"
