"""Arguments, timing and result tables of the benchmarks."""

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from timeit import timeit
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import Timer

TRAIN = str(Path(__file__).resolve().parents[1] / "train.py")
PACKAGES = ("torch", "torchvision", "lightning", "scikit-learn", "jax")


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """A parser with the arguments that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    parser.add_argument("--rounds", type=positive, default=rounds, help="how often each contender is measured")
    parser.add_argument("--device", choices=devices, default=devices[-1], help="device of the networks")
    parser.add_argument("--output", type=Path, default="outputs/benchmarks", help="folder of the table and the JSON")
    return parser


def positive(text: str) -> int:
    """Parse an integer of at least 1 for argparse."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def checked_case(text: str) -> str:
    """Check a case for argparse: batch size, units of each layer, and optionally a number of networks."""
    if not re.fullmatch(r"[1-9]\d*,[1-9]\d*(-[1-9]\d*)+(,[1-9]\d*)?", text):
        raise argparse.ArgumentTypeError(f"{text}: must be like 32,64-32-10 or 32,64-32-10,64")
    return text


def call(job: Callable[[], object]) -> float:
    """Median seconds of a short call, with torch's default number of threads instead of one."""
    timer = Timer("job()", globals={"job": job}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=0.1).median


def process(*command: str) -> float:
    """Seconds of a Python process, started in an empty folder with W&B offline."""
    environment = {**os.environ, "WANDB_MODE": "offline", "COLUMNS": "120"}
    with tempfile.TemporaryDirectory() as folder:
        run = partial(subprocess.run, [sys.executable, *command], cwd=folder, env=environment)
        return timeit(partial(run, check=True, capture_output=True), number=1)


def in_turn(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure the contenders in turn, once per round.

    A machine that slows down then slows all of them. The first round is a warm-up of caches and compilers and is
    dropped.

    Returns:
        The measurements of each contender, one per round.
    """
    found = [{name: measure() for name, measure in contenders.items()} for _ in range(rounds + 1)]
    return {name: [each[name] for each in found[1:]] for name in contenders}


def check_equal(found: Mapping[str, Sequence[float]], relative: float) -> None:
    """Check that the contenders' numbers, such as losses, agree within the relative tolerance.

    Raises:
        AssertionError: they differ.
    """
    (reference, expected), *others = found.items()
    for name, each in others:
        np.testing.assert_allclose(each, expected, relative, err_msg=f"{name} and {reference}: not equal work")


class BenchmarkTable:
    """The results of a benchmark as a table."""

    def __init__(self, title: str, given: argparse.Namespace) -> None:
        self.title, self.output, self.rows = title, given.output, list[dict[str, Any]]()
        self.output.mkdir(parents=True, exist_ok=True)
        self.measured_on = machine(given.device)

    def add(self, case: str, unit: str, measured: Mapping[str, Sequence[float]], goals: Mapping[str, float]) -> None:
        """Add a case.

        Args:
            case: its name.
            unit: of the measurements.
            measured: one measurement per round of each contender; ratios are those of the first to the others.
            goals: the largest ratio allowed, by the name of the other contender.
        """
        first = next(iter(measured.values()))
        for name, values in measured.items():
            low, median, high = np.percentile(values, [25, 50, 75])
            row = {"case": case, "name": name, "unit": unit, "median": median, "low": low, "high": high}
            # A ratio per round: what slows a round slows both contenders.
            ratio = None if values is first else float(np.median(np.divide(first, values)))
            self.rows.append({**row, "rounds": list(values), "ratio": ratio, "at_most": goals.get(name)})

    def markdown(self) -> str:
        """The table in Markdown; a ratio is the first contender's number divided by that of the row."""
        lines = [f"{self.title}. {self.measured_on}", ""]
        lines += ["| case | | median | quartiles | ratio | at most |", "|---|---|---:|---:|---:|---:|"]
        for row in self.rows:
            median, low, high = (format_figure(row[key]) for key in ("median", "low", "high"))
            figures = f"{median} {row['unit']} | {low} – {high}"
            case, ratio = (row["case"], "") if row["ratio"] is None else ("", f"{row['ratio']:.2f}")
            goal = "" if row["at_most"] is None else f"{row['at_most']:.2f}"
            missed = " (missed)" if goal and row["ratio"] > row["at_most"] else ""
            lines.append(f"| {case} | {row['name']} | {figures} | {ratio} | {goal}{missed} |")
        return "\n".join(lines) + "\n"

    def write(self, name: str) -> None:
        """Print the table, and write it as NAME.md and all measurements as NAME.json."""
        print(self.markdown())
        command = shlex.join(["python", *sys.argv])
        contents = {"benchmark": name, "command": command, "measured_on": self.measured_on, "rows": self.rows}
        (self.output / f"{name}.json").write_text(json.dumps(contents, indent=2, ensure_ascii=False) + "\n")
        (self.output / f"{name}.md").write_text(self.markdown())


def format_figure(value: float) -> str:
    """Three significant digits, or an integer with thousands separators from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine(device: str) -> str:
    """The device, the date and the versions of the packages, for the caption of a table."""
    information = Path("/proc/cpuinfo")
    processor = re.search(r"model name\s*:\s*(.+)", information.read_text()) if information.exists() else None
    name = processor[1] if processor else platform.machine()
    installed = {each.name: each.version for each in distributions()}
    versions = [f"{package} {installed[package]}" for package in PACKAGES if package in installed]
    place = torch.cuda.get_device_name() if device == "cuda" else f"{name}, {torch.get_num_threads()} threads"
    return f"{place}, {date.today()}; python {platform.python_version()}, {', '.join(versions)}."
