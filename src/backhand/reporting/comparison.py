"""Means over seeds, and paired differences of two sets of runs with the same seeds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from backhand.config.validation import larger_is_better


def over_seeds(runs: pd.DataFrame, settings: list[str], metrics: list[str]) -> pd.DataFrame:
    """Each combination of settings with the means of its runs and their 95 % t-intervals, the best mean first."""
    groups = runs.groupby(settings or np.zeros(len(runs)), sort=False, dropna=False)
    found = groups.size().rename("runs").to_frame()
    for metric in metrics:
        intervals = [_interval(values) for _, values in groups[metric]]
        found[[metric, f"{metric} low", f"{metric} high"]] = intervals
    found = found.reset_index(drop=not settings)
    return found.sort_values(metrics[0], ascending=not larger_is_better(metrics[0]), kind="stable", ignore_index=True)


def paired(a: pd.DataFrame, b: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """For each metric both means and the mean difference b - a of runs with the same seed, with its 95 % t-interval."""
    both = a.merge(b, on="seed", suffixes=(" a", " b"))
    rows = []
    for metric in metrics:
        first, second = both[f"{metric} a"], both[f"{metric} b"]
        known = first.notna() & second.notna()
        rows.append((int(known.sum()), first[known].mean(), second[known].mean(), *_interval((second - first)[known])))
    return pd.DataFrame(rows, index=metrics, columns=["pairs", "a", "b", "difference", "low", "high"])


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    from scipy.special import stdtrit

    known = np.array([value for value in values if np.isfinite(value)])
    if len(known) == 0:
        return np.nan, np.nan, np.nan
    mean = float(known.mean())
    if len(known) < 2:
        return mean, np.nan, np.nan
    half = float(stdtrit(len(known) - 1, 0.975) * known.std(ddof=1) / np.sqrt(len(known)))
    return mean, mean - half, mean + half
