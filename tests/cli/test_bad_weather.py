"""Full and missing disks, exhausted memory, killed processes, clocks and files that change."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import ROOT, processes_of, until

pytestmark = pytest.mark.slow

QUICK = ("data=wine", "logger=csv", "callbacks=quiet", "trainer=cpu", "plots=false", "report=false")


def result(folder):
    return json.loads((folder / "result.json").read_text())


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_one_line(stderr, *says):
    assert stderr.count("\n") == 1, stderr
    for each in says:
        assert each in stderr


def test_a_full_disk_ends_a_run_in_one_line_and_damages_nothing(tmp_path):
    """A limit of the file size: a write fails as on a full disk."""
    size = 60_000
    arguments = (*QUICK, "model.hidden=[2000]", "trainer.max_epochs=99", "hydra.run.dir=run")
    found = subprocess.run(
        [sys.executable, ROOT / "train.py", *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )  # fmt: skip
    assert found.returncode == 1
    assert_one_line(found.stderr, "run/checkpoints/best.ckpt: cannot be written (File too large)")
    assert not list((tmp_path / "run").rglob("*.tmp"))
    assert result(tmp_path / "run")["status"] == "failed"


@pytest.fixture
def mounted(tmp_path):
    """`mounted("size=512k")`: a file system of its own, in memory."""
    disk = tmp_path / "disk"

    def mount(options):
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True).returncode:
            pytest.skip("no file system can be made here")
        return disk

    yield mount
    if disk.is_mount():
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_file_system_ends_a_run_in_one_line_and_written_files_stay(start, mounted, tmp_path):
    disk = mounted("size=512k")
    process = start("train.py", *QUICK, "trainer.max_epochs=-1", "hydra.run.dir=disk/run")
    until((disk / "run" / "checkpoints" / "previous.ckpt").exists, process)
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert_one_line(stderr, "/disk/run/", "cannot be written (No space left on device)")
    (disk / "ballast").unlink()
    last = disk / "run" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    again = start("train.py", *QUICK, "trainer.max_epochs=-1", "hydra.run.dir=disk/run", "ckpt_path=auto")
    until(lambda: last.read_bytes() != before, again)  # it was intact
    os.killpg(again.pid, signal.SIGKILL)
    again.wait(60)


def test_a_full_file_system_ends_a_sweep_without_a_traceback(command, mounted):
    mounted("size=150k")
    found = command("train.py", "-m", *QUICK, "trainer.max_epochs=60", "seed=0,1,2", "hydra.sweep.dir=disk/sweep")
    assert found.returncode == 1
    assert "Traceback" not in found.stderr, found.stderr
    assert "cannot be written (No space left on device)" in found.stderr.splitlines()[-1]


def test_a_read_only_file_system_is_refused_in_one_line(command, mounted):
    mounted("ro")
    for arguments in (("hydra.run.dir=disk/run",), ("hydra.sweep.dir=disk/sweep", "seed=0,1", "-m")):
        found = command("train.py", *QUICK, *arguments)
        assert (found.returncode, found.stdout) == (1, "")
        assert_one_line(found.stderr, "Read-only file system")


def test_removing_its_folder_ends_a_run_in_one_line_and_the_folder_is_not_made_again(start, tmp_path):
    process = start("train.py", *QUICK, "trainer.max_epochs=-1", "hydra.run.dir=run")
    until((tmp_path / "run" / "metrics.csv").exists, process)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert_one_line(stderr, "run/")
    assert not (tmp_path / "run").exists()


def test_exhausted_memory_is_one_line(tmp_path):
    code = "import resource, runpy, sys; import torch, lightning, torchmetrics, sklearn.model_selection; "
    code += "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize(); "
    code += "resource.setrlimit(resource.RLIMIT_AS, (used + (900 << 20),) * 2); "
    code += f"sys.argv[0] = {str(ROOT / 'train.py')!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    large = ("data=teacher", "data.samples=100000", "data.batch_size=full", "model.hidden=[3000]")
    found = subprocess.run(
        [sys.executable, "-c", code, *QUICK, *large, "hydra.run.dir=run"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert found.returncode == 1
    assert_one_line(found.stderr, "out of memory")
    assert result(tmp_path / "run")["status"] == "failed"


def test_the_first_of_two_processes_that_is_killed_ends_the_run(start, tmp_path):
    two = (*QUICK, "trainer=ddp_cpu", "trainer.max_epochs=-1", "hydra.run.dir=run")
    process = start("train.py", *two)
    until((tmp_path / "run" / "checkpoints" / "previous.ckpt").exists, process)
    members = processes_of(process)
    os.kill(members[0], signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "process 0 was ended by SIGKILL" in stderr
    assert "process 0 was ended by SIGKILL" in result(tmp_path / "run")["error"]
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in members))


def test_a_table_that_is_replaced_while_it_trains_changes_nothing(start, command, tmp_path):
    lines = [f"{i % 7},{i % 5},{'ab'[i % 2]}" for i in range(400)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["x,y,z", *lines]) + "\n")
    run = (*QUICK[1:], "data=table", "data.path=t.csv", "data.target=z", "trainer.max_epochs=40")
    assert command("train.py", *run, "hydra.run.dir=whole").returncode == 0
    process = start("train.py", *run, "hydra.run.dir=run")
    until((tmp_path / "run" / "metrics.csv").exists, process)
    table.write_text("x,y,z\n1,2,a\n")
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert (tmp_path / "run" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()


def test_no_duration_depends_on_a_clock_that_can_be_set():
    """Durations use a monotonic clock; the time of day is only displayed."""
    told = []
    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text()
        told += [file.name for word in ("time.time()", "datetime.now", "time.localtime", "utcnow") if word in text]
    assert told == ["lock.py"]


def test_a_refused_run_removes_only_the_folders_that_it_made(command, tmp_path):
    (tmp_path / "theirs").mkdir()
    for folder in ("run", "theirs/new/run"):
        found = command("train.py", *QUICK, "model.hidden=[100000,10000000]", f"hydra.run.dir={folder}")
        assert (found.returncode, found.stdout) == (1, "")
        assert_one_line(found.stderr, "the network does not fit into memory")
        assert list(tmp_path.iterdir()) == [tmp_path / "theirs"]
        assert not list((tmp_path / "theirs").iterdir())
