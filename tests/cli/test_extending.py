"""docs/extending.md: each row of its table is run, with the files that it shows."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.cli.conftest import ROOT
from tests.suites import smoke

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "extending.md").read_text()
ROWS = dict(re.findall(r"^\| ([^|]+) \| `python ([^`]+)` \|$", PAGE, re.MULTILINE))
SHORT = ["trainer.max_epochs=2", "trainer=cpu", "report=false", "hydra.run.dir=run"]


@pytest.fixture
def files(tmp_path: Path) -> None:
    """The files that docs/extending.md shows, at the paths that it names."""
    for text in re.findall(r"^```(?:python|yaml)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        if name := re.match(r"# (my_\S+)\n", text):
            path = tmp_path / name[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


@pytest.mark.parametrize("row", smoke(ROWS, "a callback of yours"))
def test_each_row_of_the_table_runs(command, files, tmp_path, row):
    script, *arguments = ROWS[row].split(" ")
    if script != "train.py":
        result = command(script, *arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "all pass" in " ".join(result.stdout.split())
        return
    own = [] if any(each.startswith("logger=") for each in arguments) else ["logger=csv"]
    result = command(script, *arguments, *own, *SHORT)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["status"] == "finished"
    assert record["audit"]["worst"] < 1e-4
    AFTER.get(row, lambda folder, stdout: None)(tmp_path / "run", result.stdout)


def optimizer_of(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]


def check_rmsprop(folder: Path, stdout: str) -> None:
    state = optimizer_of(folder)
    assert state["param_groups"][0]["alpha"] == 0.9
    assert "square_avg" in state["state"][0]


def check_one_cycle(folder: Path, stdout: str) -> None:
    """The whole cycle fits the run: the rate rises from a 25th of the maximum, and ends near 0."""
    rates = pd.read_csv(folder / "metrics.csv")["lr"]
    assert rates.iloc[-1] < 0.01 / 25
    assert "mu_product" in optimizer_of(folder)["state"][0]


def check_average(folder: Path, stdout: str) -> None:
    """The averaged weights differ from those of the last epoch."""
    best, last = (
        torch.load(folder / "checkpoints" / name, weights_only=True)["state_dict"]
        for name in ("best.ckpt", "last.ckpt")
    )
    assert any(not torch.equal(best[name], last[name]) for name in best)


def check_steps(folder: Path, stdout: str) -> None:
    assert "10 steps\n20 steps\n" in stdout


def check_logger(folder: Path, stdout: str) -> None:
    (table,) = folder.rglob("mine/version_0/metrics.csv")
    assert "val/loss" in pd.read_csv(table).columns
    assert "lr: 0.1" in table.with_name("hparams.yaml").read_text()


def check_choice_of_a_folder(folder: Path, stdout: str) -> None:
    group = optimizer_of(folder)["param_groups"][0]
    assert (group["lr"], group["alpha"]) == (0.01, 0.9)


AFTER = {
    "another optimizer of torch's": check_rmsprop,
    "another optimizer and another schedule": check_one_cycle,
    "a callback of Lightning's": check_average,
    "a callback of yours": check_steps,
    "another logger": check_logger,
    "choices of your own, from a folder of yours": check_choice_of_a_folder,
}


def test_each_check_belongs_to_a_row_of_the_table():
    assert set(AFTER) <= set(ROWS)


def test_a_wrong_derivative_of_an_own_activation_is_found(command, files, tmp_path):
    text = (tmp_path / "my_functions.py").read_text()
    (tmp_path / "my_functions.py").write_text(text.replace(".tanh() /", ".tanh() * 2 /"))
    result = command("scripts/gradcheck.py", "imports=[my_functions.py]", "only=log_cosh,reverse,tanh", "processes=1")
    assert result.returncode == 1
    assert "FAIL" in result.stdout


def test_an_optimizer_with_a_schema_is_one_dataclass_and_one_file(cold_command, tmp_path):
    """Add the code of docs/extending.md to a copy of the source."""
    copy = tmp_path / "copy"
    for name in ("conf", "src"):
        shutil.copytree(ROOT / name, copy / name)
    shutil.copy(ROOT / "train.py", copy)
    blocks = re.findall(r"^```(?:python|yaml)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (dataclass,) = (text for text in blocks if text.startswith("@dataclass"))
    (file,) = (text for text in blocks if text.startswith("defaults:\n  - /backhand"))
    schema = copy / "src/backhand/config/schema.py"
    text = schema.read_text()
    text = text.replace(
        "@dataclass\nclass CustomOptimizerConfig", f"{dataclass}\n\n@dataclass\nclass CustomOptimizerConfig"
    )
    text = text.replace('"adamw": AdamWConfig,', '"adamw": AdamWConfig, "rmsprop": RMSpropConfig,')
    schema.write_text(text)
    (copy / "conf/optimizer/rmsprop.yaml").write_text(file)
    environment = {"PYTHONPATH": str(copy / "src")}
    run = ["optimizer=rmsprop", "optimizer.alpha=0.5", "logger=csv", *SHORT]
    result = cold_command(str(copy / "train.py"), *run, **environment)
    assert result.returncode == 0, result.stderr
    assert optimizer_of(tmp_path / "run")["param_groups"][0]["alpha"] == 0.5
    refused = cold_command(str(copy / "train.py"), "optimizer=rmsprop", "optimizer.alpha=1", **environment)
    assert refused.stderr == "train.py: optimizer.alpha=1.0: must be below 1\n"
    shown = cold_command(str(copy / "train.py"), "--help", **environment)
    assert "optimizer.alpha=0.99" in shown.stdout
