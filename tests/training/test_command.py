"""What the command has Hydra do around a job, and what it tells the user to do next."""

import shlex
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal import hydra as hydra_internal
from hydra._internal.callbacks import Callbacks
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from backhand.config import CONF, command
from backhand.config.untrusted import permission
from backhand.errors import UserError
from backhand.training.interruption import command_to_go_on


def test_hydra_keeps_no_configuration_of_a_job_that_is_done():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", return_hydra_config=True)
    done = JobReturn(["seed=1"], config, config, ".", "train", JobStatus.COMPLETED, 0.5)
    Callbacks(config).on_job_end(config=config, job_return=done)
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
def test_the_command_to_go_on_survives_the_shell_and_hydra(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    given = ["model.hidden=[4]", "name='a b'", f"hydra.run.dir={name}", "ckpt_path=old.ckpt"]
    monkeypatch.setattr("backhand.training.interruption.command_line", given)
    python, *said = shlex.split(command_to_go_on(tmp_path / name))
    assert (python, said[:3], said[4:]) == ("python", ["train.py", *given[:2]], ["ckpt_path=auto"])
    override = OverridesParser.create().parse_override(said[3])
    assert override.key_or_group == "hydra.run.dir"
    assert OmegaConf.create({"dir": override.value()}).dir == name


def test_the_command_to_go_on_permits_what_the_first_one_did(monkeypatch, tmp_path):
    monkeypatch.setattr(hydra_internal, "ConfigLoaderImpl", hydra_internal.ConfigLoaderImpl)
    monkeypatch.setattr(sys, "argv", ["train.py", "allow_targets=[a.B]", "seed=1"])
    command._check_what_is_composed()
    assert sys.argv == ["train.py", "seed=1"]  # Hydra knows no such key
    said = shlex.split(command_to_go_on(tmp_path))
    assert said[2:4] == ["allow_targets=[a.B]", "seed=1"]
    assert said[4].startswith("hydra.run.dir=")


def test_permission_is_given_by_a_list_of_names():
    assert permission(["allow_targets=[a.B, c.d]"]).targets == {"a.B", "c.d"}
    assert permission(["allow_targets=a.B"]).targets == {"a.B"}
    for wrong in ("allow_targets=[a.B", "allow_targets=a.B]", "allow_targets=[a b]"):
        with pytest.raises(UserError, match="must be a list of names"):
            permission([wrong])
