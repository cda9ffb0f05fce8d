"""Populations trained in this process, and the same runs trained one by one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from backhand.data.module import load
from backhand.sweeps.jobs import Job
from backhand.sweeps.launcher import finish, train_population
from backhand.sweeps.population import Population
from backhand.training.train import Run, quiet_lightning

QUIET = ("logger=csv", "trainer=cpu", "callbacks.progress_bar=false")


@pytest.fixture
def jobs(configured: Callable, tmp_path: Path) -> Callable[..., list[Job]]:
    """The jobs of a sweep: one list of overrides per job, and the overrides that they share."""

    def make(each: Sequence[Sequence[str]], *shared: str) -> list[Job]:
        sweep = tmp_path / f"sweep{len(list(tmp_path.iterdir()))}"
        sweep.mkdir()
        made = []
        for number, overrides in enumerate(each):
            config = configured(*QUIET, *shared, *overrides)
            cfg = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}})
            made.append(Job(number, tuple(overrides), lambda cfg=cfg: cfg, config, sweep / str(number)))
        return made

    return make


@pytest.fixture
def as_population(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Job]], Population]:
    """Train jobs as one population, and write each job's files into its folder."""
    monkeypatch.setattr("backhand.sweeps.launcher.in_sweep", lambda config, sweep: config)

    def train(jobs: list[Job]) -> Population:
        quiet_lightning()
        config = jobs[0].config
        dataset = load(config.data, config.model.hidden_activation, config.model.output_activation)
        population = train_population(jobs, dataset, lambda text: None)
        for run, job in enumerate(jobs):
            job.folder.mkdir(exist_ok=True)
            finish(population, run, None)
        return population

    return train


@pytest.fixture
def as_single_runs() -> Callable[[list[Job]], list[Path]]:
    """Train each job as a single run; returns their folders."""

    def train(jobs: list[Job]) -> list[Path]:
        folders = []
        quiet_lightning()
        for job in jobs:
            folder = job.folder.parent / f"single{job.number}"
            folder.mkdir()
            Run(job.config, folder).train(standalone=False)
            folders.append(folder)
        return folders

    return train
