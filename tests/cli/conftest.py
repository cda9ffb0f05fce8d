"""Run the real commands, as a user would, in a temporary folder."""

import contextlib
import logging
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from tests.cli import warm

ROOT = Path(__file__).resolve().parents[2]


def until(condition: Callable[[], object], process: Any = None, seconds: float = 120) -> None:
    """Wait until a condition is true, at most as long as the process runs that should make it true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        assert process is None or process.poll() is None, "the process has ended before"
        time.sleep(0.01)


def processes_of(process):
    """The pids of the processes of a run, in the order of their ranks."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"training.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture
def cold_command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Like `command`, in a new interpreter: for tests of imports and of the start."""

    def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / script), *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "120", **environment},
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture
def cold_start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Like `start`, in a new interpreter."""
    started = []

    def run(script: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / script), *arguments],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell ignores Ctrl-C in background jobs, and their children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def command(start: Callable[..., warm.Command]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`command("train.py", "seed=1")` in an empty folder; torch and the other libraries are already imported."""

    def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = start(script, *arguments, **environment)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess([script, *arguments], process.returncode, stdout, stderr)

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., warm.Command]]:
    """`start("train.py")` runs in the background; as at a terminal, Ctrl-C reaches all its processes."""
    started = []

    def run(script: str, *arguments: str, **environment: str) -> warm.Command:
        variables = {**os.environ, "COLUMNS": "120", **environment}
        started.append(warm.Command(ROOT / script, arguments, tmp_path, variables))
        return started[-1]

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def command_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Like `command`, in this process: for a command that is refused before it trains; takes 0.1 s."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", HydraConfig.instance().cfg)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    at_exit: list[Callable[[], None]] = []  # releases the locks of the folders
    monkeypatch.setattr(
        "backhand.config.lock.atexit", SimpleNamespace(register=at_exit.append, unregister=at_exit.remove)
    )
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        status = 0
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        for release in reversed(at_exit[:]):
            release()
        stdout, stderr = capfd.readouterr()
        return subprocess.CompletedProcess([script, *arguments], status, stdout, stderr)

    yield run
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
