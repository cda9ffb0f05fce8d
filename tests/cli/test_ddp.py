"""One run in two processes: a single run, a job of a sweep, under torchrun."""

import csv
import json
import os
import signal
import sys

import pytest
import torch.distributed.run
from tests.cli.conftest import ROOT, processes_of, until
from tests.cli.test_wandb import assert_history_is_the_table

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


@linux
def test_two_processes_are_one_run_with_any_launcher_and_a_killed_one_ends_only_its_job(start, command, tmp_path):
    settings = (*TWO, "optimizer.lr=0.05", "seed=2")
    lasting = (*settings, "trainer.max_epochs=30")
    process = start("train.py", "-m", *lasting, "optimizer.lr=0.01,1e6,0.05", "hydra.sweep.dir=sweep")
    until((tmp_path / "sweep" / "0" / "checkpoints" / "last.ckpt").exists, process)
    os.kill(processes_of(process)[1], signal.SIGKILL)
    process.communicate(timeout=90)
    lost, diverged, swept = (tmp_path / "sweep" / job for job in ("0", "1", "2"))
    assert result(lost)["status"] == "failed"
    assert result(lost)["error"] == "process 1 was ended by SIGKILL"
    assert result(diverged)["status"] == "diverged"
    assert (result(swept)["status"], result(swept)["epochs"]) == ("finished", 30)
    assert [(row["epoch"], float(row["lr"])) for row in epochs(swept)] == [
        (str(n), pytest.approx(0.05)) for n in range(30)
    ]
    for folder in (lost, diverged, swept):
        assert wandb_runs(folder) == 1
        assert (folder / "train.log").read_text().count("in 2 processes") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"sweep"}

    (tmp_path / "temporary").mkdir()
    shared = command(*TORCHRUN, *lasting, TMPDIR=str(tmp_path / "temporary"))
    assert shared.returncode == 0, shared.stderr
    ((folder,),) = [list(day.iterdir()) for day in (tmp_path / "outputs").iterdir()]
    assert [path.name for path in folder.glob("*.log")] == ["train.log"]
    assert wandb_runs(folder) == 1
    assert shared.stdout.count("files: ") == 1
    assert not list((tmp_path / "temporary").glob("backhand-*"))
    assert result(folder)["metrics"] == result(swept)["metrics"]
    assert_history_is_the_table(folder)
    # Every process must find the best checkpoint, which is not what it has at the end.
    losses = [float(row["val/loss"]) for row in epochs(folder)]
    assert min(losses) < losses[-1]


@pytest.mark.stress
def test_simultaneous_jobs_do_not_interfere(command, tmp_path):
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep")
    overlapping = ("trainer.max_epochs=100", "optimizer.lr=0.01,0.02")
    swept = command("train.py", "-m", *launcher, *TWO, *overlapping, "logger=csv")
    assert swept.returncode == 0, swept.stderr
    for job, lr in (("0", 0.01), ("1", 0.02)):
        assert result(tmp_path / "sweep" / job)["status"] == "finished"
        assert [float(row["lr"]) for row in epochs(tmp_path / "sweep" / job)] == [pytest.approx(lr)] * 100


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-m", *TWO, "seed=0,1"), "train.py: --multirun under torchrun: a sweep starts each job's processes itself"),
        ((*TWO, "optimizer.lr=-1"), "train.py: optimizer.lr=-1.0: must be above 0"),
    ],
)
def test_a_mistake_under_torchrun_is_reported_once(command, tmp_path, arguments, reason):
    refused = command(*TORCHRUN, *arguments)
    assert refused.returncode == 1
    assert refused.stderr.count(reason) == 1
    assert refused.stderr.count("train.py: ") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# The processes import this first: the second one gets an infinite input in the fourth batch of every epoch, and each
# one records how often the derivation's backward pass was called.
PLANTED = """
import os
if "RANK" in os.environ:
    from backhand.calculus import backpropagation
    called, derived = open("called-" + os.environ["RANK"], "a", 1), backpropagation.backward
    backpropagation.backward = lambda *a: called.write("once\\n") and derived(*a)
if os.environ.get("RANK") == "1":
    from backhand.data.batches import Batches
    original = Batches._batches_from
    def beginning_at(self, first):
        for number, batch in enumerate(original(self, first), first):
            if self.shuffle_seed is not None and number == 3:
                batch.x[0, 0] = float("inf")
            yield batch
    Batches._batches_from = beginning_at
"""


@pytest.mark.stress
def test_processes_agree_on_accumulated_batches_too(command, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(PLANTED)
    path = os.pathsep.join([str(tmp_path / "first"), str(ROOT / "src")])
    run = command("train.py", *TWO, "on_nan=skip", "trainer.accumulate_grad_batches=3", "logger=csv",
                  "hydra.run.dir=run", PYTHONPATH=path)  # fmt: skip
    assert run.returncode == 0, run.stderr
    record = result(tmp_path / "run")
    assert (record["status"], record["steps"], record["skipped"]) == ("finished", 12, 3)
    assert "epoch 1, step 2: the input is not finite (inf; " in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize("on_nan", [pytest.param("stop", marks=pytest.mark.stress), "skip"])
def test_all_processes_agree_on_a_step_that_is_not_finite_in_one_of_them(command, tmp_path, on_nan):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(PLANTED)
    path = os.pathsep.join([str(tmp_path / "first"), str(ROOT / "src")])
    run = command("train.py", *TWO, f"on_nan={on_nan}", "logger=csv", "hydra.run.dir=run", PYTHONPATH=path)
    assert run.returncode == (1 if on_nan == "stop" else 0), run.stderr
    record, named = result(tmp_path / "run"), "epoch 1, step 4: the input is not finite (inf; "
    if on_nan == "stop":
        assert (record["status"], record["steps"], record["epochs"]) == ("diverged", 4, 1)
        assert record["error"].startswith(named)
    else:
        assert (record["status"], record["steps"], record["skipped"]) == ("finished", 30, 3)
        assert (tmp_path / "run" / "train.log").read_text().count(named) == 1
        called = [(tmp_path / f"called-{rank}").read_text().count("once") for rank in (0, 1)]
        assert called == [30, 30]  # once for every batch
