"""The progress bar of a sweep, which two threads tell of the jobs that are done."""

import functools
import io
import json
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from backhand.sweeps import progress
from backhand.sweeps.progress import SweepProgress


@pytest.fixture
def on_a_terminal(monkeypatch):
    monkeypatch.setattr(progress, "Console", functools.partial(Console, force_terminal=True, file=io.StringIO()))


def outcome(folder, value):
    return SimpleNamespace(folder=folder, value=value)


def finished(folder, value):
    folder.mkdir()
    record = {"status": "finished", "objective": {"name": "val/loss", "value": value}}
    (folder / "result.json").write_text(json.dumps(record))
    return folder


def shown(bar):
    (task,) = bar.bar.tasks
    return task.completed, task.description


class Value(float):
    """A number that counts how often it is compared."""

    compared = 0

    def __lt__(self, other):
        Value.compared += 1
        return float(self) < float(other)

    def __gt__(self, other):
        Value.compared += 1
        return float(self) > float(other)


@pytest.mark.parametrize(("objective", "best"), [("val/loss", "0.25"), ("val/acc", "0.75")])
def test_the_best_value_of_all_is_shown_whatever_order_they_come_in(tmp_path, objective, best):
    bar = SweepProgress(5, objective)
    for number, value in enumerate((0.5, 0.75, None, float("inf"), 0.25)):
        bar.add(outcome(tmp_path / str(number), value))
    bar.note("4 in one population")
    assert shown(bar) == (5, f"runs, best {objective} {best} (4 in one population)")


def test_a_job_costs_one_comparison_however_many_there_were_before(tmp_path):
    bar = SweepProgress(200, "val/loss")
    Value.compared = 0
    for number in range(200):
        bar.add(outcome(tmp_path / str(number), Value(number)))
    assert Value.compared < 200


@pytest.fixture
def switching():
    """Threads that take turns every few lines."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_two_threads_may_count_at_once(tmp_path, monkeypatch, on_a_terminal, switching):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOOKS", 0)
    elsewhere = [finished(tmp_path / f"elsewhere{number}", 2.0 + number) for number in range(500)]
    with SweepProgress(1500, "val/loss") as bar:
        bar.watch(elsewhere)
        for number in range(1000):
            bar.add(outcome(tmp_path / str(number), 1.0 + number))
        for folder in elsewhere:  # as a sweep does in the end, whoever has seen them
            bar.add(outcome(folder, 2.0))
    assert shown(bar) == (1500, "runs, best val/loss 1")


def test_a_result_that_was_read_is_not_read_again(tmp_path, monkeypatch, on_a_terminal):
    read, rounds = [], iter([False] * 3 + [True])
    done, waits = finished(tmp_path / "done", 0.5), tmp_path / "waits"
    original = progress.read_result
    monkeypatch.setattr(progress, "read_result", lambda folder: read.append(folder.name) or original(folder))
    bar = SweepProgress(2, "val/loss")
    monkeypatch.setattr(bar, "_over", SimpleNamespace(wait=lambda seconds: next(rounds)))
    bar.watch([done, waits])
    bar._watch()
    assert read == ["done", "waits", "waits", "waits"]
    assert shown(bar) == (1, "runs, best val/loss 0.5")


def test_where_there_is_no_terminal_nobody_looks(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr(progress, "read_result", lambda folder: pytest.fail("it was looked for"))
    with SweepProgress(1, "val/loss") as bar:
        bar.watch([tmp_path])
        assert not bar._watcher.is_alive()
