"""The runs that the real command writes, read with W&B's own reader."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import wandb
import yaml
from tests.cli.conftest import ROOT, until

from backhand.reporting.loggers import build_loggers

pytestmark = pytest.mark.slow


def inspected(*arguments):
    wandb = [sys.executable, "-m", "wandb", "leet", "inspect", *map(str, arguments)]
    return subprocess.run(wandb, capture_output=True, text=True, check=True).stdout


def wandb_file(folder):
    (file,) = folder.glob("wandb/*run-*/*.wandb")
    return file


def records(file):
    """The records of a run's file by type."""
    found = defaultdict(list)
    for line in inspected("--json", file).splitlines():
        record = json.loads(line)
        found[record["type"]].append(record[record["type"]])
    return found


def summary(folder):
    """The words that `--summary` prints, and the lines of the config and the summary by their first word."""
    lines = [line.split(None, 1) for line in inspected("--summary", wandb_file(folder)).splitlines() if line.strip()]
    return {line[0]: line[1] if len(line) > 1 else "" for line in lines}


def epochs(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def history(folder):
    return history_of(wandb_file(folder))


def history_of(file):
    """Each epoch's values by name, from all its records; the last value of a name counts."""
    found = defaultdict(dict)
    for each in records(file)["history"]:
        if "epoch" in each["item"]:
            found[each["item"]["epoch"]] |= each["item"]
    return found


def assert_history_is_the_table(folder):
    seen, rows = history(folder), epochs(folder)
    assert len(rows) > 1
    for row in rows:
        for name, value in row.items():
            if name != "step" and value:
                assert seen[int(row["epoch"])][name] == float(value), name


@pytest.mark.smoke
def test_a_run_is_in_its_file_to_the_last_value(command, tmp_path):
    settings = ("trainer.max_epochs=12", "name=first", "tags=[a,b]", "callbacks.audit.every=100")
    result = command("train.py", *settings, "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "run"
    assert f"upload: wandb sync {Path('run', 'wandb', 'offline-run-*')}" in result.stdout
    shown, ended = summary(folder), json.loads((folder / "result.json").read_text())
    assert shown["state"] == "finished (exit code 0)"
    for name in ("test/acc", "test/loss"):
        assert float(shown[name]) == pytest.approx(ended["metrics"][name], rel=1e-12)
    assert float(shown["best/val/loss"]) == ended["objective"]["value"]
    assert float(shown["best/val/acc"]) == max(float(row["val/acc"]) for row in epochs(folder))
    assert float(shown["val/acc"]) == ended["metrics"]["val/acc"]
    composed = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())
    assert float(shown["optimizer.lr"]) == composed["optimizer"]["lr"]
    assert shown["model.output_activation"] == "softmax"  # an interpolation, resolved
    assert not {"sizes", "init_scale", "trainer.max_time", "model.class_weight"} & shown.keys()  # null is omitted
    assert int(shown["parameters"]) == ended["parameters"]
    assert int(shown["audits"]) == ended["audit"]["times"]
    assert float(shown["worst_audit"]) == pytest.approx(ended["audit"]["worst"])

    assert_history_is_the_table(folder)
    seen = history(folder)
    for epoch in range(12):
        of_epoch = [name for name in seen[epoch] if name.startswith("histograms/") and name.endswith(".values")]
        assert len(of_epoch) == (5 if epoch % 10 == 0 else 0)
    assert sum(seen[0]["histograms/delta/output.values"]) == 256 * 10
    found = records(wandb_file(folder))
    (run,) = found["run"][:1]
    assert (run["display_name"], run["tags"], run["job_type"]) == ("first", ["a", "b"], "train")
    logged = {name.partition(".")[0] for each in found["history"] for name in each["item"]}
    assert {"worst_predictions", "confusion_matrix_table", "first_layer"} <= logged
    models = [each for each in found["artifact"] if each["type"] == "model"]
    assert len(models) == 1
    assert str(folder / "checkpoints" / "best.ckpt") in json.dumps(models)
    result = json.loads((folder / "result.json").read_text())
    tested = {name: value for name, value in result["metrics"].items() if name.startswith("test/")}
    best = {"epoch": min(epochs(folder), key=lambda row: float(row["val/loss"]))["epoch"]}
    assert json.loads(models[0]["metadata"]) == pytest.approx(result["best"] | tested | {"epoch": int(best["epoch"])})
    # All files to upload are in the run's folder.
    assert str(Path.home()) not in json.dumps(found["artifact"])
    table = next(folder.glob("wandb/offline-run-*/files/media/table/worst_predictions*"))
    worst = json.loads(table.read_text())["data"]
    assert len(worst) == 50
    wrong = sum(target != predicted for _, target, predicted, *_ in worst)
    assert int(shown["misclassified"]) == wrong == round((1 - ended["metrics"]["test/acc"]) * 270)
    assert all(target != predicted for _, target, predicted, *_ in worst[:wrong])
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert commit.strip() in json.dumps(found["environment"])


def test_the_repositorys_address_is_logged_without_a_users_name(tmp_path, monkeypatch, configured):
    remote = "https://hidden-token:x@host/team/project.git"
    monkeypatch.setattr("backhand.reporting.loggers.git", lambda what, *rest: remote if what == "remote" else "c0ffee")
    monkeypatch.setenv("WANDB_MODE", "offline")
    _, logger = build_loggers(configured("logger=wandb"), tmp_path)[0]
    run = logger.experiment
    run.finish()
    wandb.teardown()  # or the commands of other tests share its service
    assert (run.settings.git_remote_url, run.settings.git_commit) == ("https://host/team/project.git", "c0ffee")
    assert b"hidden-token" not in wandb_file(tmp_path).read_bytes()


def test_a_populations_runs_are_as_complete_as_single_ones(command, tmp_path):
    settings = ("data=wine", "trainer=cpu", "trainer.max_epochs=3", "model.hidden_activation=relu")
    single = command("train.py", *settings, "seed=1", "hydra.run.dir=single")
    swept = command("train.py", "-m", *settings, "seed=0,1", "logger.wandb.media=true", "hydra/launcher=population",
                    "hydra.sweep.dir=sweep")  # fmt: skip
    assert (single.returncode, swept.returncode) == (0, 0), swept.stderr
    assert f"upload: wandb sync {Path('sweep', '*', 'wandb', 'offline-run-*')}" in swept.stdout
    folder = tmp_path / "sweep" / "1"
    assert_history_is_the_table(folder)
    mine, theirs = summary(tmp_path / "single"), summary(folder)
    assert {name for name in mine if "/" in name} == {name for name in theirs if "/" in name}
    assert theirs["state"] == "finished (exit code 0)"
    for name in ("test/acc", "best/val/loss", "units/dead_hidden_0", "delta/hidden_0", "grad/layers.0.weight"):
        assert float(theirs[name]) == pytest.approx(float(mine[name]), rel=1e-4)
    ours, of_single = history(folder), history(tmp_path / "single")
    for name in ("histograms/z/hidden_0", "histograms/delta/output"):
        assert sum(ours[0][f"{name}.values"]) == sum(of_single[0][f"{name}.values"])
    groups = {records(wandb_file(tmp_path / "sweep" / job))["run"][0]["run_group"] for job in ("0", "1")}
    assert len(groups) == 1
    assert groups.pop().endswith("/sweep")


def test_a_failed_run_is_marked_as_failed(command, tmp_path):
    result = command("train.py", "trainer.max_epochs=2", "callbacks.audit.warn=1e-30", "callbacks.audit.stop=1e-30",
                     "optimizer.lr=0.1", "trainer.precision=64-true", "hydra.run.dir=run")  # fmt: skip
    assert result.returncode == 1
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"
    assert summary(tmp_path / "run")["state"] == "failed (exit code 1)"
    assert "Why it failed" in (tmp_path / "run" / "report.html").read_text()


def test_without_a_server_nothing_is_lost(command, tmp_path):
    key = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_MODE": "online"}
    result = command("train.py", "data=wine", "trainer.max_epochs=2", "hydra.run.dir=run", **key)
    assert result.returncode == 0
    assert result.stderr.count("\n") == 1
    assert "W&B cannot be reached" in result.stderr
    assert_history_is_the_table(tmp_path / "run")
    assert summary(tmp_path / "run")["state"] == "finished (exit code 0)"
    assert (tmp_path / "run" / "findings.json").exists()


def test_a_resumed_job_resumes_its_wandb_run(start, command, tmp_path):
    settings = ("train.py", "-m", "data=wine", "seed=0", "trainer.max_epochs=400", "hydra.sweep.dir=sweep")
    process = start(*settings)
    checkpoint = tmp_path / "sweep" / "0" / "checkpoints" / "last.ckpt"
    until(checkpoint.exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    folder = tmp_path / "sweep" / "0"
    (before,) = (file.stem.removeprefix("run-") for file in folder.glob("wandb/*run-*/*.wandb"))
    result = command(*settings)
    assert result.returncode == 0, result.stderr
    files = sorted(folder.glob("wandb/*run-*/*.wandb"), key=lambda file: file.stat().st_mtime)
    assert {file.stem.removeprefix("run-") for file in files} == {before}
    found = history_of(files[-1])
    assert [float(row["val/loss"]) for row in epochs(folder)] == [found[each]["val/loss"] for each in range(400)]


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("WANDB_MODE", "ofline", "WANDB_MODE=ofline: no such choice (did you mean offline?)"),
        ("WANDB_BASE_URL", "nonsense", "WANDB_BASE_URL=nonsense: must be a URL such as https://api.wandb.ai"),
        ("WANDB_BASE_URL", "http://host:port", "WANDB_BASE_URL=http://host:port: must be a URL"),
    ],
)
def test_an_environment_that_wandb_would_refuse_is_refused_before_a_folder_is_made(
    command, tmp_path, variable, value, reason
):
    result = command("train.py", "data=wine", "hydra.run.dir=run", **{variable: value})
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.stderr
    assert reason in result.stderr
    assert not (tmp_path / "run").exists()
