"""One run in two processes, whoever starts them: a single run, a sweep's job, torchrun."""

import csv
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch.distributed.run
from tests.cli.conftest import ROOT, until

pytestmark = pytest.mark.slow
TORCHRUN = (torch.distributed.run.__file__, "--nproc-per-node=2", str(ROOT / "train.py"))
TWO = ("trainer=ddp_cpu", "trainer.devices=2", "data=diabetes", "trainer.max_epochs=3", "plots=false")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to see the processes")


def result(folder):
    return json.loads((folder / "result.json").read_text())


def epochs(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def wandb_runs(folder):
    return len(list(folder.rglob("offline-run-*/*.wandb")))


def test_each_job_of_a_sweep_runs_in_its_own_two_processes(command, tmp_path):
    alone = command("train.py", *TWO, "optimizer.lr=0.02", "hydra.run.dir=alone")
    assert alone.returncode == 0, alone.stderr
    assert alone.stderr == ""
    command("train.py", "-m", *TWO, "optimizer.lr=1e6,0.02", "hydra.sweep.dir=sweep")
    assert {path.parent.name for path in (tmp_path / "sweep").glob("*/.hydra")} == {"0", "1"}
    folders = [tmp_path / "sweep" / job for job in ("0", "1")]
    # One that diverges does not cost the others, and what it has left behind does not change them.
    assert [result(folder)["status"] for folder in folders] == ["diverged", "finished"]
    assert result(folders[1])["metrics"] == result(tmp_path / "alone")["metrics"]
    for folder, lr in zip(folders, ("1000000", "0.02"), strict=True):
        assert wandb_runs(folder) == 1
        assert [float(row["lr"]) for row in epochs(folder)] == [pytest.approx(float(lr))] * len(epochs(folder))
        assert (folder / "train.log").read_text().count("Starting with 2 processes") == 1
        assert len([row for row in epochs(folder) if row["epoch"] == "0"]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"alone", "sweep"}


@pytest.mark.stress
def test_jobs_that_run_at_once_do_not_meet(command, tmp_path):
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep")
    overlapping = ("trainer.max_epochs=100", "optimizer.lr=0.01,0.02")
    swept = command("train.py", "-m", *launcher, *TWO, *overlapping, "logger=csv")
    assert swept.returncode == 0, swept.stderr
    for job, lr in (("0", 0.01), ("1", 0.02)):
        assert result(tmp_path / "sweep" / job)["status"] == "finished"
        assert [float(row["lr"]) for row in epochs(tmp_path / "sweep" / job)] == [pytest.approx(lr)] * 100


def test_the_processes_of_torchrun_share_one_folder(command, tmp_path):
    (tmp_path / "temporary").mkdir()
    settings = (*TWO, "optimizer.lr=0.05", "seed=2")
    alone = command("train.py", *settings, "logger=csv", "hydra.run.dir=alone")
    assert alone.returncode == 0, alone.stderr
    # Every process must find the best checkpoint, which is not what it has at the end.
    losses = [float(row["val/loss"]) for row in epochs(tmp_path / "alone")]
    assert min(losses) < losses[-1]
    shared = command(*TORCHRUN, *settings, TMPDIR=str(tmp_path / "temporary"))
    assert shared.returncode == 0, shared.stderr
    ((folder,),) = [list(day.iterdir()) for day in (tmp_path / "outputs").iterdir()]
    assert [path.name for path in folder.glob("*.log")] == ["train.log"]
    assert wandb_runs(tmp_path) == 1
    assert result(folder)["metrics"] == result(tmp_path / "alone")["metrics"]
    assert shared.stdout.count("files: ") == 1
    assert not list((tmp_path / "temporary").glob("backhand-*"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-m", *TWO, "seed=0,1"), "train.py: --multirun under torchrun: a sweep starts each job's processes itself"),
        ((*TWO, "optimizer.lr=-1"), "train.py: optimizer.lr=-1.0: must be above 0"),
    ],
)
def test_what_is_wrong_under_torchrun_is_said_once(command, tmp_path, arguments, reason):
    refused = command(*TORCHRUN, *arguments)
    assert refused.returncode == 1
    assert refused.stderr.count(reason) == 1
    assert refused.stderr.count("train.py: ") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def processes_of(process):
    """The process numbers of those that share the run, in the order of their ranks."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"take_part" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@linux
@pytest.mark.parametrize(
    "how", [signal.SIGINT, *(pytest.param(each, marks=pytest.mark.stress) for each in (signal.SIGTERM, signal.SIGKILL))]
)
def test_all_processes_end_with_the_command(start, tmp_path, how):
    endless = ("trainer.max_epochs=-1", "logger=csv", "hydra.run.dir=run")
    process = start("train.py", *TWO, *endless)
    until((tmp_path / "run" / "checkpoints" / "last.ckpt").exists, process)
    shared = processes_of(process)
    assert len(shared) == 2
    os.killpg(process.pid, how)
    _, stderr = process.communicate(timeout=60)
    until(lambda: not any(is_running(pid) for pid in shared))
    if how != signal.SIGKILL:
        assert process.returncode == 128 + how
        assert "Traceback" not in stderr
        assert result(tmp_path / "run")["status"] == "interrupted"


@linux
def test_a_job_that_loses_a_process_does_not_cost_the_others(start, tmp_path):
    process = start("train.py", "-m", *TWO, "trainer.max_epochs=300,2", "logger=csv", "hydra.sweep.dir=sweep")
    until((tmp_path / "sweep" / "0" / "checkpoints" / "last.ckpt").exists, process)
    os.kill(processes_of(process)[1], signal.SIGKILL)
    process.communicate(timeout=90)
    first, second = (result(tmp_path / "sweep" / job) for job in ("0", "1"))
    assert (first["status"], first["error"]) == ("failed", "ProcessError: process 1 was ended by SIGKILL")
    assert (second["status"], second["epochs"]) == ("finished", 2)


# What the processes of a run import first: the second one has an infinite input in the fourth batch of every epoch.
PLANTED = """
import os
if os.environ.get("RANK") == "1":
    from backhand.data.batches import Batches
    original = Batches.beginning_at
    def beginning_at(self, first):
        for number, batch in enumerate(original(self, first), first):
            if self.shuffle_seed is not None and number == 3:
                batch.x[0, 0] = float("inf")
            yield batch
    Batches.beginning_at = beginning_at
"""


@pytest.mark.parametrize("on_nan", [pytest.param("stop", marks=pytest.mark.stress), "skip"])
def test_all_processes_agree_on_a_step_that_is_not_finite_in_one_of_them(command, tmp_path, on_nan):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(PLANTED)
    path = os.pathsep.join([str(tmp_path / "first"), str(ROOT / "src")])
    run = command("train.py", *TWO, f"on_nan={on_nan}", "logger=csv", "hydra.run.dir=run", PYTHONPATH=path)
    assert run.returncode == 0, run.stderr
    record, named = result(tmp_path / "run"), "epoch 1, step 4: the input is not finite (inf; "
    if on_nan == "stop":
        assert (record["status"], record["steps"], record["epochs"]) == ("diverged", 3, 1)
        assert record["error"].startswith(named)
    else:
        assert (record["status"], record["steps"], record["skipped"]) == ("finished", 30, 3)
        assert (tmp_path / "run" / "train.log").read_text().count(named) == 1
