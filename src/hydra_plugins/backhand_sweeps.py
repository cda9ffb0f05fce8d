"""The launchers and sweepers for Hydra, which imports this file at every start: heavy imports are inside functions."""

import shutil
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_submitit_launcher import submitit_launcher
from omegaconf import DictConfig

from backhand.errors import UserError

if TYPE_CHECKING:
    from backhand.sweeps.jobs import Job
    from backhand.sweeps.launcher import PopulationSweep

Note = Callable[[str], None]


class PopulationLauncher(Launcher):
    """`hydra/launcher=population`: jobs that differ only in per-run settings are trained as one population."""

    def __init__(self, max_runs: int | None) -> None:
        self.max_runs = max_runs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        max_runs = self.max_runs
        if max_runs is not None and (type(max_runs) is not int or max_runs < 1):
            raise UserError(
                f"hydra.launcher.max_runs={max_runs}: must be a whole number, 1 or more, or null for what memory allows"
            )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs of one of Hydra's sweepers; ours call `launch_jobs`."""
        return self.launch_jobs(self.compose(enumerate(job_overrides, initial_job_idx)), lambda text: None)

    def launch_jobs(self, jobs: "Sequence[Job]", note: Note) -> Sequence[JobReturn]:
        """Run jobs, and return what each returns, in their order; `note` is called with the progress, as text."""
        return self.populations(note).launch(jobs)

    def compose(self, jobs: Iterable[tuple[int, Sequence[str]]]) -> "list[Job]":
        from backhand.sweeps.jobs import Composer

        composer = Composer(self.hydra_context, self.config)
        return [composer.job(number, overrides) for number, overrides in jobs]

    def populations(self, note: Note) -> "PopulationSweep":
        from backhand.sweeps.launcher import PopulationSweep

        return PopulationSweep(self.hydra_context, self.task_function, self.max_runs, note)


class SlurmLauncher(PopulationLauncher, submitit_launcher.SlurmLauncher):
    """`hydra/launcher=slurm`: each job, or each population, is an element of one Slurm job array.

    A job that Slurm stops with a signal (time limit, preemption) is requeued, and resumes from its last checkpoint.
    If a job is lost, the others are not affected. The arguments are those of `SlurmConfig`.
    """

    def __init__(self, population: bool, max_runs: int | None, **params: Any) -> None:
        submitit_launcher.SlurmLauncher.__init__(self, **params)
        self.population, self.max_runs = population, max_runs

    def setup(self, **given: Any) -> None:
        super().setup(**given)
        if shutil.which("sbatch") is None:
            raise UserError("hydra/launcher=slurm: sbatch was not found; scripts/slurm_dev.sh starts a Slurm for tests")

    def launch_jobs(self, jobs: "Sequence[Job]", note: Note) -> Sequence[JobReturn]:
        from backhand.sweeps.slurm import submit

        return submit(self, jobs, note)

    def __call__(self, jobs: Sequence[tuple[int, Sequence[str]]], singleton_state: Any) -> Sequence[JobReturn]:
        """Run some of the jobs on a node."""
        Singleton.set_state(singleton_state)
        setup_globals()
        populations, composed = self.populations(lambda text: None), self.compose(jobs)
        return populations.launch(composed) if self.population else populations.one_by_one(composed)

    def checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """What runs when submitit has requeued the job, as it does once this has returned."""
        # The SIGTERM that follows Slurm's signal goes to every process of the job, and would end `scontrol requeue`.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return super().checkpoint(*args, **kwargs)


class _Sweeper(Sweeper):
    keys: Sequence[str] = ("params",)

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from backhand.sweeps.sweep import Sweep

        for key in self.settings:
            if key not in self.keys:
                raise UserError(f"hydra.sweeper.{key}: no such key; choose from {', '.join(self.keys)}")
        params = self.settings.get("params")
        if not isinstance(params or {}, Mapping):
            raise UserError(
                f"hydra.sweeper.params={params}: must be a dict from keys to values, as in {{optimizer.lr: '0.1,0.2'}}"
            )
        self.jobs = Sweep(config, hydra_context, task_function)


class GridSweeper(_Sweeper):
    """`search=grid`: every combination of the listed values."""

    def sweep(self, arguments: list[str]) -> None:
        from backhand.sweeps.grid import run_grid

        run_grid(self.jobs, self.settings["params"] or {}, arguments)


class OptunaSweeper(_Sweeper):
    """`search=optuna`: Optuna chooses the values; its keys are explained in `conf/hydra/sweeper/optuna.yaml`."""

    keys = ("params", "n_trials", "n_jobs", "sampler", "sampler_options", "seed", "objectives")

    def sweep(self, arguments: list[str]) -> None:
        from backhand.sweeps.search import SearchSettings, run_search

        run_search(self.jobs, SearchSettings(**self.settings), arguments)
