"""One sweep, whichever way its jobs are chosen: its folder, its jobs' outcomes, and what it leaves at the end."""

import contextlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write

from backhand.config.confidential import without_secrets
from backhand.config.errors import UserError
from backhand.config.lock import HOLDER, hold
from backhand.config.untrusted import check_links
from backhand.reporting.result import is_complete, objective_of, read_result, read_whole, write_whole
from backhand.sweeps.jobs import Composer, Job
from backhand.sweeps.progress import SweepProgress

log = logging.getLogger(__name__)

CLAIM = "sweep.json"
# What a sweep may find in its folder without a claim: its jobs' processes may have begun to write there, or it was
# killed as it wrote the claim.
HARMLESS = {"multirun.yaml", ".submitit", f"{CLAIM}.tmp", HOLDER}
# Where a sweep's folder keeps its populations while they train.
POPULATIONS = "populations"
# What a run can be judged by beside its metrics: less is better.
COSTS = ("seconds", "parameters")


@dataclass
class Outcome:
    """What became of a job.

    Attributes:
        number: the job's.
        overrides: what it set.
        folder: where it wrote.
        objective: the metric that it was judged by.
        record: its result.json, or None where there is none.
        error: why there is no value, or why it is the worst there is; None where all went well.
    """

    number: int
    overrides: tuple[str, ...]
    folder: Path
    objective: str
    record: dict[str, Any] | None
    error: str | None

    @property
    def status(self) -> str:
        """As in result.json."""
        return "failed" if self.record is None else str(self.record["status"])

    @property
    def value(self) -> float | None:
        """The objective's, where the job came to an end."""
        return objective_of(self.record) if self.record is not None and is_complete(self.record) else None

    def values(self, names: Sequence[str]) -> list[float | None]:
        """What several objectives come to: metrics at the epoch of the best checkpoint, or `COSTS`."""
        return [self.value] if list(names) == [self.objective] else [self._measured(name) for name in names]

    def _measured(self, name: str) -> float | None:
        if self.value is None or self.record is None or not math.isfinite(self.value):
            return None
        value = self.record.get(name) if name in COSTS else self.record.get("best", {}).get(name)
        return None if value is None else float(value)


class Sweep:
    """A sweep's jobs, run by whatever launcher is configured.

    Args:
        config: the sweep's own configuration.
        hydra_context: Hydra's.
        task_function: what a job runs.

    Raises:
        UserError: a setting of the launcher that means nothing.
    """

    def __init__(self, config: DictConfig, hydra_context: HydraContext, task_function: TaskFunction) -> None:
        self.config = config
        self.composer = Composer(hydra_context, config)
        _hide_workers_folder(config)
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.folder = Path(str(config.hydra.sweep.dir)).absolute()
        self.outcomes: dict[int, Outcome] = {}

    def parse(self, params: Mapping[str, Any], arguments: Sequence[str]) -> list[Override]:
        """The search's own parameters and the command line's, which come last and therefore count more."""
        given = [f"{key}={value}" for key, value in params.items()]
        parser = OverridesParser.create(config_loader=self.composer.loader)
        return list({each.get_key_element(): each for each in parser.parse_overrides([*given, *arguments])}.values())

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Tell how to go on where the sweep is stopped."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            done = sum(is_complete(read_result(file.parent)) for file in self.folder.glob("*/result.json"))
            log.warning(
                "interrupted; the same command with hydra.sweep.dir=%s goes on (%d jobs done)", self.folder, done
            )
            raise SystemExit(130) from None

    def claim(self, identity: dict[str, Any], jobs: Sequence[str] = ()) -> None:
        """Make the folder this sweep's, or go on in it where it is already.

        Args:
            identity: what a sweep that goes on must have in common with the one that began.
            jobs: the hashes of its jobs' configurations where they are known; more may have come behind them.

        Raises:
            UserError: the folder is another sweep's, another command is at work there, or it cannot be written.
        """
        where = f"hydra.sweep.dir={self.folder}"
        hold(self.folder, "hydra.sweep.dir")
        claim = self.folder / CLAIM
        check_links(self.folder, "hydra.sweep.dir")
        if claim.exists():
            known = read_whole(claim)
            try:
                theirs, before, began = known["sweep"], known["jobs"], " ".join(known["overrides"])
            except (KeyError, TypeError):
                raise UserError(f"{where}: its {CLAIM} cannot be read; name another folder") from None
            if theirs != identity or before != list(jobs)[: len(before)]:
                raise UserError(
                    f"{where}: belongs to another sweep ({began}), which may only grow at its end; nothing is "
                    "overwritten; name another folder"
                )
        elif not {path.name for path in self.folder.iterdir()} <= HARMLESS:
            raise UserError(f"{where}: holds something else, and nothing is overwritten; name another folder")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            hydras = [each for each in self.config.hydra.overrides.hydra if not each.startswith("hydra.mode=")]
            told = [*self.config.hydra.overrides.task, *hydras]
            write_whole(claim, json.dumps({"sweep": identity, "jobs": list(jobs), "overrides": told}) + "\n")
            OmegaConf.save(self.config, self.folder / "multirun.yaml")
        except OSError as error:
            raise UserError(f"{where}: cannot be written ({error.strerror})") from None

    def run(self, jobs: Sequence[Job], progress: SweepProgress) -> list[Outcome]:
        """Run those of the jobs that are not complete, and say what became of each."""
        todo = [job for job in jobs if not job.complete]
        returned: dict[int, JobReturn] = {}
        error: Exception | None = None
        if todo:
            progress.watch([job.folder for job in todo])
            try:
                returned = self._launch(jobs, todo, progress)
            except UserError:  # it would say the same of every job
                raise
            except Exception as raised:  # a worker was killed, say: what the others have written stays
                log.warning("the launcher failed (%s: %s)", type(raised).__name__, str(raised).partition("\n")[0])
                error = raised
        if all(job.complete for job in jobs):  # the launcher may have been killed before it removed them
            shutil.rmtree(self.folder / POPULATIONS, ignore_errors=True)
        outcomes = [self._outcome(job, returned.get(job.number), error) for job in jobs]
        self.outcomes |= {outcome.number: outcome for outcome in outcomes}
        for outcome in outcomes:
            progress.add(outcome)
        return outcomes

    def found(self, number: int, overrides: Sequence[str]) -> Outcome:
        """What an earlier call found for a job."""
        self.outcomes[number] = self._outcome(self.composer.job(number, overrides), None, None)
        return self.outcomes[number]

    def unfit(self, number: int, overrides: Sequence[str], error: str) -> Outcome:
        """Record a job whose settings do not fit together."""
        folder = self.folder / str(number)
        record = {"status": "failed", "objective": {"value": None}, "metrics": {}, "error": error}
        folder.mkdir(exist_ok=True)
        write_whole(folder / "result.json", json.dumps(record, indent=2) + "\n")
        self.outcomes[number] = Outcome(number, tuple(overrides), folder, "", record, error)
        return self.outcomes[number]

    def failures(self) -> list[Outcome]:
        """The jobs that have no result worth the name."""
        return [each for each in self.outcomes.values() if each.error is not None]

    def exit_status(self) -> int:
        """1 where more jobs failed than `sweep.max_failures` allows, or all of them."""
        allowed, failed = self.config.sweep.max_failures, len(self.failures())
        too_many = allowed is not None and failed > allowed
        return int(too_many or (failed > 0 and failed == len(self.outcomes)))

    def _launch(self, jobs: Sequence[Job], todo: Sequence[Job], progress: SweepProgress) -> dict[int, JobReturn]:
        """Hand the jobs over; ours take them as they are, and Hydra's other launchers as overrides."""
        if hasattr(self.launcher, "launch_jobs"):
            found = self.launcher.launch_jobs(jobs, progress.note)
            return {job.number: each for job, each in zip(jobs, found, strict=True)}
        first = todo[0].number
        overrides = [list(job.overrides) for job in todo]
        if [job.number for job in todo] != list(range(first, first + len(todo))):
            # They number what they are given one after the other, and a folder is named by the number.
            for job, each in zip(todo, overrides, strict=True):
                each.append(f"hydra.sweep.subdir='{os.path.relpath(job.folder, self.folder)}'")
        found = self.launcher.launch(overrides, first)
        return {job.number: each for job, each in zip(todo, found, strict=True)}

    def _outcome(self, job: Job, returned: JobReturn | None, error: Exception | None) -> Outcome:
        record, reason = job.record, None
        if record is not None and record["status"] in ("finished", "diverged", "failed"):
            reason = record.get("error")
        else:
            raised = error if returned is None else returned._return_value
            lines = str(raised or "").strip().splitlines() or ["ended without a result"]
            known = isinstance(raised, UserError) or not isinstance(raised, Exception)
            reason = without_secrets(lines[0] if known else f"{type(raised).__name__}: {lines[0]}")
        return Outcome(job.number, job.overrides, job.folder, job.config.objective, record, reason)


def _hide_workers_folder(config: DictConfig) -> None:
    """Give the workers of this call a folder that nobody could guess: submitit unpickles what it finds in it."""
    folder = OmegaConf.select(config, "hydra.launcher.submitit_folder")
    if folder is not None:
        with read_write(config.hydra.launcher):
            config.hydra.launcher.submitit_folder = folder.replace("/.submitit/", f"/.submitit/{token_hex(8)}/", 1)
