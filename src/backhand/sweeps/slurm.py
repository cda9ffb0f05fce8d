"""A sweep's jobs as elements of a Slurm job array."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import submitit
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

from backhand.errors import UserError
from backhand.sweeps.groups import divided
from backhand.sweeps.jobs import Job
from backhand.sweeps.launcher import completed, interrupted_populations

log = logging.getLogger(__name__)


def submit(launcher: Any, jobs: Sequence[Job], note: Callable[[str], None]) -> list[JobReturn]:
    """Run the jobs on Slurm, and wait until all have ended.

    Args:
        launcher: a `SlurmLauncher`; it is pickled, and called on a node with some jobs and Hydra's state.
        jobs: all jobs of the sweep.
        note: called with the number of the Slurm job, as text.

    Returns:
        What each job returned, in their order. A job that Slurm lost has failed, with the reason.

    Raises:
        UserError: Slurm or submitit refuses a setting.
    """
    returns = {job.number: completed(job) for job in jobs if job.complete}
    units = [unit for unit in _units(jobs, launcher.population) if any(job.number not in returns for job in unit)]
    if not units:
        return [returns[job.number] for job in jobs]
    params = {key: value for key, value in launcher.params.items() if value is not None}
    folder, timeouts = params.pop("submitit_folder"), params.pop("max_num_timeout")
    base = {field.name for field in fields(BaseQueueConf)}
    try:
        executor = submitit.AutoExecutor(cluster="slurm", folder=folder, slurm_max_num_timeout=timeouts)
        executor.update_parameters(**{key if key in base else f"slurm_{key}": value for key, value in params.items()})
        arguments = [[(job.number, list(job.overrides)) for job in unit] for unit in units]
        submitted = executor.map_array(launcher, arguments, [Singleton.get_state()] * len(arguments))
    except (RuntimeError, TypeError, ValueError, submitit.core.utils.FailedJobError) as error:
        raise UserError(f"hydra/launcher=slurm: {' '.join(str(error).split())}") from error
    note(f"Slurm job {submitted[0].job_id.split('_')[0]}")
    for unit, element in zip(units, submitted, strict=True):
        try:
            found = element.results()[0]  # all tasks of a job return the same
        except Exception as error:
            log.warning("Slurm job %s: %s", element.job_id, str(error).strip().splitlines()[0])
            found = [_lost(error) for _ in unit]
        returns |= {job.number: each for job, each in zip(unit, found, strict=True)}
    return [returns[job.number] for job in jobs]


def _units(jobs: Sequence[Job], population: bool) -> list[list[Job]]:
    """The jobs of each element of the array: a population, or a single job."""
    if not population:
        return [[job] for job in jobs]
    interrupted = interrupted_populations(jobs)
    taken = {job.number for group in interrupted for job in group}
    groups, reasons = divided([job for job in jobs if job.number not in taken and not job.complete])
    return interrupted + groups + [[job] for job in jobs if job.number in reasons]


def _lost(error: Exception) -> JobReturn:
    returned = JobReturn(status=JobStatus.FAILED)
    returned.return_value = error
    return returned
