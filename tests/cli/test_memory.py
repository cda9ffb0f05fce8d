"""After a warm-up, long runs and large sweeps take no more memory and open no more files."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads /proc")

STEPS_AN_EPOCH = 40  # of the digits, 32 samples a step
STRESS = pytest.mark.stress


class Sample(NamedTuple):
    """The state of a process: epochs or jobs done, allocated MB, open files."""

    done: int
    memory: float
    files: int


def watched(process: Any, done: Callable[[], int], timeout: float) -> list[Sample]:
    """The state of the process at each change of `done`, until it ends."""
    proc, samples = Path(f"/proc/{process.pid}"), []
    until = time.monotonic() + timeout
    while process.poll() is None:
        assert time.monotonic() < until, f"not within {timeout} s"
        try:
            count = done()
            memory = next(line for line in (proc / "smaps_rollup").read_text().splitlines() if "Anonymous" in line)
            files = len(os.listdir(proc / "fd"))  # noqa: PTH208
        except (FileNotFoundError, ProcessLookupError, StopIteration):
            continue  # it has ended
        if count:
            samples.append(Sample(count, int(memory.split()[1]) / 1024, files))
        time.sleep(0.1)
    assert process.returncode == 0
    return samples


def check_flat(samples: list[Sample], warm: int, total: int, growth: float) -> None:
    """After `warm` of `total` the memory grows by less than `growth` MB, and no file is left open."""
    after = [each for each in samples if warm <= each.done < total]
    first, last = after[:5], after[-5:]
    assert last[-1].done - first[0].done > (total - warm) / 2, "the process was not seen often enough"
    grown = last[-1].memory - first[0].memory
    print(f"{first[0].done} to {last[-1].done}: {grown:+.1f} MB, {first[0].memory:.0f} MB; {first[0].files} files")
    assert grown < growth
    # One file may be open for writing.
    assert min(each.files for each in last) <= min(each.files for each in first)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("logger", "steps", "warm", "growth"),
    [
        ("csv", 5_000, 1_000, 3),
        pytest.param("csv", 100_000, 10_000, 20, marks=STRESS),
        pytest.param("default", 100_000, 10_000, 20, marks=STRESS),
    ],
)
def test_the_memory_of_a_long_run_does_not_grow(start, tmp_path, logger, steps, warm, growth):
    epochs, table = steps // STEPS_AN_EPOCH, tmp_path / "run" / "metrics.csv"
    process = start(
        "train.py", f"logger={logger}", f"trainer.max_epochs={epochs}", "trainer=cpu", "report=false", "plots=false",
        "hydra.run.dir=run",
    )  # fmt: skip
    samples = watched(process, lambda: table.read_bytes().count(b"\n") if table.exists() else 0, timeout=3600)
    check_flat(samples, warm // STEPS_AN_EPOCH, epochs, growth)


@STRESS
@pytest.mark.parametrize("launcher", ["basic", "population"])
def test_the_memory_of_a_large_sweep_does_not_grow(start, tmp_path, launcher):
    process = start(
        "train.py", "-m", "data=wine", "trainer=cpu", "trainer.max_epochs=2", "seed=range(500)", "logger=csv",
        f"hydra/launcher={launcher}", "hydra.sweep.dir=sweep", "report=false",
    )  # fmt: skip
    samples = watched(process, lambda: len(list(tmp_path.glob("sweep/*/result.json"))), timeout=3600)
    check_flat(samples, 50, 500, 20)
