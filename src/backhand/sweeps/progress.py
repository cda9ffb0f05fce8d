"""The progress bar of a sweep: jobs done, the best value so far, and what is being trained."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from backhand.config.validation import larger_is_better
from backhand.reporting.result import is_complete, objective_of
from backhand.sweeps.jobs import Job

if TYPE_CHECKING:
    from backhand.sweeps.sweep import JobOutcome

# One check of 10,000 running jobs takes 0.1 s.
REFRESHES_PER_SECOND = 1


class SweepProgress(Progress):
    """A progress bar over the jobs of a sweep, shown only on a terminal.

    A job in another process, or on another machine, is done when its result.json is complete. rich's thread checks that
    each time it draws the bar.

    Args:
        total: how many jobs there will be.
        objective: the metric whose best value is shown.
        outcomes: the outcomes of the recorded jobs, by number.
    """

    def __init__(self, total: int, objective: str, outcomes: Mapping[int, "JobOutcome"]) -> None:
        self.objective, self.outcomes = objective, outcomes
        self.running: Sequence[Job] = ()
        self.remark = ""
        self.values: dict[int, float | None] = {}  # of the jobs that are done
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console()
        super().__init__(
            *columns,
            console=console,
            disable=not console.is_terminal,
            transient=True,
            refresh_per_second=REFRESHES_PER_SECOND,
        )
        self.add_task("runs", total=total)

    def note(self, text: str) -> None:
        """Show a remark about what is being trained."""
        self.remark = text

    def get_renderables(self) -> Iterable[RenderableType]:
        for job in self.running:
            if job.number not in self.values and (record := job.record) is not None and is_complete(record):
                self.values[job.number] = objective_of(record)
        self.values |= {number: each.value for number, each in list(self.outcomes.items())}
        finite = [value for value in self.values.values() if value is not None and math.isfinite(value)]
        pick = max if larger_is_better(self.objective) else min
        best = f", best {self.objective} {pick(finite):.4g}" if finite else ""
        remark = f" ({self.remark})" if self.remark else ""
        for task in self.task_ids:  # rich calls this before there is a task
            self.update(task, completed=len(self.values), description=f"runs{best}{remark}")
        return super().get_renderables()
