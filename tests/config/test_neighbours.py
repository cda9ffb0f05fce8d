"""Another Hydra application in the same environment is as it would be without this package."""

import subprocess
import sys

import pytest

APPLICATION = """
from dataclasses import dataclass
import hydra
from hydra.core.config_store import ConfigStore

@dataclass
class Mine:
    colour: str = "green"

ConfigStore.instance().store(name="schema", node=Mine)
before = dict(ConfigStore.instance().repo)

@hydra.main(version_base="1.3", config_path=None, config_name="schema")
def main(cfg):
    print(cfg.colour, list(cfg))
    theirs = {name for name in ConfigStore.instance().repo} - set(before)
    print(sorted(name for name in theirs if "backhand" in name))
    print("slurm.yaml" in ConfigStore.instance().repo["hydra"]["launcher"])

main()
"""


@pytest.fixture
def other(tmp_path):
    (tmp_path / "app.py").write_text(APPLICATION)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "app.py", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    return run


def test_another_application_composes_its_own_schema(other):
    assert other("colour=blue") == "blue ['colour']\n[]\nFalse\n"


def test_its_help_does_not_name_this_package(other):
    assert "backhand" not in other("--help")
