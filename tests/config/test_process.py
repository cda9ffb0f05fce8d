"""The process of a command: exit status, output and `atexit` functions."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backhand.config.process import garbage_collection

ROOT = Path(__file__).resolve().parents[2]
RUN = "from backhand.config.process import run; run('task')"


def run_task(tmp_path, body):
    (tmp_path / "task.py").write_text(f"import atexit, sys\n\n\ndef main():\n    {body}\n")
    return subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("body", "status", "stdout", "stderr"),
    [
        ("print('done')", 0, "done\n", ""),
        ("sys.exit(3)", 3, "", ""),
        ("sys.exit('wrong')", 1, "", "wrong\n"),
        ("sys.exit(None)", 0, "", ""),
        ("raise KeyboardInterrupt", 130, "", ""),
        ("1 / 0", 1, "", "ZeroDivisionError: division by zero\n"),
        ("atexit.register(print, 'at the end')", 0, "at the end\n", ""),
        ("sys.stdout.write('x' * 100_000)", 0, "x" * 100_000, ""),
    ],
)
def test_exit_status_and_output_are_those_of_main(tmp_path, body, status, stdout, stderr):
    done = run_task(tmp_path, body)
    assert (done.returncode, done.stdout) == (status, stdout)
    assert done.stderr.endswith(stderr)
    assert bool(done.stderr) == bool(stderr)


def test_unwritable_output_is_exit_status_120(tmp_path):
    (tmp_path / "task.py").write_text("def main():\n    print('x')\n")
    variables = {**os.environ, "PYTHONUNBUFFERED": ""}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, env=variables, stdout=full, check=False)
    assert done.returncode == 120


@pytest.mark.parametrize("command", [["scripts/derive.py"], ["scripts/gradcheck.py", "--help"], ["train.py", "--help"]])
def test_a_closed_pipe_ends_a_command_without_a_traceback(command):
    read, write = os.pipe()
    os.close(read)  # as `| head` does once it has its lines
    try:
        done = subprocess.run(
            [sys.executable, "-u", *command], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (120, "")


def test_the_garbage_collector_is_enabled_only_in_the_body():
    gc.disable()
    try:
        with garbage_collection():
            assert gc.isenabled()
            with garbage_collection():
                pass
            assert gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
