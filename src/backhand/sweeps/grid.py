"""Grid search: every combination of the listed values."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from rich.console import Console

from backhand.errors import UserError
from backhand.reporting.result import backward_pass
from backhand.sweeps.summary import summarise
from backhand.sweeps.sweep import Sweep

# All jobs are composed and checked before the first one starts: 2 ms a job if only per-run settings differ, or else
# 0.1 s and 0.6 MB.
MOST_JOBS = 10_000


def run_grid(sweep: Sweep, params: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Run every combination, and write the summary.

    Args:
        sweep: the sweep.
        params: the values of the search, by key; the command line overrides them.
        arguments: the overrides on the command line.

    Raises:
        UserError: a job is wrong (no job runs then), or the folder belongs to another sweep.
        SystemExit: more jobs failed than `sweep.max_failures` allows.
    """
    overrides = combinations(sweep.parse(params, arguments))
    with Console(stderr=True).status(f"checking {len(overrides)} jobs"):
        jobs = [sweep.composer.job(number, each) for number, each in enumerate(overrides)]
    folders = {job.folder for job in jobs}
    if len(folders) < len(jobs):
        raise UserError(f"hydra.sweep.subdir: {len(jobs)} jobs would share {len(folders)} folders; leave it as it is")
    objective = jobs[0].config.objective
    passes = [backward_pass(job.config) for job in jobs]
    with sweep.running(len(jobs), objective, {"search": "grid"}, passes, [job.hash for job in jobs]):
        sweep.run(jobs)
    summarise(sweep, [objective])


def combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """Every combination as the overrides of a job; the values of the last key change fastest.

    Raises:
        UserError: a key has no values, or an interval; or there are more than `MOST_JOBS` jobs.
    """
    choices: list[list[str]] = []
    for override in overrides:
        key, text = override.get_key_element(), override.input_line
        if not override.is_sweep_override():
            choices.append([f"{key}={override.get_value_element_as_str()}"])
            continue
        if not override.is_discrete_sweep():
            raise UserError(
                f"{text}: a grid takes lists (1,2,3, choice(…) or range(…)); intervals are for search=optuna"
            )
        values = itertools.islice(override.sweep_string_iterator(), MOST_JOBS + 1)
        choices.append([f"{key}={value}" for value in values])
        if not choices[-1]:
            raise UserError(f"{text}: has no values")
        if math.prod(map(len, choices)) > MOST_JOBS:
            raise UserError(f"{text}: makes more than {MOST_JOBS} jobs, the limit of a sweep")
    return [list(each) for each in itertools.product(*choices)]
