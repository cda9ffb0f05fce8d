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

    Jobs that run in other processes, or on other machines, are done when their result.json says so. A thread looks for
    it twice a second.

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
        self.remark = ""
        self._lock = threading.Lock()  # of the next three, which the thread changes too
        self._done: set[Path] = set()
        self._waiting: list[Path] = []
        self._best: float | None = None
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Show it."""
        self.bar.start()
        if not self.bar.disable:
            self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take it away."""
        self._over.set()
        if not self.bar.disable:
            self._watcher.join()
        self.bar.stop()

    def watch(self, folders: Sequence[Path]) -> None:
        """Look for the results of these jobs, which are about to run."""
        with self._lock:
            self._waiting = list(folders)

    def note(self, text: str) -> None:
        """Show what is being trained."""
        self.remark = text
        self._show()

    def add(self, outcome: "Outcome") -> None:
        """Count a job that is done."""
        self._count(outcome.folder, outcome.value)
        self._show()

    def _count(self, folder: Path, value: float | None) -> None:
        with self._lock:
            if folder in self._done:  # the thread has seen it already
                return
            self._done.add(folder)
            if value is None or not math.isfinite(value):
                return
            pick = max if larger_is_better(self.objective) else min
            self._best = value if self._best is None else pick(self._best, value)

    def _watch(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            with self._lock:
                self._waiting = [folder for folder in self._waiting if folder not in self._done]
                waiting = self._waiting
            for folder in waiting:
                if is_complete(record := read_result(folder)) and record is not None:
                    self._count(folder, objective_of(record))
            self._show()

    def _show(self) -> None:
        with self._lock:
            done, value = len(self._done), self._best
        best = "" if value is None else f", best {self.objective} {value:.4g}"
        remark = f" ({self.remark})" if self.remark else ""
        self.bar.update(self.task, completed=done, description=f"runs{best}{remark}")
