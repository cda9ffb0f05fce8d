"""The commands of the README."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.cli.conftest import ROOT, until
from tests.cli.test_bad_input import KEYS, OF_CHOICES

HEAVY = ("torch", "lightning", "sklearn", "matplotlib", "wandb", "torchmetrics", "numpy")


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_torch_and_lightning_are_imported_only_after_the_configuration_was_checked(arguments):
    code = f"""
import runpy, sys
sys.argv = {["train.py", *arguments]!r}
try:
    runpy.run_path({str(ROOT / "train.py")!r}, run_name="__main__")
except SystemExit:
    pass
print("HEAVY", sorted(set(sys.modules) & {set(HEAVY)!r}))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in result.stdout


def test_help_shows_the_groups_their_choices_every_key_with_its_meaning_and_five_commands(cold_command):
    text = cold_command("train.py", "--help").stdout
    words = " ".join(text.split())
    for group in sorted(path for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name != "hydra"):
        assert f"{group.name} {', '.join(sorted(path.stem for path in group.glob('*.yaml')))}" in words
    assert "hydra/launcher basic, joblib, population, slurm, submitit_local, submitit_slurm" in words
    assert "hydra/sweeper basic, grid, optuna" in words
    for key in KEYS | OF_CHOICES.keys():
        assert key.removeprefix("trainer.") in text or key in ("data.name", "optimizer.name", "scheduler.name")
    assert "optimizer.momentum=0.9 optimizer=sgd: momentum μ" in words
    assert text.count("\n  python train.py") == 5
    assert max(map(len, text.splitlines())) <= 120


def test_tab_completion_knows_the_choices(cold_command):
    result = cold_command("train.py", "-sc", "query=bash", COMP_LINE="python train.py data=d", COMP_POINT="22")
    assert set(result.stdout.split()) == {"data=diabetes", "data=digits"}


def test_the_version_is_that_of_this_package(command_here):
    result = command_here("train.py", "--version")
    assert (result.returncode, result.stdout) == (0, f"backhand {version('backhand')}\n")


def test_evaluate_help(cold_command):
    assert "run=FOLDER" in cold_command("scripts/evaluate.py", "--help").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["train.py", "--help"],
        ["scripts/gradcheck.py", "--help"],
        pytest.param(["scripts/derive.py"], marks=pytest.mark.slow),
        pytest.param(["scripts/gradcheck.py", "only=tanh,mse,reverse"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_a_command_prints_to_a_terminal_in_ascii(cold_command, arguments):
    result = cold_command(*arguments, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr.strip()) == (0, "")
    assert result.stdout.isascii()
    assert "?" not in result.stdout


@pytest.mark.slow
def test_a_run_prints_to_a_terminal_in_ascii_from_start_to_report(cold_command, tmp_path):
    run = ["train.py", "hydra.run.dir=run", "trainer.max_epochs=2", "logger=csv"]
    for arguments in (
        run,
        ["train.py", "trainer=ddp_cpu", "hydra.run.dir=two", *run[2:]],
        ["scripts/evaluate.py", "run=run"],
        ["scripts/report.py", "run"],
    ):
        result = cold_command(*arguments, PYTHONIOENCODING="ascii")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.isascii()


def run_folder(tmp_path):
    (config,) = tmp_path.glob("outputs/*/*/.hydra/config.yaml")
    return config.parents[1]


@pytest.mark.slow
def test_train_log_describes_a_single_run_and_a_job_of_a_sweep(command, tmp_path):
    shared = ["data=wine", "trainer.max_epochs=3", "logger=csv"]
    for arguments in (
        ["hydra.run.dir=single/0", *shared, "seed=1"],
        ["-m", "hydra.sweep.dir=sweep", *shared, "seed=1,2"],
        ["-m", "hydra.sweep.dir=population", "hydra/launcher=population", *shared, "seed=1,2"],
    ):
        assert command("train.py", *arguments).returncode == 0
    for folder, epochs in (("single", 3), ("sweep", 3), ("population", 0)):
        lines = (tmp_path / folder / "0" / "train.log").read_text().splitlines()
        assert all(" INFO backhand." in line for line in lines)
        assert "overrides: " in lines[0]
        assert "seed=1" in lines[0]
        assert sum(": epoch " in line for line in lines) == epochs
        assert sum(": data: wine, 124 train" in line for line in lines) == 1
        assert lines[-2].endswith("trainer.max_epochs reached")
        assert "test/acc" in lines[-1]


@pytest.mark.slow
def test_paths_are_relative_to_the_users_folder_if_hydra_changes_to_the_runs(command, tmp_path):
    (tmp_path / "t.csv").write_text("a,b,y\n" + "".join(f"{i},{i % 7},{i % 5}\n" for i in range(90)))
    table = ["data=table", "data.path=t.csv", "data.target=y"]
    shared = ["hydra.job.chdir=true", "callbacks=quiet", "logger=csv", "plots=false", "report=false"]
    for number, arguments in enumerate(
        [
            [*table, "trainer.max_epochs=1"],
            [*table, "trainer.max_epochs=2", "ckpt_path=run0/checkpoints/last.ckpt"],
            [*table, "trainer.max_epochs=1", "trainer=ddp_cpu"],
        ]
    ):
        result = command("train.py", *shared, *arguments, f"hydra.run.dir=run{number}")
        assert result.returncode == 0, result.stderr
        assert result.stdout.endswith(f"files: run{number}\n")
    swept = command("train.py", "-m", *shared, *table, "trainer.max_epochs=1", "seed=1,2", "hydra.sweep.dir=sweep")
    assert swept.returncode == 0, swept.stderr
    assert swept.stdout.endswith("files: sweep\n")
    refused = command("train.py", *shared, "data=mnist", "data.dir=t.csv", "hydra.run.dir=mnist")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "t.csv is a file" in refused.stderr
    assert not (tmp_path / "mnist").exists()


@pytest.mark.slow
@pytest.mark.smoke
def test_a_run_from_start_to_evaluation(cold_command, command, tmp_path):
    trained = cold_command("train.py", "data=wine", "trainer.max_epochs=2")
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""
    folder = run_folder(tmp_path)
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "wandb" not in path.parts}
    assert left == {
        ".hydra/config.yaml",
        ".hydra/hydra.yaml",
        ".hydra/overrides.yaml",
        "train.log",
        "metrics.csv",
        "findings.json",
        "result.json",
        "report.html",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/previous.ckpt",
        "plots/curves.png",
        "plots/confusion.png",
    }
    assert len(list(folder.glob("wandb/offline-run-*/*.wandb"))) == 1
    record = json.loads((folder / "result.json").read_text())
    assert record["status"] == "finished"
    assert f"files: {folder.relative_to(tmp_path)}" in trained.stdout

    evaluated = command("scripts/evaluate.py", f"run={folder}", "predict=predictions.csv")
    assert evaluated.returncode == 0, evaluated.stderr
    assert f"{record['metrics']['test/acc']:.2%}" in evaluated.stdout
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert evaluated.stdout.endswith(f"\npredictions: predictions.csv ({len(rows)} rows)\n")
    right = sum(row["target"] == row["prediction"] for row in rows) / len(rows)
    assert right == pytest.approx(record["metrics"]["test/acc"])
    assert all(sum(float(row[f"probability_class_{k}"]) for k in range(3)) == pytest.approx(1) for row in rows)

    again = command("scripts/evaluate.py", f"run={folder}", "predict=predictions.csv")
    assert again.returncode == 1
    assert "nothing is overwritten" in again.stderr
    unwritable = command("scripts/evaluate.py", f"run={folder}", "predict=/proc/x.csv")
    assert (unwritable.returncode, unwritable.stderr.count("\n")) == (1, 1), unwritable.stderr
    assert "predict=/proc/x.csv: cannot be written (" in unwritable.stderr

    best = folder / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:-3000])
    refused = command("scripts/evaluate.py", f"run={folder}")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "damaged" in refused.stderr


@pytest.mark.slow
def test_a_sweep_gives_every_job_a_folder_and_draws_one_plot(command, tmp_path):
    result = command("train.py", "-m", "debug=fast", "seed=0,1", "hydra.sweep.dir=sweep")
    assert result.returncode == 0, result.stderr
    records = [json.loads((tmp_path / "sweep" / job / "result.json").read_text()) for job in ("0", "1")]
    assert [record["status"] for record in records] == ["finished", "finished"]
    assert records[0]["config_hash"] != records[1]["config_hash"]
    assert list(tmp_path.rglob("*.png")) == [tmp_path / "sweep" / "sweep.png"]


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["tensorboard", "none"])
def test_the_other_loggers_work(command, tmp_path, logger):
    result = command("train.py", "debug=fast", f"logger={logger}", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    assert bool(list(tmp_path.rglob("events.out.tfevents.*"))) == (logger == "tensorboard")
    assert (tmp_path / "run" / "metrics.csv").exists()


def test_the_commands_work_from_any_folder(cold_command, tmp_path):
    assert os.path.commonpath([ROOT, tmp_path]) != str(ROOT)
    assert "name: digits" in cold_command("train.py", "--cfg", "job").stdout


@pytest.mark.slow
def test_gradcheck_verifies_the_named_targets(command, tmp_path):
    result = command("scripts/gradcheck.py", "only=hardtanh,l1,reverse", "processes=1")
    assert result.returncode == 0, result.stderr
    assert "all pass" in " ".join(result.stdout.split())
    assert json.loads((tmp_path / "gradcheck.json").read_text())["passes"]
    assert (tmp_path / "gradcheck.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to see when the processes are there")
@pytest.mark.parametrize("delay", [0.0, 0.5, 4.0])
def test_ctrl_c_ends_gradcheck_and_its_processes(cold_start, tmp_path, delay):
    process = cold_start("scripts/gradcheck.py")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: len(children.read_text().split()) >= 2, process)
    time.sleep(delay)  # the processes start, import, or compute
    started = children.read_text().split()
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.strip() == ""
    until(lambda: not [pid for pid in started if Path("/proc", pid).exists()])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("form", ["terminal", "latex", "markdown", "html"])
def test_derive_prints_and_writes_the_same_text(command, tmp_path, form):
    arguments = (f"format={form}", "model.hidden=[4]", "model.loss=mse", "model.output_activation=sigmoid")
    printed = command("scripts/derive.py", *arguments)
    assert printed.returncode == 0, printed.stderr
    assert command("scripts/derive.py", *arguments, "output=derivation.txt").stdout == "written to derivation.txt\n"
    if form != "terminal":
        assert (tmp_path / "derivation.txt").read_text() == printed.stdout
    refused = command("scripts/derive.py", *arguments, "output=derivation.txt")
    assert refused.returncode == 1
    assert refused.stderr.endswith("exists already, and nothing is overwritten\n")
    unwritable = command("scripts/derive.py", *arguments, "output=/proc/x.txt")
    assert (unwritable.returncode, unwritable.stderr.count("\n")) == (1, 1), unwritable.stderr
    assert "output=/proc/x.txt: cannot be written (" in unwritable.stderr


@pytest.mark.slow
def test_a_default_run_is_audited_and_says_so(command):
    result = command("train.py", "logger=csv", "plots=false")
    assert result.returncode == 0, result.stderr
    assert "gradients audited: 12 times, worst relative error " in result.stdout
