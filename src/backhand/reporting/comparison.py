"""Settings compared by the means of their runs over seeds, with 95 % t-intervals.

A run whose first metric is not finite has failed or diverged: it is in no mean, and it is counted.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from backhand.config.validation import larger_is_better


def over_seeds(runs: pd.DataFrame, settings: Sequence[Hashable], metrics: Sequence[str]) -> pd.DataFrame:
    """The mean of every metric over the runs that differ in their seed only.

    Args:
        runs: a row a run, with a column `seed`, the settings and the metrics. Of equal rows one counts.
        settings: what the runs differ in; `seed` may be among them.
        metrics: by whose first one the settings are ranked.

    Returns:
        A row a combination of the settings without `seed`, the best first; a single run, whose value may be luck,
        comes after the means of several. Behind the settings are the columns `runs` (how many are in the mean),
        `failed`, and for each metric its mean and the bounds of the mean's interval, `<metric> low` and
        `<metric> high`: NaN for a single run.
    """
    shared = [key for key in settings if key != "seed"]
    runs = runs.drop_duplicates([*shared, "seed"], ignore_index=True)
    by = [runs[key] for key in shared] or [np.zeros(len(runs))]
    grouped = _of_good_runs(runs, metrics).groupby(by, sort=False)
    count, mean = grouped.count(), grouped.mean()
    half = _half_width(count, grouped.sem())
    first = metrics[0]
    columns = {"runs": count[first], "failed": grouped.size() - count[first]}
    for metric in metrics:
        columns[metric] = mean[metric]
        columns[f"{metric} low"], columns[f"{metric} high"] = mean[metric] - half[metric], mean[metric] + half[metric]
    table = pd.DataFrame(columns).reset_index(drop=not shared)
    table = table.sort_values(first, ascending=not larger_is_better(first), kind="stable")
    return table.sort_values("runs", key=lambda runs: runs < 2, kind="stable", ignore_index=True)


def paired(a: pd.DataFrame, b: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The mean difference between the runs of two sweeps that have the same seed.

    Args:
        a: a row a run, with a column `seed` and the metrics; each seed once.
        b: the other sweep's, in whatever order.
        metrics: the first one decides which runs have failed.

    Returns:
        A row a metric: `pairs` (how many), `left_out` (seeds that only one sweep has, or whose run failed in one), the
        means `a` and `b` over the pairs, `difference` (b − a), and the bounds of its interval, `low` and `high`.

    Raises:
        ValueError: a seed that is in a sweep twice.
    """
    for runs in (a, b):
        if (twice := runs["seed"].duplicated()).any():
            raise ValueError(f"seed {runs['seed'][twice].iloc[0]} is in a sweep twice")
    first, second = (_of_good_runs(runs.set_index("seed"), metrics) for runs in (a, b))
    difference = second - first  # NaN where a seed is not in both
    count, mean = difference.count(), difference.mean()
    half = _half_width(count, difference.sem())
    return pd.DataFrame(
        {
            "pairs": count,
            "left_out": len(difference) - count,
            "a": first.where(difference.notna()).mean(),
            "b": second.where(difference.notna()).mean(),
            "difference": mean,
            "low": mean - half,
            "high": mean + half,
        }
    )


def against_first(runs: pd.DataFrame, settings: Sequence[Hashable], metrics: Sequence[str]) -> pd.DataFrame:
    """The paired differences of every setting from the first one, over the seeds that both have.

    Args:
        runs: as in `over_seeds`; the first row's setting is what the others are compared with.
        settings: what the runs differ in; `seed` may be among them.
        metrics: the first one decides which runs have failed.

    Returns:
        A row a setting that has at least two seeds in common with the first: the settings without `seed`, `pairs`, and
        for each metric the mean difference (positive where the setting has more), `<metric> low` and `<metric> high`.
    """
    shared = [key for key in settings if key != "seed"]
    if not shared or runs.empty:
        return pd.DataFrame()
    runs = runs.drop_duplicates([*shared, "seed"], ignore_index=True)
    (_, first), *others = runs.groupby(shared, sort=False)
    rows = []
    for _, other in others:
        pairs = paired(first, other, metrics)
        if pairs["pairs"].iloc[0] > 1:
            found = {"pairs": pairs["pairs"].iloc[0]}
            for metric, row in pairs.iterrows():
                found |= {metric: row["difference"], f"{metric} low": row["low"], f"{metric} high": row["high"]}
            rows.append({**other.iloc[0][shared], **found})
    return pd.DataFrame(rows)


def _of_good_runs(runs: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The metrics, all of them NaN for a run that has failed or diverged."""
    return runs.loc[np.isfinite(runs[metrics[0]]), list(metrics)].reindex(runs.index)


def _half_width(count: Any, error: Any) -> Any:
    """Half of the 95 % t-interval of means of `count` values, from their standard errors."""
    from scipy.special import stdtrit  # 0.4 s to import, which only what compares runs has to wait for

    return stdtrit(count - 1, 0.975) * error
