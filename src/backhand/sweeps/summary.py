"""What a sweep leaves: a table of the best on the terminal, sweep.csv, sweep.png, and the list of what failed."""

import csv
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backhand.config.errors import UserError
from backhand.config.validation import larger_is_better
from backhand.reporting.cells import cells
from backhand.reporting.plots import Swept, sweep_plot
from backhand.reporting.report import leave_report
from backhand.reporting.result import write_whole
from backhand.reporting.terminal import shown, upload_command
from backhand.sweeps.sweep import Outcome, Sweep


def summarise(sweep: Sweep, objectives: Sequence[str] | None = None) -> None:
    """Write and print what the sweep found.

    Args:
        sweep: a sweep whose jobs have run.
        objectives: what they were judged by, if by more than `objective`.

    Raises:
        UserError: the folder cannot be written.
        SystemExit: more jobs failed than `sweep.max_failures` allows.
    """
    outcomes = [sweep.outcomes[number] for number in sorted(sweep.outcomes)]
    names = list(objectives or [outcomes[0].objective])
    settings = swept_settings(outcomes)
    order = ranked(outcomes, names)
    try:
        write_table(sweep, outcomes, settings, names)
        draw(sweep, outcomes, settings, names)
    except OSError as error:
        raise UserError(
            f"{sweep.folder}: the summary cannot be written ({error.strerror}); the runs are there"
        ) from None
    if sweep.config.report is not False:
        leave_report(sweep.folder)
    _print(sweep, order, settings, names)
    if status := sweep.exit_status():
        sys.exit(status)


def swept_settings(outcomes: Sequence[Outcome]) -> dict[str, list[str]]:
    """The settings that differ between the jobs, each with every job's value; "" where a job does not set it."""
    given = [dict(override.partition("=")[::2] for override in outcome.overrides) for outcome in outcomes]
    keys = dict.fromkeys(key for each in given for key in each)
    values = {key: [each.get(key, "") for each in given] for key in keys}
    return {key: column for key, column in values.items() if len(set(column)) > 1}


def ranked(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[Outcome]:
    """Those with a value, best first; by the first objective where there are several."""
    with_value = [(value, each) for each in outcomes if (value := each.values(names)[0]) is not None]
    finite = [(value, each) for value, each in with_value if math.isfinite(value)]
    finite.sort(key=lambda pair: -pair[0] if larger_is_better(names[0]) else pair[0])
    return [each for _, each in finite]


def write_table(
    sweep: Sweep, outcomes: Sequence[Outcome], settings: dict[str, list[str]], names: Sequence[str]
) -> None:
    """`sweep.csv`: a row a job, with what it set, what became of it, and its final metrics."""
    metrics = dict.fromkeys(name for each in outcomes if each.record for name in each.record["metrics"])
    text = io.StringIO()
    writer = csv.writer(text)
    heads = ["job", *settings, "status", *(f"best {name}" for name in names), *metrics, "seconds", "error"]
    writer.writerow(cells(heads))
    for number, outcome in enumerate(outcomes):
        record: dict[str, Any] = outcome.record or {"metrics": {}}
        writer.writerow(
            cells(
                [
                    outcome.number,
                    *(column[number] for column in settings.values()),
                    outcome.status,
                    *outcome.values(names),
                    *(record["metrics"].get(name) for name in metrics),
                    record.get("seconds"),
                    outcome.error,
                ]
            )
        )
    write_whole(sweep.folder / "sweep.csv", text.getvalue())


def draw(sweep: Sweep, outcomes: Sequence[Outcome], settings: dict[str, list[str]], names: Sequence[str]) -> None:
    """`sweep.png`, where there is something to compare."""
    found = [(number, each.values(names)) for number, each in enumerate(outcomes)]
    usable = [
        (number, [float(value) for value in values if value is not None])
        for number, values in found
        if all(value is not None and math.isfinite(value) for value in values)
    ]
    if len(usable) < 2 or not settings:
        return
    columns = {key: [column[number] for number, _ in usable] for key, column in settings.items()}
    objectives = {name: [values[place] for _, values in usable] for place, name in enumerate(names)}
    aside = sweep.folder / "sweep.part.png"
    try:
        sweep_plot(Swept(columns, objectives, larger_is_better(names[0])), aside)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    aside.replace(sweep.folder / "sweep.png")


def _print(sweep: Sweep, best: Sequence[Outcome], settings: dict[str, list[str]], names: Sequence[str]) -> None:
    console = Console()
    top = sweep.config.sweep.top
    outcomes = [sweep.outcomes[number] for number in sorted(sweep.outcomes)]
    places = {each.number: place for place, each in enumerate(outcomes)}
    if best:
        table = Table(title=f"the best {min(top, len(best))} of {len(outcomes)}", title_justify="left")
        ends = [key.rpartition(".")[2] for key in settings]
        heads = [end if ends.count(end) == 1 else key for key, end in zip(settings, ends, strict=True)]
        for head in ("job", *heads, *names, "test"):
            numbers = head in ("job", "test", *names)
            table.add_column(Text(head), justify="right" if numbers else "left", overflow="fold", no_wrap=numbers)
        for outcome in best[:top]:
            found = ("" if value is None else f"{value:.4g}" for value in outcome.values(names))
            # As Text, for a user's own brackets are no markup.
            own = (Text(_short(column[places[outcome.number]])) for column in settings.values())
            table.add_row(str(outcome.number), *own, *found, _tested(outcome))
        console.print(table)
    failures = sweep.failures()
    if failures:
        console.print(f"{len(failures)} of {len(outcomes)} failed:", style="bold")
        for outcome in failures:
            given = " ".join(f"{key}={column[places[outcome.number]]}" for key, column in settings.items())
            console.print(Text(f"  job {outcome.number} ({given}) {outcome.status}: {outcome.error}"), soft_wrap=True)
    if (command := upload_command(Path(shown(sweep.folder)))) is not None:
        console.print(Text(f"upload: {command}"), soft_wrap=True)
    console.print(Text(f"files: {shown(sweep.folder)}"), soft_wrap=True)


def _short(value: str) -> str:
    """A number that a sampler drew has more digits than anybody compares."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def _tested(outcome: Outcome) -> str:
    metrics = (outcome.record or {"metrics": {}})["metrics"]
    for name in ("test/acc", "test/r2", "test/loss"):
        if metrics.get(name) is not None:
            return f"{metrics[name]:.2%}" if name == "test/acc" else f"{name.removeprefix('test/')} {metrics[name]:.4g}"
    return ""
