"""The launcher and the sweepers as Hydra finds them: it imports this file at every start, so nothing heavy here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from backhand.sweeps.jobs import Composer


class PopulationLauncher(Launcher):
    """`hydra/launcher=population`: jobs that differ in per-run settings alone are trained as one population.

    Args:
        max_runs: the most runs of a population; as many as the memory holds if None.
    """

    def __init__(self, max_runs: int | None) -> None:
        self.max_runs = max_runs
        self.composer: Composer | None = None  # a sweeper of ours leaves the one that it has checked the jobs with

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's call before the first launch."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; returns what each of them returns, in their order."""
        from backhand.sweeps.jobs import Composer
        from backhand.sweeps.launcher import PopulationSweep

        if self.composer is None:
            self.composer = Composer(self.hydra_context, self.config)
        sweep = PopulationSweep(self.composer, self.hydra_context, self.task_function, self.max_runs)
        return sweep.launch(job_overrides, initial_job_idx)
