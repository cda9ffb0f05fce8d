"""What a sweep leaves: sweep.csv, sweep.png, its report, a table of the best on the terminal, and what failed."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backhand.config.confidential import masked, without_secrets
from backhand.config.files import atomic_write
from backhand.config.validation import larger_is_better
from backhand.errors import UserError
from backhand.reporting.cells import cell
from backhand.reporting.plots import sweep_plot
from backhand.reporting.report import leave_report
from backhand.reporting.terminal import shown, upload_command
from backhand.sweeps.sweep import JobOutcome, Sweep


def summarise(sweep: Sweep, names: Sequence[str]) -> None:
    """Write and print what the sweep found.

    Args:
        sweep: a sweep whose jobs have run.
        names: its objectives; the best is the best by the first of them.

    Raises:
        UserError: the folder cannot be written.
        SystemExit: more jobs failed than `sweep.max_failures` allows, or all of them.
    """
    outcomes = [sweep.outcomes[number] for number in sorted(sweep.outcomes)]
    settings = pd.DataFrame(masked([each.settings for each in outcomes]), dtype=object).fillna("")
    settings = settings.loc[:, settings.nunique() > 1]  # those that differ between the jobs
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
            f"{sweep.folder}: the summary cannot be written ({error.strerror}); the runs are there"
        ) from None
    if sweep.config.report is not False:
        leave_report(sweep.folder)

    console = Console()
    best = finite.sort_values(names[0], ascending=not larger_is_better(names[0]), kind="stable")
    if len(best):
        console.print(_table(outcomes, settings, best.head(sweep.config.sweep.top)))
    if failed:
        console.print(f"{len(failed)} of {len(outcomes)} failed:", style="bold")
    for each in failed:
        given = " ".join(f"{key}={each.settings.get(key, '')}" for key in settings)
        line = without_secrets(f"  job {each.number} ({given}) {each.record['status']}: {each.error}")
        console.print(Text(line), soft_wrap=True)
    if (command := upload_command(Path(shown(sweep.folder)))) is not None:
        console.print(Text(f"upload: {command}"), soft_wrap=True)
    console.print(Text(f"files: {shown(sweep.folder)}"), soft_wrap=True)

    allowed = sweep.config.sweep.max_failures
    if len(failed) == len(outcomes) or (allowed is not None and len(failed) > allowed):
        sys.exit(1)


def write_table(path: Path, outcomes: Sequence[JobOutcome], settings: Any, values: Any) -> None:
    """`sweep.csv`: a row a job, with what it set, what became of it, and its final metrics."""
    columns = [
        pd.DataFrame({"job": [each.number for each in outcomes]}),
        settings,
        pd.DataFrame({"status": [each.record["status"] for each in outcomes]}),
        values.add_prefix("best "),
        pd.DataFrame([each.record.get("metrics", {}) for each in outcomes]),
        pd.DataFrame([(each.record.get("seconds"), each.error) for each in outcomes], columns=["seconds", "error"]),
    ]
    table = pd.concat(columns, axis=1).rename(columns=cell).map(cell)
    atomic_write(path, table.to_csv(index=False))


def _table(outcomes: Sequence[JobOutcome], settings: Any, best: Any) -> Table:
    table = Table(title=f"the best {len(best)} of {len(outcomes)}", title_justify="left")
    ends = [key.rpartition(".")[2] for key in settings]
    keys = [end if ends.count(end) == 1 else key for key, end in zip(settings, ends, strict=True)]
    for head in ("job", *keys, *best.columns, "test"):
        number = head in ("job", "test", *best.columns)
        table.add_column(Text(head), justify="right" if number else "left", overflow="fold", no_wrap=number)
    for place, values in best.iterrows():
        # As Text, for a user's own brackets are no markup.
        given = [Text(_short(value)) for value in settings.loc[place]]
        found = [f"{value:.4g}" for value in values]
        table.add_row(str(outcomes[place].number), *given, *found, _tested(outcomes[place].record["metrics"]))
    return table


def _short(value: str) -> str:
    """A number that a sampler drew has more digits than anybody compares."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def _tested(metrics: dict[str, Any]) -> str:
    for name in ("test/acc", "test/r2", "test/loss"):
        if metrics.get(name) is not None:
            return f"{metrics[name]:.2%}" if name == "test/acc" else f"{name.removeprefix('test/')} {metrics[name]:.4g}"
    return ""
