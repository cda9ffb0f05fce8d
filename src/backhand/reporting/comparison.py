"""Settings compared by the means of their runs over seeds, with 95 % t-intervals.

A run whose first metric is not finite has failed or diverged. It is counted, but it is not in the means.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from backhand.config.validation import larger_is_better


def over_seeds(runs: pd.DataFrame, settings: Sequence[Hashable], metrics: Sequence[str]) -> pd.DataFrame:
    """The mean of every metric over the runs that differ only in their seed.

    Args:
        runs: one row per run, with a column `seed`, the settings and the metrics; duplicate rows count once.
        settings: the columns in which the runs differ, with or without `seed`.
        metrics: the metrics; settings are ranked by the first one.

    Returns:
        One row per combination of the settings without `seed`, the best first; those with failed runs come after the
        complete ones, for their mean is that of the runs that went well, and single runs after means of several.
        After the settings come the columns `runs` (the number of runs in the mean), `failed`, and for each metric its
        mean and the bounds of its interval, `<metric> low` and `<metric> high`, which are NaN for a single run.
    """
    shared = [key for key in settings if key != "seed"]
    runs = runs.drop_duplicates([*shared, "seed"], ignore_index=True)
    by = [runs[key] for key in shared] or [np.zeros(len(runs))]
    grouped = _finished(runs, metrics).groupby(by, sort=False)
    count, mean = grouped.count(), grouped.mean()
    half = _half_width(count, grouped.sem())
    first = metrics[0]
    columns = {"runs": count[first], "failed": grouped.size() - count[first]}
    for metric in metrics:
        columns[metric] = mean[metric]
        columns[f"{metric} low"], columns[f"{metric} high"] = mean[metric] - half[metric], mean[metric] + half[metric]
    table = pd.DataFrame(columns).reset_index(drop=not shared)
    table = table.sort_values(first, ascending=not larger_is_better(first), kind="stable")
    places = (table["failed"] > 0) * 2 + (table["runs"] < 2)
    return table.loc[places.sort_values(kind="stable").index].reset_index(drop=True)


def failures(means: pd.DataFrame) -> list[str]:
    """How many runs of each row of `over_seeds` have failed, as text: `0`, or `1 of 5`."""
    counts = zip(means["failed"], means["runs"], strict=True)
    return [f"{failed} of {failed + runs}" if failed else "0" for failed, runs in counts]


def paired(a: pd.DataFrame, b: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The mean difference between runs of two sweeps that have the same seed.

    Args:
        a: one row per run, with a column `seed` and the metrics; each seed occurs once.
        b: the runs of the other sweep, in any order.
        metrics: the metrics; the first one decides which runs have failed.

    Returns:
        One row per metric: `pairs` (their number), `left_out` (seeds that only one sweep has or that failed in one),
        the means `a` and `b` over the pairs, `difference` (b − a), and the bounds of its interval, `low` and `high`.

    Raises:
        ValueError: a seed occurs twice in a sweep.
    """
    for runs in (a, b):
        if (twice := runs["seed"].duplicated()).any():
            raise ValueError(f"seed {runs['seed'][twice].iloc[0]} is in a sweep twice")
    first, second = (_finished(runs.set_index("seed"), metrics) for runs in (a, b))
    difference = second - first  # NaN for a seed that is not in both
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
    """The paired differences between the first setting and every other one, over the seeds that both have.

    Args:
        runs: as in `over_seeds`; the others are compared with the setting of the first row.
        settings: the columns in which the runs differ, with or without `seed`.
        metrics: the metrics; the first one decides which runs have failed.

    Returns:
        One row per setting that has at least two seeds in common with the first: the settings without `seed`, `pairs`,
        and for each metric the mean difference (setting minus first), `<metric> low` and `<metric> high`.
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
            values = {"pairs": pairs["pairs"].iloc[0]}
            for metric, row in pairs.iterrows():
                values |= {metric: row["difference"], f"{metric} low": row["low"], f"{metric} high": row["high"]}
            rows.append({**other.iloc[0][shared], **values})
    return pd.DataFrame(rows)


def _finished(runs: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The metrics, all NaN for a run that has failed or diverged."""
    return runs.loc[np.isfinite(runs[metrics[0]]), list(metrics)].reindex(runs.index)


def _half_width(count: Any, error: Any) -> Any:
    """Half of the 95 % t-interval of means of `count` values, from their standard errors."""
    from scipy.special import stdtrit  # its import takes 0.4 s and is needed only to compare runs

    return stdtrit(count - 1, 0.975) * error
