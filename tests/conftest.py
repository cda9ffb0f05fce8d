"""Fixtures for several folders of tests."""

import gc
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from backhand.config import CONF
from backhand.config.schema import TrainConfig
from backhand.config.validation import parse_config
from backhand.data.module import InMemoryData, load

# The tests run in one process per core. Variables of a shell, a cluster or a CI system could change what a command
# prints, make it join another run, or let it use W&B's server with a user's login.
torch.set_num_threads(1)
FOREIGN = re.compile(
    r"(SLURM|TORCHELASTIC|WANDB)_\w+|(LOCAL_|NODE_|GROUP_)?RANK|WORLD_SIZE|MASTER_(ADDR|PORT)|FORCE_COLOR|HYDRA_FULL_ERROR"
)
for variable in [name for name in os.environ if FOREIGN.fullmatch(name)]:
    del os.environ[variable]
os.environ |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For `-n auto`: one worker per core, and 50 % more with slow tests, because some of them wait."""
    cores = os.cpu_count() or 1
    return cores if "not slow" in config.option.markexpr else cores + (cores + 1) // 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests first, so that none is the last one of a worker."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Exclude imported modules and collected tests from garbage collection."""
    gc.freeze()


def pytest_unconfigure() -> None:
    """Undo `gc.freeze`: some libraries warn of objects that are never freed."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def configured() -> Iterator[Callable[..., TrainConfig]]:
    """Compose the configuration of `python train.py` with the given overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides: parse_config(compose("train", list(overrides)))


@pytest.fixture
def trained(configured: Callable[..., TrainConfig], tmp_path: Path) -> Callable[..., Path]:
    """Train in this process with the given overrides, without output; returns the run's folder."""
    from backhand.training.train import Run

    def run(*overrides: str) -> Path:
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        Run(configured("callbacks=quiet", "logger=none", "trainer=cpu", *overrides), folder).train(standalone=False)
        return folder

    return run


@pytest.fixture
def loaded(configured: Callable[..., TrainConfig]) -> Callable[..., InMemoryData]:
    """Load the data of `python train.py` with the given overrides."""
    from backhand.training.parts import build_data

    def load_configured(*overrides: str) -> InMemoryData:
        config = configured(*overrides)
        return build_data(config, load(config.data, config.model.hidden_activation, config.model.output_activation))

    return load_configured
