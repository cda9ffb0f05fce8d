"""How far a sweep is, on the terminal: jobs done, the best value so far, and what is being trained."""

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from backhand.config.validation import larger_is_better
from backhand.reporting.result import is_complete, objective_of, read_result

if TYPE_CHECKING:
    from backhand.sweeps.sweep import Outcome

SECONDS_BETWEEN_LOOKS = 0.5


class SweepProgress:
    """A progress bar over the jobs of a sweep; nothing at all where the output is no terminal.

    Jobs that run elsewhere (other processes, other machines) have only their result.json to tell that they are done:
    it is looked for twice a second.

    Args:
        total: how many jobs there will be.
        objective: the metric that is shown.
        shown: whether there is to be a bar.
    """

    def __init__(self, total: int, objective: str, shown: bool = True) -> None:
        self.objective = objective
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console()
        self.bar = Progress(*columns, console=console, disable=not (shown and console.is_terminal), transient=True)
        self.task = self.bar.add_task("runs", total=total)
        self.values: dict[Path, float | None] = {}
        self.waiting: list[Path] = []
        self.remark = ""
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Show it."""
        self.bar.start()
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take it away."""
        self._over.set()
        self._watcher.join()
        self.bar.stop()

    def watch(self, folders: Sequence[Path]) -> None:
        """Jobs that are going to run."""
        self.waiting = list(folders)

    def note(self, text: str) -> None:
        """What is being trained."""
        self.remark = text
        self._show()

    def add(self, outcome: "Outcome") -> None:
        """A job that is done."""
        self.values[outcome.folder] = outcome.value
        self._show()

    def _watch(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            for folder in self.waiting:
                if folder not in self.values and is_complete(record := read_result(folder)) and record is not None:
                    self.values[folder] = objective_of(record)
            self._show()

    def _show(self) -> None:
        values = [value for value in self.values.values() if value is not None and math.isfinite(value)]
        pick = max if larger_is_better(self.objective) else min
        best = f", best {self.objective} {pick(values):.4g}" if values else ""
        remark = f" ({self.remark})" if self.remark else ""
        self.bar.update(self.task, completed=len(self.values), description=f"runs{best}{remark}")
