"""The launchers and the sweepers as Hydra finds them: it imports this file at every start, so nothing heavy here."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_submitit_launcher import submitit_launcher
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from omegaconf import DictConfig

from backhand.config.errors import UserError

if TYPE_CHECKING:
    from backhand.sweeps.jobs import Job
    from backhand.sweeps.sweep import Sweep

Note = Callable[[str], None]


class PopulationLauncher(Launcher):
    """`hydra/launcher=population`: jobs that differ in per-run settings alone are trained as one population.

    Args:
        max_runs: the most runs of a population; as many as the memory holds if None.
    """

    def __init__(self, max_runs: int | None) -> None:
        self.max_runs = max_runs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's call before the first launch.

        Raises:
            UserError: `max_runs` is no number of runs.
        """
        _check_max_runs(self.max_runs)
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs of any of Hydra's sweepers; returns what each of them returns, in their order."""
        return self.launch_jobs(_composed(self.hydra_context, self.config, enumerate(job_overrides, initial_job_idx)))

    def launch_jobs(self, jobs: "Sequence[Job]", note: Note = lambda text: None) -> Sequence[JobReturn]:
        """Run jobs that have been composed and checked; `note` is told how far a population is."""
        from backhand.sweeps.launcher import PopulationSweep

        return PopulationSweep(self.hydra_context, self.task_function, self.max_runs, note).launch(jobs)


@dataclass
class SlurmConfig(SlurmQueueConf):
    """The keys of `hydra.launcher`: submitit's, and what is ours."""

    _target_: str = "hydra_plugins.backhand_sweeps.SlurmLauncher"
    name: str = "backhand"
    timeout_min: int = 240
    cpus_per_task: int | None = 1
    array_parallelism: int = 64  # jobs at a time
    max_num_timeout: int = 10  # so often a job whose time is up is put into the queue again; a preempted one always is
    population: bool = False  # each population as a job, instead of each run
    max_runs: int | None = None  # the most runs of a population; null: as many as the node's memory holds


ConfigStore.instance().store(group="hydra/launcher", name="slurm", node=SlurmConfig(), provider="backhand")


class SlurmLauncher(submitit_launcher.SlurmLauncher):
    """`hydra/launcher=slurm`: each job, or each population, is an element of one Slurm job array.

    A job that Slurm stops with a signal (a time limit, a preemption) is put into the queue again, and goes on from its
    last checkpoint. One that is lost for good costs the others nothing.

    Args:
        population: whether what can be is trained as populations.
        max_runs: the most runs of a population; as many as the memory holds if None.
        params: what sbatch is told, by submitit's names.
    """

    def __init__(self, population: bool, max_runs: int | None, **params: Any) -> None:
        super().__init__(**params)
        self.population, self.max_runs = population, max_runs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's call before the first launch.

        Raises:
            UserError: there is no Slurm here, or `max_runs` is no number of runs.
        """
        _check_max_runs(self.max_runs)
        if shutil.which("sbatch") is None:
            raise UserError("hydra/launcher=slurm: there is no sbatch here; scripts/slurm_dev.sh starts a Slurm to try")
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs of any of Hydra's sweepers; returns what each of them returns, in their order."""
        return self.launch_jobs(_composed(self.hydra_context, self.config, enumerate(job_overrides, initial_job_idx)))

    def launch_jobs(self, jobs: "Sequence[Job]", note: Note = lambda text: None) -> Sequence[JobReturn]:
        """Submit jobs that have been composed and checked, and wait for all of them."""
        from backhand.sweeps.slurm import submit

        assert self.config is not None
        return submit(self, jobs, self.params, str(self.config.hydra.sweep.dir), self.population, note)

    def __call__(self, jobs: Sequence[tuple[int, Sequence[str]]], singleton_state: Any) -> Sequence[JobReturn]:
        """Run some of the jobs, on a node."""
        from backhand.sweeps.launcher import PopulationSweep

        Singleton.set_state(singleton_state)
        setup_globals()
        assert self.hydra_context is not None
        assert self.task_function is not None
        composed = _composed(self.hydra_context, self.config, jobs)
        sweep = PopulationSweep(self.hydra_context, self.task_function, self.max_runs)
        return sweep.launch(composed) if self.population else sweep.one_by_one(composed)


class GridSweeper(Sweeper):
    """`search=grid`: every combination of the values that are listed.

    Args:
        params: what is swept, by key; the command line's own lists come on top.
    """

    def __init__(self, params: dict[str, Any] | None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's call before the sweep."""
        self.begin = lambda: _sweep(config, hydra_context, task_function)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep."""
        from backhand.sweeps.grid import run_grid

        return run_grid(self.begin(), self.params, arguments)


class OptunaSweeper(Sweeper):
    """`search=optuna`: Optuna chooses the values; the arguments are those of `sweeps.search.SearchSettings`."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's call before the sweep."""
        self.begin = lambda: _sweep(config, hydra_context, task_function)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep."""
        from backhand.sweeps.search import SearchSettings, run_search

        return run_search(self.begin(), SearchSettings(**self.settings), arguments)


def _check_max_runs(most: Any) -> None:
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise UserError(
            f"hydra.launcher.max_runs={most}: must be a whole number, 1 or more, or null for what the memory holds"
        )


def _sweep(config: DictConfig, hydra_context: HydraContext, task_function: TaskFunction) -> "Sweep":
    from backhand.sweeps.sweep import Sweep

    return Sweep(config, hydra_context, task_function)


def _composed(hydra_context: Any, config: Any, jobs: Any) -> "Sequence[Job]":
    from backhand.sweeps.jobs import Composer

    composer = Composer(hydra_context, config)
    return [composer.job(number, overrides) for number, overrides in jobs]
