"""Where the runs of a sweep lie on parallel axes, one for each setting and objective."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from backhand.config.validation import larger_is_better
from backhand.reporting.terminal import short

MOST_SETTINGS = 12
LOG_SPAN = 20.0
FEW = 8  # so many different values have a tick each
MOST_TICKS = 16  # that an axis has room for
NOT_SET = "not set"


@dataclass(frozen=True)
class Axis:
    """An axis from 0 to 1.

    Attributes:
        kind: `log` where numbers are positive, span more than a factor of `LOG_SPAN`, and have most of them at its low
            end, as powers do; `names` where not all values are numbers, or all are the same.
        values: the runs' numbers, or the names.
        places: where they lie.
        ticks: places with labels, in rising order; of `names` all of them.
    """

    kind: Literal["linear", "log", "names"]
    values: pd.Series
    places: np.ndarray
    ticks: list[tuple[float, str]]

    def few_ticks(self) -> list[tuple[float, str]]:
        """Those whose labels do not cover the one before."""
        kept = self.ticks[:1]
        for tick in self.ticks:
            if tick[0] >= kept[-1][0] + 1 / MOST_TICKS:
                kept.append(tick)
        return kept


@dataclass(frozen=True)
class ParallelAxes:
    """The runs of a sweep.

    Attributes:
        axes: by setting and objective.
        places: a row a run, indexed as the runs are, a column an axis; the best run last.
        worth: how near a run's first objective is to the best, from 0 to 1.
    """

    axes: dict[str, Axis]
    places: pd.DataFrame
    worth: pd.Series


def parallel_axes(runs: pd.DataFrame, settings: list[str], objectives: list[str]) -> ParallelAxes:
    """The axes of the first `MOST_SETTINGS` settings (text) and the objectives (finite numbers)."""
    axes = {name: axis(runs[name]) for name in [*settings[:MOST_SETTINGS], *objectives]}
    places = pd.DataFrame({name: each.places for name, each in axes.items()}, index=runs.index)
    first = objectives[0]
    worth = places[first] if larger_is_better(first) else 1 - places[first]
    # Of equal runs the first one counts as the better.
    order = (runs[first] if larger_is_better(first) else -runs[first]).iloc[::-1].sort_values(kind="stable").index
    return ParallelAxes(axes, places.loc[order], worth.loc[order])


def axis(values: pd.Series) -> Axis:
    """The axis of a setting or an objective."""
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    distinct = np.unique(numbers)
    low, high = distinct[0], distinct[-1]
    if not np.isfinite(distinct).all() or low == high:
        names = sorted(map(str, values.unique()), key=natural)
        at = dict(zip(names, np.linspace(0, 1, len(names)) if len(names) > 1 else [0.5], strict=True))
        places = values.astype(str).map(at).to_numpy(float)
        return Axis("names", values.astype(str), places, [(at[name], short(name) or NOT_SET) for name in names])
    is_log = low > 0 and high > LOG_SPAN * low and np.median(distinct) < (low + high) / 4
    marks = distinct if len(distinct) <= FEW else (np.geomspace if is_log else np.linspace)(low, high, 5)
    scale = np.log if is_log else np.asarray
    ends = scale(np.array([low, high]))

    def place(number: np.ndarray) -> np.ndarray:
        return (scale(number) - ends[0]) / (ends[1] - ends[0])

    digits = max(3, int(np.ceil(np.log10(np.abs(distinct).max() / (high - low)))) + 3)
    ticks = [(float(place(mark)), f"{mark:.{digits}g}") for mark in marks]
    return Axis("log" if is_log else "linear", numbers, place(numbers.to_numpy()), ticks)


def natural(name: str) -> list[tuple[float, str]]:
    """Sort key that puts numbers in their order, and `[8]` before `[64,32]`."""
    try:
        return [(float(name), "")]
    except ValueError:
        return [(float(part), "") if part.isdecimal() else (np.inf, part) for part in re.split(r"(\d+)", name) if part]
