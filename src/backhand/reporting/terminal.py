"""What a command prints when it is done."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backhand.reporting.result import Result


def print_summary(result: Result, folder: Path, best: int | None) -> None:
    """Print the end of a run: the metrics of its best epoch, how long it took, and where the files are.

    Args:
        result: the run's.
        folder: the run's.
        best: the epoch, from 1, whose checkpoint was tested; None where there is no such checkpoint: the table then has
            the last epoch's metrics, and the tested weights were the last.
    """
    tested = {name: value for name, value in result.metrics.items() if name.startswith("test/")}
    table = metrics_table(result.metrics if best is None else result.best | tested)
    table.add_section()
    table.add_row("seconds", number("seconds", result.seconds))
    if best is None:
        table.add_row("epochs", str(result.epochs))
    else:
        table.add_row("best epoch", f"{best} of {result.epochs}")
    console = Console()
    console.print(result.status.capitalize(), style="bold")
    console.print(table)
    if result.skipped:
        steps = "1 step was" if result.skipped == 1 else f"{result.skipped:,} steps were"
        console.print(f"{steps} left out: a loss or a gradient was not finite", highlight=False)
    if result.audit is not None and "angle" in result.audit:
        of = f"of the hidden layers' δ, {counted(result.audit['times'], 'audit')}"
        line = f"not backpropagation: angle to it {result.audit['angle']:.0f}° on average ({of})"
        console.print(line, highlight=False)
    elif result.audit is not None:
        times, worst, torchs = (result.audit[key] for key in ("times", "worst", "torch"))
        line = f"gradients audited: {times} {'time' if times == 1 else 'times'}, worst relative error {worst:.0e}"
        console.print(line + (f" (torch's own: {torchs:.0e})" if torchs is not None else ""), highlight=False)
    if (command := upload_command(Path(shown(folder)))) is not None:
        console.print(Text(f"upload: {command}"), soft_wrap=True)
    # Not a cell of the table: a path that is cut off or wrapped cannot be copied.
    console.print(Text(f"files: {shown(folder)}"), soft_wrap=True)


def upload_command(folder: Path) -> str | None:
    """What uploads the folder's W&B runs that are not on a server; None where there are none.

    Args:
        folder: of a run or of a sweep, as it is to be typed.
    """
    for pattern in ("wandb/offline-run-*", "*/wandb/offline-run-*"):
        if any(folder.glob(pattern)):
            return f"wandb sync {os.path.join(shlex.quote(str(folder)), pattern)}"  # noqa: PTH118
    return None


def metrics_table(metrics: Mapping[str, float]) -> Table:
    """A row a metric (loss, acc, …), a column a split that has one."""
    table = Table()
    splits = [split for split in ("train", "val", "test") if any(name.startswith(f"{split}/") for name in metrics)]
    table.add_column("")
    for split in splits:
        table.add_column(split, justify="right")
    for metric in dict.fromkeys(name.partition("/")[2] for name in metrics):
        row = [metrics.get(f"{split}/{metric}") for split in splits]
        table.add_row(metric, *("" if value is None else number(metric, value) for value in row))
    return table


def shown(path: Path) -> str:
    """The path as short as it can be typed from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def number(metric: str, value: float) -> str:
    """A metric's value as people read it."""
    if metric == "acc":
        return f"{value:.2%}"
    if metric == "seconds" and value >= 1:
        return f"{value:,.1f}"
    return f"{value:.4g}"


def counted(count: int, noun: str) -> str:
    """`1 run`, `1,000 runs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def short(setting: str) -> str:
    """A setting as people read it: a number that a sampler drew has more digits than anybody compares."""
    try:
        return f"{float(setting):.4g}" if len(setting) > 8 and not setting.isdecimal() else setting
    except ValueError:
        return setting


def print_table(title: str, frame: Any, numbers: Sequence[str] = ()) -> None:
    """Print a data frame of text; where the table is wider than the terminal, a line a row.

    Args:
        title: above the table.
        frame: as Text, for a user's own brackets are no markup.
        numbers: the columns that stand at the right.
    """
    console, table = Console(), Table(title=Text(title), title_justify="left")
    for column in frame:
        table.add_column(Text(column), justify="right" if column in numbers else "left", no_wrap=True)
    rows = list(frame.itertuples(index=False))
    for row in rows:
        table.add_row(*map(Text, row))
    if console.measure(table, options=console.options.update(max_width=10_000)).maximum <= console.width:
        console.print(table)
        return
    console.print(Text(title))
    for row in rows:
        told = ", ".join(f"{column} {value}" for column, value in zip(frame, row, strict=True) if value)
        console.print(Text(f"- {told}"), soft_wrap=True)
