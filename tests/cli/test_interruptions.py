"""Runs that are interrupted at chosen moments, and resumed to the same bits as an uninterrupted run."""

import csv
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.cli.conftest import ROOT, processes_of, until
from tests.data.image_files import random_images, write_idx

pytestmark = pytest.mark.slow

KILLED = "tests/cli/killed.py"
WINE = ("data=wine", "data.batch_size=8", "logger=csv", "callbacks=quiet", "trainer=cpu", "trainer.max_epochs=6")
ADAM = ("optimizer=adam", "scheduler=cosine", "model.hidden=[16,8]", "checkpoint.every_n_steps=3")
PLATEAU = ("optimizer.momentum=0.9", "scheduler=plateau", "scheduler.patience=0", "checkpoint.every_n_steps=5")
# Lightning makes the loader early if a scheduler needs the number of steps.
ONE_CYCLE = (
    "scheduler=custom", "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR", "++scheduler.max_lr=0.1",
    "scheduler.interval=step", "checkpoint.every_n_steps=3",
)  # fmt: skip
IMAGES = (
    "data=mnist", "data.dir=.", "data.augment=crop", "data.batch_size=16", "logger=csv", "trainer=cpu",
    "trainer.max_epochs=4", "optimizer=adam", "checkpoint.every_n_steps=2",
)  # fmt: skip


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def result(folder):
    return json.loads((folder / "result.json").read_text())


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    """The contents of every file except the lock."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def assert_same(folder, whole):
    """Compare bit for bit: weights, the state of optimizer and scheduler, metrics, and result.json."""
    ours, theirs = weights(folder), weights(whole)
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    for mine, other in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        for parameter, state in other["state"].items():
            for name, value in state.items():
                assert torch.equal(torch.as_tensor(mine["state"][parameter][name]), torch.as_tensor(value)), name
    assert ours["lr_schedulers"] == theirs["lr_schedulers"]
    assert rows(folder) == rows(whole)
    for key in ("status", "objective", "metrics", "best", "steps", "epochs"):
        assert result(folder)[key] == result(whole)[key], key


@pytest.mark.parametrize(
    ("moment", "settings"),
    [
        (("start-up", 1, "SIGKILL"), WINE),
        pytest.param(("step", 39, "SIGKILL"), (*WINE, *ADAM), marks=pytest.mark.stress),
        pytest.param(("validation", 3, "SIGKILL"), (*WINE, *PLATEAU), marks=pytest.mark.smoke),
        (("checkpoint", 9, "SIGKILL"), IMAGES),
        pytest.param(("between two names", 4, "SIGKILL"), (*WINE, *ADAM), marks=pytest.mark.stress),
        (("result", 1, "SIGKILL"), (*WINE, "trainer.accumulate_grad_batches=3", "checkpoint.every_n_steps=1")),
        (("step", 39, "SIGTERM"), (*WINE, *ADAM)),
        (("step", 40, "SIGKILL"), (*WINE, *ONE_CYCLE)),
        (("step", 40, "SIGKILL"), (*WINE, "model.gradient=kolen_pollack", *ADAM)),
        (("step", 41, "SIGKILL"), (*WINE, f"model.gradient={ROOT}/examples/feedback_alignment.py:hidden_delta", *ADAM)),
        pytest.param(("step", 39, "SIGINT"), IMAGES, marks=pytest.mark.stress),
        pytest.param(("validation", 3, "SIGTERM"), (*WINE, *PLATEAU), marks=pytest.mark.stress),
        pytest.param(("checkpoint", 4, "SIGINT"), (*WINE, *ADAM), marks=pytest.mark.stress),
        pytest.param(("result", 1, "SIGTERM"), WINE, marks=pytest.mark.stress),
    ],
)
def test_a_run_ended_at_any_moment_is_resumed_to_the_same_bits(command, tmp_path, moment, settings):
    write_idx(tmp_path, random_images(300, (28, 28)), random_images(40, (28, 28), seed=1))
    whole = command("train.py", *settings, "hydra.run.dir=whole")
    assert whole.returncode == 0, whole.stderr
    sent = moment[-1]
    run = (*settings, "hydra.run.dir=run")
    ended = command(KILLED, str(ROOT / "train.py"), *map(str, moment), *run)
    if sent == "SIGKILL":
        assert ended.returncode == -signal.SIGKILL
        assert not (tmp_path / "run" / "result.json").exists()
    else:
        assert ended.returncode == 128 + signal.Signals[sent], ended.stderr
        assert result(tmp_path / "run")["status"] == "interrupted"
        assert ended.stderr.count("\n") == 1
        assert "interrupted; to resume: python " in ended.stderr
        assert ended.stderr.endswith(" hydra.run.dir=run ckpt_path=auto\n")
    rest = command("train.py", *run, "ckpt_path=auto")
    assert rest.returncode == 0, rest.stderr
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {
        "best.ckpt", "last.ckpt", "previous.ckpt",
    }  # fmt: skip
    assert not (tmp_path / "run" / ".lock").exists()
    again = command("train.py", *run, "ckpt_path=auto")
    assert (again.returncode, again.stdout) == (0, "complete already: run\n")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_run_interrupted_while_it_starts_says_how_to_resume(cold_start, command, tmp_path, sent):
    process = cold_start("train.py", *WINE, "hydra.run.dir=run")
    until(lambda: (tmp_path / "run" / ".hydra" / "overrides.yaml").exists(), process)
    time.sleep(0.3)  # in the middle of an import
    os.killpg(process.pid, sent)
    _, stderr = process.communicate(timeout=5)
    assert (process.returncode, stderr.count("\n")) == (128 + sent, 1), stderr
    assert stderr.endswith(" hydra.run.dir=run ckpt_path=auto\n")
    assert result(tmp_path / "run")["status"] == "interrupted"
    assert not (tmp_path / "run" / "checkpoints").exists()
    rest = command("train.py", *WINE, "hydra.run.dir=run", "ckpt_path=auto")
    assert rest.returncode == 0, rest.stderr
    assert result(tmp_path / "run")["epochs"] == 6


def test_a_run_that_started_from_a_checkpoint_is_not_resumed_without_it(command, tmp_path):
    assert command("train.py", *WINE, "hydra.run.dir=first").returncode == 0
    run = (*WINE, "trainer.max_epochs=8", "hydra.run.dir=second")
    last = "ckpt_path=first/checkpoints/last.ckpt"
    assert command(KILLED, str(ROOT / "train.py"), "start-up", "1", "SIGKILL", *run, last).returncode < 0
    before = contents(tmp_path / "second")
    refused = command("train.py", *run, "ckpt_path=auto")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert f"holds a run that started from {last}, and has no checkpoint of its own yet" in refused.stderr
    assert contents(tmp_path / "second") == before


def flip(path):
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x03\x04", len(data) // 3) - 100  # inside a tensor
    data[place] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path):
    path.write_bytes(b"")


def test_a_damaged_checkpoint_is_named_and_the_previous_one_is_used(command, tmp_path):
    assert command("train.py", *WINE, *ADAM, "hydra.run.dir=whole").returncode == 0
    killed = command(KILLED, str(ROOT / "train.py"), "step", "60", "SIGKILL", *WINE, *ADAM, "hydra.run.dir=killed")
    assert killed.returncode == -signal.SIGKILL
    for damage in (flip, cut, empty):
        run = tmp_path / damage.__name__
        shutil.copytree(tmp_path / "killed", run)
        damage(run / "checkpoints" / "last.ckpt")
        if damage is flip:
            assert command("scripts/evaluate.py", f"run={run}").returncode == 0  # the best one is intact
        rest = command("train.py", *WINE, *ADAM, f"hydra.run.dir={run.name}", "ckpt_path=auto")
        assert (rest.returncode, rest.stderr.count("\n")) == (0, 1), rest.stderr
        assert f"{run.name}/checkpoints/last.ckpt: is not a checkpoint, or is damaged" in rest.stderr
        assert "resumed from the previous checkpoint" in rest.stderr
        assert_same(run, tmp_path / "whole")


def test_if_all_checkpoints_are_damaged_no_file_is_changed(command, tmp_path):
    run = (*WINE, *ADAM, "hydra.run.dir=run")
    assert command(KILLED, str(ROOT / "train.py"), "step", "60", "SIGKILL", *run).returncode == -signal.SIGKILL
    folder = tmp_path / "run" / "checkpoints"
    for name in ("last.ckpt", "previous.ckpt"):
        flip(folder / name)
    before = contents(folder)
    refused = command("train.py", *run, "ckpt_path=auto")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "previous.ckpt: is not a checkpoint, or is damaged" in refused.stderr
    assert "no other checkpoint is intact; remove them to start again" in refused.stderr
    assert contents(folder) == before


def test_a_folder_that_cannot_be_resumed_is_refused(command, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    assert command(KILLED, str(ROOT / "train.py"), "step", "30", "SIGKILL", *WINE, "hydra.run.dir=run").returncode < 0
    before = contents(tmp_path)
    for arguments, says in (
        (("hydra.run.dir=run", "seed=1"), "another configuration's run (seed is 0 there, 1 here)"),
        (("hydra.run.dir=sweep",), "is a sweep's folder"),
    ):
        refused = command("train.py", *WINE, *arguments, "ckpt_path=auto")
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1), refused.stderr
        assert says in refused.stderr
        assert contents(tmp_path) == before


def test_a_run_is_not_resumed_with_a_changed_table(command, tmp_path):
    lines = [f"{i % 7},{i % 5},{'ab'[i % 2]}" for i in range(200)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,z", *lines]) + "\n")
    run = ("data=table", "data.path=t.csv", "data.target=z", *WINE[1:], "hydra.run.dir=run")
    assert command(KILLED, str(ROOT / "train.py"), "step", "50", "SIGKILL", *run).returncode == -signal.SIGKILL
    lines[0], lines[1] = lines[0].replace("a", "b"), lines[1].replace("b", "a")
    (tmp_path / "t.csv").write_text("\n".join(["x,y,z", *lines]) + "\n")
    refused = command("train.py", *run, "ckpt_path=auto")
    assert refused.returncode == 1
    assert "the data have changed since" in refused.stderr


def test_a_folder_belongs_to_one_run_at_a_time_and_the_message_names_the_first(start, command, tmp_path):
    endless = ("data=wine", "trainer.max_epochs=-1", "logger=csv", "hydra.run.dir=run")
    first = start("train.py", *endless)
    until((tmp_path / "run" / "checkpoints" / "last.ckpt").exists, first)
    for more in ((), ("ckpt_path=auto",)):
        second = command("train.py", *endless, *more)
        assert (second.returncode, second.stdout, second.stderr.count("\n")) == (1, "", 1), second.stderr
        assert f"hydra.run.dir=run: process {first.pid} on " in second.stderr
        assert "is writing to it" in second.stderr
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(60)
    assert (tmp_path / "run" / ".lock").exists()  # left by a dead process, and harmless
    third = command("train.py", "data=wine", "trainer.max_epochs=-1", "logger=csv", "hydra.run.dir=run")
    assert "holds a run already" in third.stderr


def test_of_two_simultaneous_runs_in_one_folder_one_trains(start, tmp_path):
    both = [start("train.py", "data=wine", "trainer.max_epochs=2", "hydra.run.dir=run") for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    refusal = next(text for text in said if text)
    assert "is writing to it" in refusal or "holds a run already" in refusal
    assert result(tmp_path / "run")["status"] == "finished"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_run_can_be_ended_in_the_middle_of_an_epoch(start, command, tmp_path, sent):
    slow = (
        "data=teacher",
        "data.samples=200000",
        "data.batch_size=8",
        "logger=csv",
        "trainer.max_epochs=1",
        "optimizer.lr=1e-4",
    )
    process = start("train.py", *slow, "logger=csv", "checkpoint.every_n_steps=500", "hydra.run.dir=run")
    until((tmp_path / "run" / "checkpoints" / "last.ckpt").exists, process)
    os.kill(process.pid, sent)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + sent, stderr
    checkpoint, record = weights(tmp_path / "run"), result(tmp_path / "run")
    assert record["status"] == "interrupted"
    assert checkpoint["epoch"] == 0
    assert checkpoint["global_step"] == record["steps"] > 500
    assert checkpoint["global_step"] % 500  # it did not wait for a step at which one is due


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to see the processes")
def test_two_processes_end_with_the_command_and_are_resumed_to_the_same_bits(start, command, tmp_path):
    run = (*WINE[:-2], "trainer=ddp_cpu", "trainer.max_epochs=12", *ADAM)
    whole = command("train.py", *run, "hydra.run.dir=whole")
    assert whole.returncode == 0, whole.stderr
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    for sent in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process = start("train.py", *run, "hydra.run.dir=run", "ckpt_path=auto")
        before = last.stat().st_mtime_ns if last.exists() else 0
        until(lambda before=before: last.exists() and last.stat().st_mtime_ns > before, process)
        shared = processes_of(process)
        assert len(shared) == 2
        os.killpg(process.pid, sent)
        _, stderr = process.communicate(timeout=60)
        until(lambda shared=shared: not any(is_running(pid) for pid in shared))
        if sent == signal.SIGKILL:
            assert process.returncode == -sent
            continue
        assert process.returncode == 128 + sent, stderr
        assert "interrupted; to resume: " in stderr
        assert "Traceback" not in stderr
        assert result(tmp_path / "run")["status"] == "interrupted"
    rest = command("train.py", *run, "hydra.run.dir=run", "ckpt_path=auto")
    assert rest.returncode == 0, rest.stderr
    assert_same(tmp_path / "run", tmp_path / "whole")
    # Each process has its part of the batches; the error analysis has the complete test split.
    findings = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert sum(map(sum, findings["confusion"])) == 27
