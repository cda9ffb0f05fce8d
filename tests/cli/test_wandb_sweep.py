"""conf/wandb_sweep.yaml, read and started by W&B's own code."""

import json
import os
import queue
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import yaml
from tests.cli.conftest import ROOT

pytestmark = pytest.mark.slow

FILE = ROOT / "conf" / "wandb_sweep.yaml"


@pytest.fixture
def sweep():
    from wandb.sdk.launch.sweeps.utils import load_sweep_config  # takes two seconds

    return load_sweep_config(str(FILE))


def search_space(sweep):
    from wandb.sdk.sweeps.scheduler.optuna import search_space_from_sweep_config

    return search_space_from_sweep_config(sweep["parameters"])


def sample(sweep, seed):
    """A configuration that W&B samples from the search space."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return study.ask(search_space(sweep)).params


def records(folder):
    (file,) = folder.rglob("*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_the_sweep_searches_the_learning_rate_on_a_log_scale_and_minimises_the_validation_loss(sweep):
    space = search_space(sweep)
    assert set(space) == {"optimizer.lr", "optimizer.momentum", "model.init_scale", "model.hidden"}
    assert space["optimizer.lr"].log
    assert (sweep["method"], sweep["metric"]) == ("bayes", {"name": "val/loss", "goal": "minimize"})
    assert sweep["early_terminate"]["type"] == "hyperband"


@pytest.mark.parametrize("seed", range(8))
def test_every_sample_is_a_valid_configuration(sweep, configured, seed):
    params = sample(sweep, seed)
    config = configured(*(f"{key}={value}" for key, value in params.items()))
    assert config.model.hidden == yaml.safe_load(params["model.hidden"])
    assert config.optimizer.lr == pytest.approx(params["optimizer.lr"])


def test_a_run_of_the_agent_trains_with_its_settings_as_a_run_of_the_sweep(sweep, tmp_path, monkeypatch):
    from wandb.wandb_agent import Agent

    params = sample(sweep, seed=0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # the agent sets them, and does not unset them
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    agent = Agent(api=None, queue=queue.Queue(), sweep_id="sweep123")
    agent._sweep_command = [*sweep["command"], "trainer.max_epochs=1"]
    agent._command_run(
        {
            "program": str(ROOT / sweep["program"]),
            "run_id": "run45678",
            "args": {key: {"value": value} for key, value in params.items()},
        }
    )
    process = agent._run_processes["run45678"]
    assert process.wait(timeout=120) == 0

    folder = tmp_path / "outputs" / "wandb" / "sweep123" / "run45678"
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"
    logged = records(folder)
    (run,) = [record["run"] for record in logged if record["type"] == "run"]
    assert (run["run_id"], run["sweep_id"], run["project"]) == ("run45678", "sweep123", "theirs")
    config = run["config"]["update"]
    assert config["optimizer"]["lr"] == pytest.approx(params["optimizer.lr"])
    assert config["optimizer"]["momentum"] == pytest.approx(params["optimizer.momentum"])
    assert config["model"]["init_scale"] == pytest.approx(params["model.init_scale"])
    assert config["model"]["hidden"] == yaml.safe_load(params["model.hidden"])
    assert any("val/loss" in record["history"]["item"] for record in logged if record["type"] == "history")
