"""Fixtures that several folders of tests share."""

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
from backhand.config.validation import typed
from backhand.data.module import InMemoryData, load

# The suite runs on all cores already, and nothing here may reach W&B's servers or a user's login. What a shell, a
# cluster or a CI system has set would change what a command prints, or make it take part in somebody's run.
torch.set_num_threads(1)
FOREIGN = re.compile(
    r"(SLURM|TORCHELASTIC|WANDB)_\w+|(LOCAL_|NODE_|GROUP_)?RANK|WORLD_SIZE|MASTER_(ADDR|PORT)|FORCE_COLOR|HYDRA_FULL_ERROR"
)
for variable in [name for name in os.environ if FOREIGN.fullmatch(name)]:
    del os.environ[variable]
os.environ |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For `-n auto`: a worker a core, and half as many again where slow tests run, some of which wait."""
    cores = os.cpu_count() or 1
    return cores if "not slow" in config.option.markexpr else cores + (cores + 1) // 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that no worker is left with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """What has been imported and collected by now stays: the garbage collector need not look at it again."""
    gc.freeze()


def pytest_unconfigure() -> None:
    """Libraries that count what they have made complain of what is left."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def configured() -> Iterator[Callable[..., TrainConfig]]:
    """The configuration that `python train.py` would have with the given overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides: typed(compose("train", list(overrides)))


@pytest.fixture
def trained(configured: Callable[..., TrainConfig], tmp_path: Path) -> Callable[..., Path]:
    """Train in this process with the given overrides, quietly; returns the run's folder."""
    from backhand.training.train import Run

    def run(*overrides: str) -> Path:
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        Run(configured("callbacks=quiet", "logger=none", "trainer=cpu", *overrides), folder).train(alone=False)
        return folder

    return run


@pytest.fixture
def loaded(configured: Callable[..., TrainConfig]) -> Callable[..., InMemoryData]:
    """The data that `python train.py` would train on with the given overrides."""
    from backhand.training.parts import build_data

    def load_configured(*overrides: str) -> InMemoryData:
        config = configured(*overrides)
        return build_data(config, load(config.data, config.model.hidden_activation, config.model.output_activation))

    return load_configured
