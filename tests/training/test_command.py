"""The command's Hydra callbacks, and the messages that tell the user what to do next."""

import shlex
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.utils import instantiate
from omegaconf import OmegaConf

from backhand.config import CONF
from backhand.config.command import check_command_line
from backhand.errors import UserError
from backhand.training.interruption import resume_command


def test_hydra_keeps_no_configuration_of_a_finished_job():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", return_hydra_config=True)
    done = JobReturn(["seed=1"], config, config, ".", "train", JobStatus.COMPLETED, 0.5)
    instantiate(config.hydra.callbacks.drop_configuration).on_job_end(config=config, job_return=done)
    assert done == JobReturn(["seed=1"], None, None, ".", "train", JobStatus.COMPLETED, 0.5)


@pytest.mark.parametrize(
    "name",
    [
        "run",
        "a b",
        "it's",
        'q"x',
        "lr=0.1,m=2",
        "ü/ß",
        "back\\slash",
        "tail\\",
        "a$HOME",
        "{x}",
        "[1]",
        "~x",
        "100%",
        "\\'",
        "1.50",
        "1e3",
        "1_000",
        "null",
        "True",
        ".5",
        "${x}",
        "\\${oc.env:HOME}",
    ],
)
def test_the_resume_command_survives_the_shell_and_hydra(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    given = ["model.hidden=[4]", "name='a b'", f"hydra.run.dir={name}", "ckpt_path=old.ckpt"]
    monkeypatch.setattr(sys, "argv", ["train.py", *given])
    python, *said = shlex.split(resume_command(tmp_path / name))
    assert (python, said[:3], said[4:]) == ("python", ["train.py", *given[:2]], ["ckpt_path=auto"])
    override = OverridesParser.create().parse_override(said[3])
    assert override.key_or_group == "hydra.run.dir"
    assert OmegaConf.create({"dir": override.value()}).dir == name


@pytest.mark.parametrize("arguments", [["data", "=", "wine"], ["data=", "wine"], ["seed=1", "data", "=wine"]])
def test_spaces_around_the_equals_sign_are_reported(arguments):
    with pytest.raises(UserError, match=r"^data ?= ?(wine)?: no spaces around = are allowed; write data=wine$"):
        check_command_line(arguments)


def test_other_arguments_are_not_reported_as_spaces():
    check_command_line(["--cfg", "job", "-m", "name=", "data=wine", "hydra.run.dir=", "~debug"])


@pytest.mark.parametrize("flag", ["-m", "--multirun", "--cfg=job", "--info=all", "--help", "hydra.mode=MULTIRUN"])
def test_a_search_is_for_sweeps_and_can_be_printed(flag):
    check_command_line([flag, "search=optuna", "hydra/launcher=population", "hydra.sweeper.n_trials=3"])
