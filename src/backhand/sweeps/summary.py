"""The summary of a sweep: sweep.csv, sweep.png, the report, and on the terminal the best and the failed jobs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.text import Text

from backhand.config.confidential import masked, without_secrets
from backhand.config.files import atomic_write
from backhand.config.validation import larger_is_better
from backhand.errors import UserError
from backhand.reporting.comparison import against_first, failures, over_seeds
from backhand.reporting.plots import sweep_plot
from backhand.reporting.report import write_report_or_warn
from backhand.reporting.spreadsheet import escape_formula
from backhand.reporting.terminal import format_metric, print_table, relative_to_cwd, short, upload_command
from backhand.sweeps.sweep import JobOutcome, Sweep

# The test metrics in the table on the terminal: the first for classes, the others for a regression.
TESTED = ("test/acc", "test/r2", "test/mae")


def summarise(sweep: Sweep, names: Sequence[str]) -> None:
    """Write and print the results of a sweep.

    Args:
        sweep: a sweep whose jobs have run.
        names: its objectives; the first one decides which jobs are best.

    Raises:
        UserError: the folder cannot be written.
        SystemExit: more jobs failed than `sweep.max_failures` allows, or all of them.
    """
    outcomes = [sweep.outcomes[number] for number in sorted(sweep.outcomes)]
    settings = pd.DataFrame(masked([each.settings for each in outcomes]), dtype=object).fillna("")
    settings = settings.loc[:, settings.nunique() > 1]  # the settings that differ between jobs
    values = pd.DataFrame([each.values(names) for each in outcomes], columns=list(names), dtype=float)
    finite = values[np.isfinite(values).all(axis=1)]
    failed = [each for each in outcomes if each.error is not None]
    try:
        write_table(sweep.folder / "sweep.csv", outcomes, settings, values)
        if len(finite) >= 2 and not settings.empty:
            runs = settings.loc[finite.index].join(finite)
            sweep_plot(runs, list(settings), list(names), sweep.folder / "sweep.png")
    except OSError as error:
        raise UserError(
            f"{sweep.folder}: the summary cannot be written ({error.strerror}); the runs are not affected"
        ) from None
    if sweep.config.report is not False:
        write_report_or_warn(sweep.folder)

    console = Console()
    if len(finite):
        tested = pd.DataFrame([each.record["metrics"] for each in outcomes]).reindex(columns=TESTED)
        found = finite.join(tested.dropna(axis=1, how="all").astype(float))
        means, top = _means(settings, found), sweep.config.sweep.top
        if means is None:
            _print_runs(outcomes, settings, found, top)
        else:
            _print_means(means, top)
            _print_differences(settings, found, top)
    if failed:
        console.print(f"{len(failed)} of {len(outcomes)} failed:", style="bold")
    for each in failed:
        given = " ".join(f"{key}={each.settings.get(key, '')}" for key in settings)
        line = without_secrets(f"  job {each.number} ({given}) {each.record['status']}: {each.error}")
        console.print(Text(line), soft_wrap=True)
    if (command := upload_command(Path(relative_to_cwd(sweep.folder)))) is not None:
        console.print(Text(f"upload: {command}"), soft_wrap=True)
    console.print(Text(f"files: {relative_to_cwd(sweep.folder)}"), soft_wrap=True)

    allowed = sweep.config.sweep.max_failures
    if len(failed) == len(outcomes) or (allowed is not None and len(failed) > allowed):
        sys.exit(1)


def write_table(path: Path, outcomes: Sequence[JobOutcome], settings: Any, values: Any) -> None:
    """Write `sweep.csv`: one row per job, with its settings, status, objectives, final metrics and angle.

    The angle is that of `Result.audit` to backpropagation; without such a run there is no column.
    """
    angles = pd.DataFrame({"angle": [(each.record.get("audit") or {}).get("angle") for each in outcomes]}, dtype=float)
    columns = [
        pd.DataFrame({"job": [each.number for each in outcomes]}),
        settings,
        pd.DataFrame({"status": [each.record["status"] for each in outcomes]}),
        values.add_prefix("best "),
        pd.DataFrame([each.record.get("metrics", {}) for each in outcomes]),
        angles.dropna(axis=1, how="all"),
        pd.DataFrame([(each.record.get("seconds"), each.error) for each in outcomes], columns=["seconds", "error"]),
    ]
    table = pd.concat(columns, axis=1).rename(columns=escape_formula).map(escape_formula)
    atomic_write(path, table.to_csv(index=False))


def _means(settings: Any, found: Any) -> Any:
    """The means over seeds; None if no two jobs differ only in their seed.

    Args:
        settings: one row per job, as text.
        found: the metrics of the jobs that have not failed.
    """
    settings = settings.rename(columns=lambda key: key.lstrip("+"))  # Hydra's + and ++ add a key
    if "seed" not in settings:
        return None
    means = over_seeds(settings.join(found), list(settings), list(found))
    return means if (means["runs"] + means["failed"]).max() > 1 else None


def _print_means(means: Any, top: int) -> None:
    best = means.head(top)
    keys = list(best.loc[:, :"runs"])[:-1]
    metrics = [name for name in best if f"{name} low" in best]
    rows = best[keys].map(short).assign(seeds=best["runs"].map(str), failed=failures(best))
    for name in metrics:
        rows[name] = [
            _written(name, mean) + ("" if np.isnan(high) else f" ± {_written(name, high - mean)}")
            for mean, high in zip(best[name], best[f"{name} high"], strict=True)
        ]
    _print(f"mean ± 95 % interval: the best {len(best)} of {len(means)}", keys, rows)


def _print_differences(settings: Any, found: Any, top: int) -> None:
    """Print the paired differences by seed from the first setting on the command line, the best first."""
    settings = settings.rename(columns=lambda key: key.lstrip("+"))
    metrics, runs = list(found), settings.join(found)
    differences = against_first(runs, list(settings), metrics)
    if differences.empty:
        return
    keys = list(differences.loc[:, :"pairs"])[:-1]
    first = ", ".join(f"{key}={short(runs[key].iloc[0])}" for key in keys)
    best = differences.sort_values(metrics[0], ascending=not larger_is_better(metrics[0]), kind="stable").head(top)
    rows = best[keys].map(short).assign(pairs=best["pairs"].map("{:.0f}".format))
    for name in metrics:
        rows[name] = [
            f"{_written(name, mean)} ± {_written(name, high - mean)}"
            for mean, high in zip(best[name], best[f"{name} high"], strict=True)
        ]
    _print(f"difference from {first}, paired by seed: mean ± 95 % interval", keys, rows)


def _print_runs(outcomes: Sequence[JobOutcome], settings: Any, found: Any, top: int) -> None:
    first = found.columns[0]
    best = found.sort_values(first, ascending=not larger_is_better(first), kind="stable").head(top)
    rows = settings.loc[best.index].map(short)
    rows.insert(0, "job", [str(outcomes[place].number) for place in best.index])
    for name in best:
        rows[name] = [_written(name, value) for value in best[name]]
    _print(f"the best {len(best)} of {len(outcomes)}", list(settings), rows)


def _print(title: str, keys: Sequence[str], rows: Any) -> None:
    """Print rows of text; the columns are settings (`keys`, shortened to their last part if unique) and numbers."""
    ends = [key.rpartition(".")[2] for key in keys]
    heads = {key: end for key, end in zip(keys, ends, strict=True) if ends.count(end) == 1}
    print_table(title, rows.rename(columns=heads), [head for head in rows if head not in keys])


def _written(name: str, value: float) -> str:
    return "" if np.isnan(value) else format_metric(name.rpartition("/")[2], value)
