"""Data of the user's own with the real commands: the examples of docs/data.md, workers, two processes."""

import contextlib
import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest
import torch
from tests.cli.conftest import ROOT, until

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "extending.md"
MODULES = {"MyData": "my_data", "MyDataset": "my_dataset"}
QUIET = ("logger=csv", "plots=false", "report=false", "trainer=cpu", "callbacks.progress_bar=false")
# With this, the run mostly waits for its workers.
SLOW = """
import time


class Slow(TensorDataset):
    def __getitem__(self, index):
        time.sleep(0.003)
        return super().__getitem__(index)
"""

BREAKS = """


class Breaks(TensorDataset):
    def __getitem__(self, index):
        return {}[index]
"""


def examples():
    """For each class on a command line of docs/data.md: its code, and the command's settings."""
    text = PAGE.read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    codes = {found[1]: code for code in blocks if (found := re.search(r"class (\w+)\(", code))}
    commands = re.findall(r"^python train\.py (.*_target_=my_data(?:set)?\.(\w+).*)$", text, re.M)
    return {name: (codes[name], shlex.split(settings)) for settings, name in commands}


def result(folder):
    return json.loads((folder / "result.json").read_text())


def written(folder, name="MyData"):
    code, settings = examples()[name]
    (folder / f"{MODULES[name]}.py").write_text(code)
    return settings


@pytest.mark.parametrize("name", ["MyData", "MyDataset"])
def test_the_examples_train_and_are_evaluated(command, tmp_path, name):
    (tmp_path / "mine.py").write_text("from lightning import Callback\n\nclass Mine(Callback): pass\n")
    settings = (*written(tmp_path, name), "callbacks.mine._target_=mine.Mine")  # only for training: needs no permission
    trained = command("train.py", *settings, *QUIET, "trainer.max_epochs=3", "hydra.run.dir=run")
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""
    found = result(tmp_path / "run")
    assert found["metrics"]["test/acc"] > 0.9
    assert found["audit"]["worst"] < 1e-4
    permission = f"allow_targets=[{MODULES[name]}.{name}]"
    evaluated = command("scripts/evaluate.py", "run=run", permission, "predict=predictions.csv")
    assert evaluated.returncode == 0, evaluated.stderr
    assert f"{100 * found['metrics']['test/acc']:.2f}" in evaluated.stdout
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 270 - (name == "MyData")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to see the processes")
def test_ctrl_c_leaves_a_checkpoint_although_the_workers_receive_it_too(start, tmp_path):
    settings = (*written(tmp_path), *QUIET, "callbacks=quiet", "trainer.max_epochs=500", "hydra.run.dir=run")
    settings += ("checkpoint.every_n_steps=10",)  # also in the first epoch, whose workers start before the run
    code = (tmp_path / "my_data.py").read_text().replace("whole = TensorDataset", "whole = Slow")
    (tmp_path / "my_data.py").write_text(code.replace("\n\nclass", SLOW + "\n\nclass", 1))
    run = start("train.py", *settings)
    until((tmp_path / "run" / "checkpoints" / "last.ckpt").exists, run)
    os.killpg(run.pid, signal.SIGINT)
    stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 130, stderr
    assert "Traceback" not in stdout + stderr
    assert result(tmp_path / "run")["status"] == "interrupted"
    steps = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert steps == result(tmp_path / "run")["steps"]
    until(lambda: not processes_in(run.pid), seconds=10)


def processes_in(group):
    """The running processes of a process group."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            found += [each] if os.getpgid(int(each.name)) == group else []
    return found


def test_two_processes_have_a_part_of_the_samples_each(command, tmp_path):
    settings = (*written(tmp_path), *QUIET, "trainer=ddp_cpu", "trainer.devices=2", "data.batch_size=16")
    trained = command("train.py", *settings, "trainer.max_epochs=3", "hydra.run.dir=run", "data.num_workers=0")
    assert trained.returncode == 0, trained.stderr
    found = result(tmp_path / "run")
    assert found["steps"] == 3 * 40  # 1258 samples, 629 for each process, 16 of them a step
    assert found["metrics"]["test/acc"] > 0.9
    assert found["audit"]["worst"] < 1e-4


def test_an_exception_in_a_worker_is_one_line(command, tmp_path):
    settings = (*written(tmp_path), *QUIET, "hydra.run.dir=run", "data.num_workers=1")
    code = (tmp_path / "my_data.py").read_text().replace("whole = TensorDataset", "whole = Breaks")
    (tmp_path / "my_data.py").write_text(code.replace("\n\nclass", BREAKS + "\n\nclass", 1))
    broken = command("train.py", *settings)
    assert (broken.returncode, broken.stderr.count("\n")) == (1, 1), broken.stderr
    assert re.search(r"train.py: the run failed: KeyError: \d+ \(my_data.py, line \d+, in __getitem__\)", broken.stderr)
    assert "Traceback" in (tmp_path / "run" / "train.log").read_text()


def test_the_jobs_of_joblib_have_workers(command, tmp_path):
    settings = (*written(tmp_path), *QUIET, "trainer.max_epochs=1", "data.num_workers=1", "hydra.sweep.dir=sweep")
    swept = command("train.py", "-m", "hydra/launcher=joblib", "seed=0,1", *settings)
    assert swept.returncode == 0, swept.stderr
    assert [result(tmp_path / "sweep" / job)["status"] for job in "01"] == ["finished", "finished"]
