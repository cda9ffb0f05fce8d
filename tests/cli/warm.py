"""Run commands without the seconds that the import of torch and Lightning takes.

Each is a process of its own that runs the real script, forked from one that has imported what it needs: all but wandb,
which makes a folder when it is imported that is gone with the first process that ends. The tests of what a command
imports, and of how it starts, have their commands from `subprocess`.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("torchmetrics", "sklearn.model_selection", "pandas", "matplotlib.figure", "optuna"),
        *("backhand.training.train", "backhand.sweeps.launcher", "backhand.reporting.plots"),
        "hydra_plugins.backhand_sweeps",
    ]
)


class Command:
    """A running command, with the interface of `subprocess.Popen`."""

    def __init__(self, script: Path, arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> None:
        self.said = [folder.with_name(f"{folder.name}-{id(self)}-{name}") for name in ("stdout", "stderr")]
        for path in self.said:
            path.touch()
        task = (str(script), arguments, str(folder), dict(environment), [str(path) for path in self.said])
        self.process = CONTEXT.Process(target=_run, args=task)
        self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or minus the signal; None while it runs."""
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        assert self.returncode is not None, f"still runs after {timeout} s"
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        stdout, stderr = (path.read_text() for path in self.said)
        return stdout, stderr


def _run(script: str, arguments: tuple[str, ...], folder: str, environment: dict[str, str], said: list[str]) -> None:
    """Run what `python script arguments` would run in that folder."""
    os.setsid()  # as at a terminal, Ctrl-C reaches all its processes
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    status = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
