"""The summary that a command prints at its end, and how numbers and settings are formatted in it."""

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
    """Print the summary of a run: the metrics of its best epoch, its duration and its folder.

    Args:
        result: the result of the run.
        folder: the folder of the run.
        best: the epoch, counted from 1, whose checkpoint was tested; None without such a checkpoint: the metrics are
            then the last epoch's, and the last weights were tested.
    """
    tested = {name: value for name, value in result.metrics.items() if name.startswith("test/")}
    table = metrics_table(result.metrics if best is None else result.best | tested)
    table.add_section()
    table.add_row("seconds", format_metric("seconds", result.seconds))
    if best is None:
        table.add_row("epochs", str(result.epochs))
    else:
        table.add_row("best epoch", f"{best} of {result.epochs}")
    console = Console()
    console.print(result.status.capitalize(), style="bold")
    console.print(table)
    if result.skipped:
        steps = "1 step was" if result.skipped == 1 else f"{result.skipped:,} steps were"
        console.print(f"{steps} skipped: a loss or a gradient was not finite", highlight=False)
    if result.audit is not None and "angle" in result.audit:
        source = f"of the hidden layers' δ, {counted(result.audit['times'], 'audit')}"
        line = f"not backpropagation: angle to it {result.audit['angle']:.0f}° on average ({source})"
        console.print(line, highlight=False)
    elif result.audit is not None:
        times, worst, torchs = (result.audit[key] for key in ("times", "worst", "torch"))
        line = f"gradients audited: {times} {'time' if times == 1 else 'times'}, worst relative error {worst:.0e}"
        console.print(line + (f" (torch's own: {torchs:.0e})" if torchs is not None else ""), highlight=False)
    if (command := upload_command(Path(relative_to_cwd(folder)))) is not None:
        console.print(Text(f"upload: {command}"), soft_wrap=True)
    # Outside the table, which would truncate or wrap a long path.
    console.print(Text(f"files: {relative_to_cwd(folder)}"), soft_wrap=True)


def upload_command(folder: Path) -> str | None:
    """The command that uploads the folder's offline W&B runs; None without any.

    Args:
        folder: of a run or of a sweep, as the command should name it.
    """
    for pattern in ("wandb/offline-run-*", "*/wandb/offline-run-*"):
        if any(folder.glob(pattern)):
            return f"wandb sync {os.path.join(shlex.quote(str(folder)), pattern)}"  # noqa: PTH118
    return None


def metrics_table(metrics: Mapping[str, float]) -> Table:
    """One row per metric (loss, acc, …) and one column per split."""
    table = Table()
    splits = [split for split in ("train", "val", "test") if any(name.startswith(f"{split}/") for name in metrics)]
    table.add_column("")
    for split in splits:
        table.add_column(split, justify="right")
    for metric in dict.fromkeys(name.partition("/")[2] for name in metrics):
        row = [metrics.get(f"{split}/{metric}") for split in splits]
        table.add_row(metric, *("" if value is None else format_metric(metric, value) for value in row))
    return table


def relative_to_cwd(path: Path) -> str:
    """The path relative to the current directory, or unchanged if it lies outside."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def format_metric(metric: str, value: float) -> str:
    """A metric's value for display: accuracy in percent, others with 4 significant digits."""
    if metric == "acc":
        return f"{value:z.2%}"  # z: no minus before a number that is rounded to zero
    if metric == "seconds" and value >= 1:
        return f"{value:,.1f}"
    return f"{value:z.4g}"


def counted(count: int, noun: str) -> str:
    """`1 run`, `1,000 runs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def short(setting: str) -> str:
    """A setting for display: a sampled number has 4 significant digits."""
    try:
        return f"{float(setting):.4g}" if len(setting) > 8 and not setting.isdecimal() else setting
    except ValueError:
        return setting


def print_table(title: str, frame: Any, numbers: Sequence[str] = ()) -> None:
    """Print a data frame of text as a table, or one line per row if the terminal is too narrow.

    Args:
        title: printed above the table.
        frame: strings; brackets in them are not markup.
        numbers: the columns that are aligned right.
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
        line = ", ".join(f"{column} {value}" for column, value in zip(frame, row, strict=True) if value)
        console.print(Text(f"- {line}"), soft_wrap=True)
