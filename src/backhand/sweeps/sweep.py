"""A sweep with any search: its folder, its launcher, and the outcomes of its jobs."""

import contextlib
import io
import json
import logging
import math
import operator
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write

from backhand.config.confidential import mask_logs, masked, without_secrets
from backhand.config.files import atomic_write, read_json
from backhand.config.lock import LOCK_FILE, lock_folder
from backhand.config.overrides import as_written
from backhand.config.stored import check_links
from backhand.errors import UserError
from backhand.reporting.result import is_complete, objective_of, read_result
from backhand.sweeps.jobs import Composer, Job
from backhand.sweeps.progress import SweepProgress

log = logging.getLogger(__name__)

CLAIM = "sweep.json"
# Files that may be in a sweep's folder before `CLAIM`: those of its workers, or of a sweep that was killed early.
HARMLESS = {"multirun.yaml", ".submitit", f"{CLAIM}.tmp", LOCK_FILE}
# The subfolder for the checkpoints of populations while they train.
POPULATIONS = "populations"
# Objectives besides the metrics; smaller is better.
COSTS = ("seconds", "parameters")


@dataclass
class JobOutcome:
    """The outcome of a job."""

    number: int
    overrides: tuple[str, ...]
    folder: Path
    record: dict[str, Any]  # its result.json, or `failed(…)` if it has none

    @property
    def settings(self) -> dict[str, str]:
        """The values of its overrides, by key."""
        pairs = (as_written(override).partition("=") for override in self.overrides)
        return {key: value for key, _, value in pairs}

    @property
    def error(self) -> str | None:
        """Why there is no value, or why it is infinite."""
        return self.record.get("error")

    @property
    def value(self) -> float | None:
        """The objective; the worst possible value for a run that diverged, None for a run that did not end."""
        return objective_of(self.record) if is_complete(self.record) else None

    def values(self, names: Sequence[str]) -> list[float | None]:
        """The values of several objectives: metrics at the epoch of the best checkpoint, or `COSTS`."""
        if list(names) == [self.record["objective"].get("name")]:
            return [self.value]
        if self.value is None or not math.isfinite(self.value):
            return [None] * len(names)
        measured = {**self.record.get("best", {}), **{name: self.record.get(name) for name in COSTS}}
        return [measured.get(name) for name in names]


class Sweep:
    """A sweep's jobs, run by the configured launcher; the arguments are those of a Hydra sweeper's `setup`.

    Raises:
        UserError: a setting of the launcher is wrong.
    """

    def __init__(self, config: DictConfig, hydra_context: HydraContext, task_function: TaskFunction) -> None:
        mask_logs()
        self.config = config
        self.composer = Composer(hydra_context, config)
        _hide_workers_folder(config)
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.folder = Path(str(config.hydra.sweep.dir)).absolute()
        self.where = f"hydra.sweep.dir={self.folder}"
        self.outcomes: dict[int, JobOutcome] = {}

    def parse(self, params: Mapping[str, Any], arguments: Sequence[str]) -> list[Override]:
        """The overrides of the search and of the command line, which has priority."""
        given = [f"{key}={value}" for key, value in params.items()]
        parsed = self.composer.parser.parse_overrides([*given, *arguments])
        return list({each.get_key_element(): each for each in parsed}.values())

    @contextlib.contextmanager
    def running(
        self,
        total: int,
        objective: str,
        identity: Mapping[str, Any],
        backward_passes: Sequence[str],
        jobs: Sequence[str] = (),
    ) -> Iterator[None]:
        """Claim the folder for this sweep, or resume the sweep in it; show the progress bar.

        Args:
            total: the number of jobs.
            objective: the metric whose best value is shown.
            identity: the settings that must be the same when a sweep is resumed.
            backward_passes: the digests of the code of the jobs' backward passes, or of the first job's.
            jobs: the hashes of the jobs' configurations, if known; a resumed sweep may add jobs at the end.

        Raises:
            UserError: the folder belongs to another sweep, another command uses it, or it cannot be written.
            SystemExit: the sweep was interrupted; the log says how to resume it.
        """
        lock_folder(self.folder, "hydra.sweep.dir")
        try:
            self._claim(identity, list(backward_passes), list(jobs))
            with SweepProgress(total, objective, self.outcomes) as self.progress:
                yield
        except (KeyboardInterrupt, SystemExit):
            done = sum(is_complete(read_result(file.parent)) for file in self.folder.glob("*/result.json"))
            log.warning(
                "interrupted; the same command with hydra.sweep.dir=%s resumes it (jobs done: %d)", self.folder, done
            )
            raise SystemExit(130) from None
        except OSError as error:
            raise UserError(f"{self.where}: cannot be written ({error.strerror or error})") from None

    def _claim(self, identity: Mapping[str, Any], backward_passes: list[str], jobs: list[str]) -> None:
        claim, ours = self.folder / CLAIM, masked(dict(identity))
        check_links(self.folder, "hydra.sweep.dir")
        if claim.exists():
            known = read_json(claim)
            try:
                theirs, before, began = known["sweep"], known["jobs"], " ".join(known["overrides"])
                changed = any(map(operator.ne, known["backward_passes"], backward_passes))
                same_search = {**theirs, "config": ""} == {**ours, "config": ""}  # its hash has the backward pass, too
            except (KeyError, TypeError):
                raise UserError(f"{self.where}: its {CLAIM} cannot be read; name another folder") from None
            if same_search and changed:
                raise UserError(
                    f"{self.where}: was started with another backward pass ({began}): model.gradient differs, or the "
                    "code that computes the gradients has changed since; its results are not mixed; name another folder"
                )
            if theirs != ours or before != jobs[: len(before)]:
                raise UserError(
                    f"{self.where}: belongs to another sweep ({began}), which may only grow at its end; nothing is "
                    "overwritten; name another folder"
                )
        elif not {path.name for path in self.folder.iterdir()} <= HARMLESS:
            raise UserError(f"{self.where}: holds something else, and nothing is overwritten; name another folder")
        record = {"sweep": ours, "backward_passes": backward_passes, "jobs": jobs, "overrides": self._overrides()}
        atomic_write(claim, json.dumps(record) + "\n")
        atomic_write(self.folder / "multirun.yaml", OmegaConf.to_yaml(self.config))

    def _overrides(self) -> list[str]:
        """The sweep's command line, without `hydra.mode`."""
        given = self.config.hydra.overrides
        return masked([*given.task, *(each for each in given.hydra if not each.startswith("hydra.mode="))])

    def job_that_fits(self, number: int, overrides: Sequence[str]) -> Job | None:
        """The job; None if its settings do not fit together, which is then recorded as its outcome."""
        try:
            return self.composer.job(number, overrides)
        except UserError as error:
            folder, record = self.folder / str(number), failed(str(error))
            folder.mkdir(exist_ok=True)
            atomic_write(folder / "result.json", json.dumps(record, indent=2) + "\n")
            self.outcomes[number] = JobOutcome(number, tuple(overrides), folder, record)
            return None

    def run(self, jobs: Sequence[Job]) -> None:
        """Run the jobs that are not complete, and record the outcomes of all."""
        todo = [job for job in jobs if not job.complete]
        errors: dict[int, Exception | None] = {}
        if todo:
            self.progress.running = jobs
            try:
                errors = {number: _raised(each) for number, each in self._launch(jobs, todo).items()}
            except UserError:  # it applies to every job
                raise
            except Exception as error:  # for example, a worker was killed; the other jobs' results stay
                log.warning("the launcher failed (%s: %s)", type(error).__name__, str(error).partition("\n")[0])
                errors = {job.number: error for job in todo}
        if all(job.complete for job in jobs):  # a killed launcher may have left them
            shutil.rmtree(self.folder / POPULATIONS, ignore_errors=True)
        for job in jobs:
            self.record(job, errors.get(job.number))

    def record(self, job: Job, raised: Exception | None = None) -> None:
        """Record a job's outcome from its result.json or, if it has none, from the exception that it raised."""
        record = job.record
        if record is None or record["status"] == "interrupted":
            reason = (str(raised or "").strip().splitlines() or ["ended without a result"])[0]
            known = raised is None or isinstance(raised, UserError)
            reason = without_secrets(reason if known else f"{type(raised).__name__}: {reason}")
            record = {**failed(reason), **(record or {}), "error": reason}
        self.outcomes[job.number] = JobOutcome(job.number, job.overrides, job.folder, record)

    def _launch(self, jobs: Sequence[Job], todo: Sequence[Job]) -> dict[int, JobReturn]:
        """Launch the jobs: our launchers take all of them, Hydra's take the overrides of those still to do."""
        if hasattr(self.launcher, "launch_jobs"):
            found = self.launcher.launch_jobs(jobs, self.progress.note)
            return {job.number: each for job, each in zip(jobs, found, strict=True)}
        first = todo[0].number
        overrides = [list(job.overrides) for job in todo]
        if [job.number for job in todo] != list(range(first, first + len(todo))):
            # Hydra numbers the jobs consecutively, and a folder is named by the number.
            for job, each in zip(todo, overrides, strict=True):
                each.append(f"hydra.sweep.subdir='{os.path.relpath(job.folder, self.folder)}'")
        found = self.launcher.launch(overrides, first)
        return {job.number: each for job, each in zip(todo, found, strict=True)}


def failed(error: str) -> dict[str, Any]:
    """The result.json of a job that never ran."""
    return {"status": "failed", "objective": {"value": None}, "metrics": {}, "error": without_secrets(error)}


def _raised(returned: JobReturn) -> Exception | None:
    """The exception that a job raised, or None."""
    with contextlib.redirect_stderr(io.StringIO()):  # Hydra prints the overrides to it
        try:
            _ = returned.return_value
        except Exception as error:
            return error
    return None


def _hide_workers_folder(config: DictConfig) -> None:
    """Use a folder with a random name for the workers, because submitit unpickles the files in it."""
    folder = OmegaConf.select(config, "hydra.launcher.submitit_folder")
    if folder is not None:
        with read_write(config.hydra.launcher):
            config.hydra.launcher.submitit_folder = folder.replace("/.submitit/", f"/.submitit/{token_hex(8)}/", 1)
