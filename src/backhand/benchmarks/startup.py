"""From the command to the first training step, beside the imports that nobody can do without."""

import os
import subprocess
import sys
import tempfile
import time

from backhand.benchmarks.timing import Goal, Report, figures, ratios
from backhand.config import CONF

OURS, QUIET, IMPORTS = (
    "train.py to its first step",
    "the same with logger=none",
    "import torch, lightning, hydra, wandb",
)
GOALS = (Goal(OURS, IMPORTS, 1.25), Goal(QUIET, IMPORTS))
# The command as it is, ended where the first step would begin.
UNTIL_FIRST_STEP = """
import os, runpy, sys
import backhand.training.module as module
module.LightningMLP.training_step = lambda *_: os._exit(0)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def benchmark(rounds: int) -> Report:
    """Time whole processes, in turn, after one of each that is not counted."""
    train = [sys.executable, "-c", UNTIL_FIRST_STEP, str(CONF.parent / "train.py")]
    commands = {
        OURS: train,
        QUIET: [*train, "logger=none"],
        IMPORTS: [sys.executable, "-c", IMPORTS],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            seconds = process_seconds(command)
            if number > 0:
                times[name].append(seconds)
    return Report("Start-up", figures("", times, "s"), ratios("", times, GOALS))


def process_seconds(command: list[str]) -> float:
    """Seconds that a command takes in an empty folder, with nothing sent to W&B.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "WANDB_MODE": "offline", "COLUMNS": "120"}
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        return time.perf_counter() - start
