"""The population launcher: trains the jobs of a sweep as populations where it can, and writes each job's files."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.types import HydraContext, TaskFunction
from lightning.pytorch.callbacks import Callback

from backhand.checking.audit import Audit
from backhand.config.files import atomic_write, read_json
from backhand.config.process import garbage_collection
from backhand.config.schema import OWN_UPDATES, TrainConfig
from backhand.config.validation import layer_sizes, resolve_auto
from backhand.data.dataset import Dataset
from backhand.data.module import load
from backhand.errors import UserError
from backhand.reporting.loggers import build_loggers
from backhand.reporting.result import Result, objective_of, read_result, write_result
from backhand.reporting.wandb_content import log_histograms
from backhand.sweeps.groups import SHARE_OF_MEMORY, bytes_a_run, divided, free_memory
from backhand.sweeps.jobs import Job
from backhand.sweeps.population import BestOfRuns, Population, Snapshot, rows_at_once
from backhand.sweeps.sweep import POPULATIONS
from backhand.training.checkpoint import BEST, LAST, AtomicCheckpointIO, LastCheckpoint, newest_checkpoint, resume_state
from backhand.training.layer_stats import FlowMetrics
from backhand.training.module import LightningMLP
from backhand.training.outcome import Outcome, failure, status_of
from backhand.training.parts import PRECISIONS, build_callbacks, build_module, build_trainer, in_memory
from backhand.training.train import device_name, in_sweep, is_out_of_memory, quiet_lightning, threads_for
from backhand.training.train_log import log_overrides, log_setup

log = logging.getLogger(__name__)

# The file that lists the jobs of a population, beside its checkpoints while it trains.
MEMBERS = "members.json"


class PopulationSweep:
    """Runs the jobs of a sweep, in populations where possible, the others one by one.

    Args:
        hydra_context: Hydra's context.
        task_function: runs a single job.
        max_runs: the largest number of runs in a population; if None, as many as fit into memory.
        note: called with the progress of a population, as text.
    """

    def __init__(
        self,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        max_runs: int | None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.hydra_context, self.task_function, self.max_runs, self.note = hydra_context, task_function, max_runs, note

    def launch(self, jobs: Sequence[Job]) -> list[JobReturn]:
        """Run the jobs; returns what each of them returns, in their order.

        Complete jobs are not run again, and an interrupted population is resumed with the same jobs.
        """
        quiet_lightning()
        returns = {job.number: completed(job) for job in jobs if job.complete}
        for group in interrupted_populations(jobs):
            if all(job.number in returns for job in group):
                _remove_files(group)
            else:
                returns |= self._population(group, returns)
        groups, reasons = divided([job for job in jobs if job.number not in returns])
        for job in jobs:
            if job.number in reasons:
                returns[job.number] = self._run(job, partial(self._run_singly, reasons[job.number]))
        for group in groups:
            returns |= self._populations(group)
        return [returns[job.number] for job in jobs]

    def one_by_one(self, jobs: Sequence[Job]) -> list[JobReturn]:
        """Run the jobs without populations; returns what each of them returns, in their order."""
        return [self._run(job, self.task_function) for job in jobs]

    def _populations(self, group: Sequence[Job]) -> dict[int, JobReturn]:
        """Train a group, in as many populations as the memory requires."""
        try:
            dataset = _load(group[0])
            most = self.max_runs or most_runs(group[0].config, dataset)
        except UserError as error:
            return self._failed(group, error)
        returns: dict[int, JobReturn] = {}
        for start in range(0, len(group), most):
            returns |= self._population(group[start : start + most], {}, dataset)
        return returns

    def _population(
        self, group: Sequence[Job], returns: dict[int, JobReturn], dataset: Dataset | None = None
    ) -> dict[int, JobReturn]:
        """Train one population, and write the files of each job that has not returned yet."""
        try:
            population = train_population(group, dataset or _load(group[0]), self.note)
        except Exception as error:
            if not is_out_of_memory(error) or len(group) == 1:
                if not isinstance(error, UserError):
                    log.exception("a population of %d runs failed", len(group))
                return self._failed([job for job in group if job.number not in returns], error)
            half = len(group) // 2
            log.warning("a population of %d runs does not fit into memory; %d at a time", len(group), len(group) - half)
            _remove_files(group)
            return self._population(group[:half], returns) | self._population(group[half:], returns)
        written = {}
        for run, job in enumerate(group):
            if job.number not in returns:
                written[job.number] = self._run(job, partial(finish, population, run))
        is_over = population.failed is None  # or else the same command resumes it
        if is_over and all(
            read_result(job.folder) is not None for job in group
        ):  # or else the missing ones can still be written
            _remove_files(group)
        return written

    def _run_singly(self, reason: str, cfg: Any) -> Any:
        """Run a job by itself, and log the reason in its train.log."""
        log.info("runs by itself, not in a population: %s", reason)
        return self.task_function(cfg)

    def _failed(self, group: Sequence[Job], error: Exception) -> dict[int, JobReturn]:
        """Write the error as the result of every job of a group."""

        def fail(job: Job, _: Any) -> None:
            write_result(failure(error, job.config), job.config, job.folder)
            raise error

        return {job.number: self._run(job, partial(fail, job)) for job in group}

    def _run(self, job: Job, task_function: TaskFunction) -> JobReturn:
        """Run a job as Hydra does, with its folder, its log and its `.hydra`."""
        return run_job(
            hydra_context=self.hydra_context,
            task_function=task_function,
            config=job.cfg,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


class _ProgressNote(Callback):
    """Reports the progress of a population at every epoch."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        of = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        self.note(f"{int((~pl_module.progress.frozen).sum())} in one population, epoch {trainer.current_epoch + 1}{of}")


def train_population(group: Sequence[Job], dataset: Dataset, note: Callable[[str], None]) -> Population:
    """Train the jobs of a group together, resuming them if they were interrupted, and test them.

    Raises:
        UserError: this machine or Lightning refuses a setting, or a step of the first epoch fails.
    """
    configs = [resolve_auto(job.config, dataset.info) for job in group]
    folder = _folder(group)
    first = in_sweep(configs[0], folder.parents[1])
    L.seed_everything(first.seed, workers=True, verbose=False)
    data = in_memory(first, dataset)
    seeds = [config.seed for config in configs]
    data.shuffle_seed = seeds if len(set(seeds)) > 1 else seeds[0]
    module = build_module(first, data, configs)
    if data.dtype == torch.float64:
        module.double()
    data.evaluation_batch = rows_at_once(len(group), module.model.sizes)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / MEMBERS, json.dumps([_name(job) for job in group]))
    checkpoint, composed = newest_checkpoint(folder), group[0].config
    resumed = None if checkpoint is None else resume_state(checkpoint, composed, dataset)
    best, last_checkpoint = BestOfRuns(), LastCheckpoint(folder / Path(LAST).name, None, composed, dataset, resumed)
    callbacks = build_callbacks(first)
    own = [_ProgressNote(note), best, last_checkpoint]
    trainer = build_trainer(first, folder, callbacks=[*callbacks, *own], logger=False)
    last: Snapshot | None = None
    failed: UserError | None = None
    with threads_for(module, data), garbage_collection():
        try:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except UserError as error:  # such as that of a rule
            if not len(module.progress.history):
                raise
            failed = error
        else:
            last = Snapshot.of(module, trainer.optimizers[0])
            if best.best is not None:
                module.load_state_dict(best.best.parameters)
            trainer.test(module, datamodule=data, verbose=False)
    return Population(
        configs,
        [job.config for job in group],
        [job.folder for job in group],
        folder.parents[1],
        module,
        data,
        callbacks if module.on_nan is None else [module.on_nan, *callbacks],
        best,
        last,
        dict(module.progress.row) if failed is None else {},
        last_checkpoint.seconds,
        device_name(trainer),
        failed,
    )


def finish(population: Population, run: int, _: Any) -> float:
    """Write the files of one run as if it had been trained by itself, result.json last; returns its objective.

    Raises:
        UserError: the run failed because of a wrong gradient, or with its population; or its files cannot be written.
    """
    try:
        result = _write_files(population, run)
    except UserError as error:
        composed = population.composed[run]
        result = failure(error, composed)
        write_result(result, composed, population.folders[run])
    if result.status == "failed":
        raise UserError(str(result.error))
    return objective_of(asdict(result))


def _write_files(population: Population, run: int) -> Result:
    runs, folder, composed = len(population.configs), population.folders[run], population.composed[run]
    config, rows = in_sweep(population.configs[run], population.sweep), population.rows(run)
    log_overrides()
    log_setup(config, population.data, population.module, population.device)
    log.info("one of a population of %d runs, which trained for %.1f s", runs, population.seconds)
    files: tuple[tuple[Literal["best", "last"], str], ...] = (("best", BEST), ("last", LAST))
    for which, name in files:
        if (contents := population.checkpoint(run, which)) is not None:
            AtomicCheckpointIO().save_checkpoint(contents, folder / name)
    tested = {name: float(values[run]) for name, values in population.tested.items()}
    loggers, _table = build_loggers(config, folder)
    for logger in loggers:
        for row in rows:
            logger.log_metrics({name: value for name, value in row.items() if name != "step"}, int(row["step"]))
        if population.failed is None:
            logger.log_metrics({**tested, "epoch": len(rows)}, int(rows[-1]["step"]) + 1 if rows else 0)
        logger.finalize("success")
    layer_stats = population.find(FlowMetrics)
    for epoch, histograms in (layer_stats.histograms if layer_stats is not None else {}).items():
        if epoch < len(rows):
            of_run = {name: own for name, each in histograms.items() if (own := each[run]) is not None}
            log_histograms(loggers, of_run, epoch, int(rows[epoch]["step"]))
    outcome = Outcome(config, composed, folder, rows, tested, loggers, standalone=False)
    analysed = population.failed is None and outcome.needs_error_analysis
    if analysed and (best := population.checkpoint(run, "best")) is not None:
        module = LightningMLP(**best["hyper_parameters"]).to(population.data.dtype)
        module.load_state_dict(best["state_dict"])
        outcome.write_error_analysis(module, population.data)
    audit, on_nan = population.find(Audit), population.module.on_nan
    if on_nan is not None and (warning := on_nan.warnings[run]) is not None:
        log.warning("%s", warning)
    ending = status_of(population.module.progress.endings[run], folder)
    return outcome.leave(
        *(ending if population.failed is None else ("failed", str(population.failed))),
        parameters=sum(each.numel() for each in population.module.parameters()) // runs,
        seconds=round(population.seconds / runs, 3),
        population=runs,
        steps=population.steps(run),
        epochs=population.epochs(run),
        skipped=0 if on_nan is None else on_nan.skipped[run],
        device=population.device,
        audit=None if audit is None else audit.summary(run),
    )


def most_runs(config: TrainConfig, dataset: Dataset) -> int:
    """How many runs like this one fit into `SHARE_OF_MEMORY` of the free memory."""
    sizes = layer_sizes(config, dataset.info)
    samples = len(dataset.rows["train"].x)
    batch = samples if config.data.batch_size == "full" else min(samples, config.data.batch_size)
    states = OWN_UPDATES[config.optimizer.target]
    itemsize = 8 if PRECISIONS.get(str(config.trainer.precision)) == torch.float64 else 4
    on_gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    free = torch.cuda.mem_get_info()[0] if on_gpu else free_memory()
    return max(1, int(SHARE_OF_MEMORY * free / bytes_a_run(sizes, batch, samples, states, itemsize)))


def _load(job: Job) -> Dataset:
    return load(job.config.data, job.config.model.hidden_activation, job.config.model.output_activation)


def completed(job: Job) -> JobReturn:
    """The return value of a complete job."""
    log.info("complete already: %s", job.folder)
    record = job.record
    assert record is not None
    returned = JobReturn(overrides=list(job.overrides), working_dir=str(job.folder), status=JobStatus.COMPLETED)
    returned.return_value = objective_of(record)
    return returned


def _name(job: Job) -> list[str]:
    return [str(job.number), job.hash]


def _folder(group: Sequence[Job]) -> Path:
    key = hashlib.sha256(json.dumps([_name(job) for job in group]).encode()).hexdigest()[:12]
    return Path(str(group[0].cfg.hydra.sweep.dir)).absolute() / POPULATIONS / key


def interrupted_populations(jobs: Sequence[Job]) -> list[list[Job]]:
    """The populations that were interrupted, as groups of the same jobs."""
    known = {tuple(_name(job)): job for job in jobs}
    root = Path(str(jobs[0].cfg.hydra.sweep.dir)).absolute() / POPULATIONS
    groups = []
    for file in sorted(root.glob(f"*/{MEMBERS}")):
        members = [tuple(each) for each in read_json(file) or ()]
        if members and all(each in known for each in members):
            groups.append([known[each] for each in members])
    return groups


def _remove_files(group: Sequence[Job]) -> None:
    """Remove the checkpoints of a population, if it has any."""
    folder = _folder(group)
    if not folder.exists():
        return
    shutil.rmtree(folder)
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()
