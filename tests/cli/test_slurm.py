"""Sweeps on a real Slurm with one node."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from tests.cli.conftest import ROOT, until
from tests.cli.test_interruptions import assert_same

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]  # one Slurm, used by one worker

SCRIPT = ROOT / "scripts" / "slurm_dev.sh"
CANNOT_BE_INSTALLED = 77
BATCHES = 40


@pytest.fixture(scope="module")
def slurm_folder(tmp_path_factory):
    """A Slurm on this machine, which the script installs if that is allowed."""
    daemon = shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if daemon is None and os.environ.get("BACKHAND_SLURM") != "1":
        pytest.skip("Slurm is not installed; BACKHAND_SLURM=1 has it installed")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True)
    if started.returncode == CANNOT_BE_INSTALLED:
        pytest.skip(started.stderr.strip())
    assert started.returncode == 0, started.stderr
    yield folder
    subprocess.run([SCRIPT, "stop", folder], check=True)


@pytest.fixture
def slurm(slurm_folder, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(slurm_folder / "slurm.conf"))
    return slurm_folder


@pytest.fixture
def sweep(slurm, start):
    """`sweep("seed=0,1")` submits the jobs; each one's folder is sweep/<number>."""
    return lambda *arguments: start(
        "train.py", "-m", "hydra/launcher=slurm", "hydra.sweep.dir=sweep", "logger=csv", "trainer=cpu", *arguments
    )


def finish(process):
    """Wait for the sweep, and return its output; a lost job would make it wait forever."""
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told


def answer(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def result(folder):
    return json.loads((folder / "result.json").read_text())


def epochs(folder):
    """The epochs in metrics.csv; empty before there is a file."""
    path = folder / "metrics.csv"
    return [int(row["epoch"]) for row in csv.DictReader(path.open())] if path.exists() else []


def test_starting_slurm_twice_is_the_same_as_once(slurm):
    again = subprocess.run([SCRIPT, "start", slurm], capture_output=True, text=True, check=True)
    assert again.stdout == f"export SLURM_CONF={slurm}/slurm.conf\n"
    assert "runs already" in again.stderr
    assert len(set(answer("srun", "--ntasks=2", "sh", "-c", "echo $SLURM_PROCID").split())) == 2


def test_every_job_of_a_sweep_finishes(sweep, tmp_path):
    own = "def mine(delta, W, slope, layer):\n    return (delta @ layer.fixed('B', like=W).mT) * slope\n"
    (tmp_path / "own.py").write_text(own)
    finish(sweep("model.gradient=hand,own.py:mine", "trainer.max_epochs=2"))
    results = [result(tmp_path / "sweep" / str(job)) for job in range(2)]
    assert Counter(each["status"] for each in results) == {"finished": 2}
    assert len({each["objective"]["value"] for each in results}) == 2


def test_a_job_of_two_tasks_trains_one_network(sweep, tmp_path):
    two = ("hydra.launcher.tasks_per_node=2", "trainer=ddp_cpu", "trainer.devices=2")
    finish(sweep(*two, "trainer.max_epochs=2"))
    folder = tmp_path / "sweep" / "0"
    assert result(folder)["status"] == "finished"
    assert epochs(folder) == [0, 1]
    assert "in 2 processes" in (folder / "train.log").read_text()


def test_a_preempted_job_is_requeued_and_resumed(sweep, tmp_path):
    process = sweep("trainer.max_epochs=150")
    folder = tmp_path / "sweep" / "0"
    until(lambda: len(epochs(folder)) >= 3)
    answer("srun", "--partition=urgent", "--ntasks=2", "true")  # takes both cores, and releases them
    before = epochs(folder)
    assert len(before) < 150
    finish(process)
    (log,) = (tmp_path / "sweep" / ".submitit").glob("*/*/*_0_log.out")
    assert log.read_text().count("Starting with JobEnvironment") == 2
    assert "starts from " in (folder / "train.log").read_text()
    assert result(folder)["status"] == "finished"
    assert result(folder)["epochs"] == 150
    assert result(folder)["steps"] == 150 * BATCHES
    assert epochs(folder) == list(range(150))


def test_a_preempted_batch_script_is_requeued_and_resumed(slurm, command, tmp_path):
    wine = ("data=wine", "data.batch_size=8", "logger=csv", "callbacks=quiet", "trainer=cpu", "trainer.max_epochs=100")
    whole = command("train.py", *wine, "hydra.run.dir=whole")
    assert whole.returncode == 0, whole.stderr
    block = (ROOT / "docs" / "reliability.md").read_text().partition("#!/bin/sh\n")[2].partition("```")[0]
    run = shlex.join([sys.executable, str(ROOT / "train.py"), *wine, "hydra.run.dir=run"])
    script = "#!/bin/sh\n" + block.replace("python train.py … hydra.run.dir=outputs/long", run)
    assert run in script
    (tmp_path / "job.sh").write_text(script)
    answer("sbatch", f"--chdir={tmp_path}", tmp_path / "job.sh")
    until(lambda: len(epochs(tmp_path / "run")) >= 3)
    answer("srun", "--partition=urgent", "--ntasks=2", "true")
    until(lambda: result(tmp_path / "run")["status"] == "finished")
    (log,) = tmp_path.glob("slurm-*.out")
    assert log.read_text().count("interrupted; to resume: python ") == 1
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_preempted_population_is_requeued_and_resumed(sweep, tmp_path):
    populations = tmp_path / "sweep" / "populations"
    process = sweep("seed=0,1,2", "optimizer.lr=0.03,0.1", "hydra.launcher.population=true", "trainer.max_epochs=150")
    until(lambda: any(populations.glob("*/last.ckpt")))
    answer("srun", "--partition=urgent", "--ntasks=2", "true")
    assert not any((tmp_path / "sweep").glob("*/result.json"))
    finish(process)
    (log,) = (tmp_path / "sweep" / ".submitit").glob("*/*/*_log.out")
    assert log.read_text().count("Starting with JobEnvironment") == 2
    results = [result(tmp_path / "sweep" / str(job)) for job in range(6)]
    assert Counter((each["status"], each["population"], each["epochs"]) for each in results) == {
        ("finished", 6, 150): 6
    }
    assert len({each["objective"]["value"] for each in results}) == 6
    assert all(epochs(tmp_path / "sweep" / str(job)) == list(range(150)) for job in range(6))
    assert not populations.exists()
