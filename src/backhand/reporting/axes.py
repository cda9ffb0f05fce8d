"""The parallel coordinates of a sweep's runs: one axis for each setting and objective."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from backhand.config.validation import larger_is_better
from backhand.reporting.terminal import short

MOST_SETTINGS = 12
LOG_SPAN = 20.0
FEW = 8  # up to so many different values, each has a tick
MOST_TICKS = 16  # labels that fit on an axis
NOT_SET = "not set"


@dataclass(frozen=True)
class Axis:
    """An axis from 0 to 1.

    Attributes:
        kind: `log` if the values are positive, span more than a factor of `LOG_SPAN`, and lie mostly near the low end;
            `names` if not all values are numbers, or all are equal; else `linear`.
        values: the runs' numbers or names.
        positions: their positions on the axis.
        ticks: positions and labels, in ascending order; all names if the kind is `names`.
    """

    kind: Literal["linear", "log", "names"]
    values: pd.Series
    positions: np.ndarray
    ticks: list[tuple[float, str]]

    def few_ticks(self) -> list[tuple[float, str]]:
        """The ticks whose labels do not overlap the one before."""
        ticks = self.ticks[:1]
        for tick in self.ticks:
            if tick[0] >= ticks[-1][0] + 1 / MOST_TICKS:
                ticks.append(tick)
        return ticks


@dataclass(frozen=True)
class ParallelAxes:
    """The runs of a sweep on parallel axes.

    Attributes:
        axes: by setting and objective.
        positions: one row per run with the index of the run, one column per axis; the best run is last.
        score: a run's first objective, scaled from 0 (worst) to 1 (best).
    """

    axes: dict[str, Axis]
    positions: pd.DataFrame
    score: pd.Series


def parallel_axes(runs: pd.DataFrame, settings: list[str], objectives: list[str]) -> ParallelAxes:
    """The axes of the first `MOST_SETTINGS` settings (text) and the objectives (finite numbers)."""
    axes = {name: axis(runs[name]) for name in [*settings[:MOST_SETTINGS], *objectives]}
    positions = pd.DataFrame({name: each.positions for name, each in axes.items()}, index=runs.index)
    first = objectives[0]
    score = positions[first] if larger_is_better(first) else 1 - positions[first]
    # Of equal runs the first one ranks higher.
    order = (runs[first] if larger_is_better(first) else -runs[first]).iloc[::-1].sort_values(kind="stable").index
    return ParallelAxes(axes, positions.loc[order], score.loc[order])


def axis(values: pd.Series) -> Axis:
    """The axis for the values of a setting or of an objective."""
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    distinct = np.unique(numbers)
    low, high = distinct[0], distinct[-1]
    if not np.isfinite(distinct).all() or low == high:
        names = sorted(map(str, values.unique()), key=natural)
        at = dict(zip(names, np.linspace(0, 1, len(names)) if len(names) > 1 else [0.5], strict=True))
        positions = values.astype(str).map(at).to_numpy(float)
        return Axis("names", values.astype(str), positions, [(at[name], short(name) or NOT_SET) for name in names])
    is_log = low > 0 and high > LOG_SPAN * low and np.median(distinct) < (low + high) / 4
    marks = distinct if len(distinct) <= FEW else (np.geomspace if is_log else np.linspace)(low, high, 5)
    scale = np.log if is_log else np.asarray
    ends = scale(np.array([low, high]))

    def position(number: np.ndarray) -> np.ndarray:
        return (scale(number) - ends[0]) / (ends[1] - ends[0])

    digits = max(3, int(np.ceil(np.log10(np.abs(distinct).max() / (high - low)))) + 3)
    ticks = [(float(position(mark)), f"{mark:.{digits}g}") for mark in marks]
    return Axis("log" if is_log else "linear", numbers, position(numbers.to_numpy()), ticks)


def natural(name: str) -> list[tuple[float, str]]:
    """Sort key for the natural order: `9` before `10`, and `[8]` before `[64,32]`."""
    try:
        return [(float(name), "")]
    except ValueError:
        return [(float(part), "") if part.isdecimal() else (np.inf, part) for part in re.split(r"(\d+)", name) if part]
