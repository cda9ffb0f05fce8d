"""The progress bar of a sweep, while jobs end in this and in other processes."""

import functools
import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from backhand.sweeps import progress
from backhand.sweeps.progress import SweepProgress


@pytest.fixture
def on_a_terminal(monkeypatch):
    monkeypatch.setattr(progress, "Console", functools.partial(Console, force_terminal=True, file=io.StringIO()))


class Running:
    """A job that counts how often its result is read."""

    def __init__(self, number, value=None):
        self.number, self.value, self.read = number, value, 0

    @property
    def record(self):
        self.read += 1
        done = {"status": "finished", "objective": {"name": "val/loss", "value": self.value}}
        return None if self.value is None else done


def outcomes(*values):
    return {number: SimpleNamespace(value=value) for number, value in enumerate(values)}


def shown(bar):
    bar.get_renderables()
    (task,) = bar.tasks
    return task.completed, task.description


@pytest.mark.parametrize(("objective", "best"), [("val/loss", "0.25"), ("val/acc", "0.75")])
def test_the_best_value_is_shown_in_any_order_of_the_results(objective, best):
    bar = SweepProgress(5, objective, outcomes(0.5, 0.75, None, float("inf"), 0.25))
    bar.note("4 in one population")
    assert shown(bar) == (5, f"runs, best {objective} {best} (4 in one population)")


def test_a_result_is_read_only_once():
    known = {}
    bar = SweepProgress(2, "val/loss", known)
    bar.running = done, waits = Running(0, 0.5), Running(1)
    for _ in range(3):
        assert shown(bar) == (1, "runs, best val/loss 0.5")
    assert (done.read, waits.read) == (1, 3)
    known |= outcomes(0.5, 0.25)  # as a sweep does at the end
    assert shown(bar) == (2, "runs, best val/loss 0.25")
    assert (done.read, waits.read) == (1, 4)


@pytest.fixture
def switching():
    """Switch between threads every few lines."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_jobs_may_be_recorded_while_the_bar_is_drawn(monkeypatch, on_a_terminal, switching):
    monkeypatch.setattr(progress, "REFRESHES_PER_SECOND", 10_000)
    known = {}
    with SweepProgress(1500, "val/loss", known) as bar:
        bar.running = [Running(number, 2.0 + number) for number in range(1000, 1500)]
        for number in range(1000):
            known[number] = SimpleNamespace(value=1.0 + number)
            bar.note(str(number))
    assert shown(bar) == (1500, "runs, best val/loss 1 (999)")


def test_without_a_terminal_no_result_is_read(monkeypatch):
    monkeypatch.setattr(progress, "REFRESHES_PER_SECOND", 10_000)
    with SweepProgress(1, "val/loss", {}) as bar:
        bar.running = (job := Running(0),)
        assert not bar.live.is_started
    assert job.read == 0
