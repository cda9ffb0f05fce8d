"""The launchers and the sweepers as Hydra finds them: it imports this file at every start, so nothing heavy here."""

import shutil
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
    """`hydra/launcher=population`: jobs that differ in per-run settings alone are trained as one population."""

    def __init__(self, max_runs: int | None) -> None:
        self.max_runs = max_runs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        most = self.max_runs
        if most is not None and (type(most) is not int or most < 1):
            raise UserError(
                f"hydra.launcher.max_runs={most}: must be a whole number, 1 or more, or null for what the memory holds"
            )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs of a sweeper of Hydra's; ours have composed them already."""
        return self.launch_jobs(self.compose(enumerate(job_overrides, initial_job_idx)), lambda text: None)

    def launch_jobs(self, jobs: "Sequence[Job]", note: Note) -> Sequence[JobReturn]:
        """Run jobs, and return what each of them returns, in their order; `note` is told how far they are."""
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

    A job that Slurm stops with a signal (a time limit, a preemption) is put into the queue again, and is resumed from
    its last checkpoint. One that is lost for good costs the others nothing. The arguments are those of `SlurmConfig`.
    """

    def __init__(self, population: bool, max_runs: int | None, **params: Any) -> None:
        submitit_launcher.SlurmLauncher.__init__(self, **params)
        self.population, self.max_runs = population, max_runs

    def setup(self, **given: Any) -> None:
        super().setup(**given)
        if shutil.which("sbatch") is None:
            raise UserError("hydra/launcher=slurm: there is no sbatch here; scripts/slurm_dev.sh starts a Slurm to try")

    def launch_jobs(self, jobs: "Sequence[Job]", note: Note) -> Sequence[JobReturn]:
        from backhand.sweeps.slurm import submit

        return submit(self, jobs, note)

    def __call__(self, jobs: Sequence[tuple[int, Sequence[str]]], singleton_state: Any) -> Sequence[JobReturn]:
        """Run some of the jobs, on a node."""
        Singleton.set_state(singleton_state)
        setup_globals()
        populations, composed = self.populations(lambda text: None), self.compose(jobs)
        return populations.launch(composed) if self.population else populations.one_by_one(composed)


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
                f"hydra.sweeper.params={params}: must be values by key, such as {{optimizer.lr: '0.1,0.2'}}"
            )
        self.jobs = Sweep(config, hydra_context, task_function)


class GridSweeper(_Sweeper):
    """`search=grid`: every combination of the values that are listed."""

    def sweep(self, arguments: list[str]) -> None:
        from backhand.sweeps.grid import run_grid

        run_grid(self.jobs, self.settings["params"] or {}, arguments)


class OptunaSweeper(_Sweeper):
    """`search=optuna`: Optuna chooses the values; its keys are explained in `conf/hydra/sweeper/optuna.yaml`."""

    keys = ("params", "n_trials", "n_jobs", "sampler", "sampler_options", "seed", "objectives")

    def sweep(self, arguments: list[str]) -> None:
        from backhand.sweeps.search import SearchSettings, run_search

        run_search(self.jobs, SearchSettings(**self.settings), arguments)
