"""The population launcher: trains the jobs of a sweep that can be, as populations, and leaves what each would alone."""

import contextlib
import gc
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.types import HydraContext, TaskFunction
from lightning.pytorch.callbacks import Callback, Checkpoint

from backhand.config.errors import UserError
from backhand.config.schema import TrainConfig
from backhand.config.validation import layer_sizes, settled
from backhand.data.dataset import Dataset
from backhand.data.module import InMemoryData, load
from backhand.reporting.loggers import build_loggers, close_loggers
from backhand.reporting.report import leave_report
from backhand.reporting.result import (
    Result,
    best_epoch,
    best_objective,
    chosen,
    objective_of,
    read_result,
    read_whole,
    worst_objective,
    write_result,
    write_whole,
)
from backhand.reporting.wandb_content import log_findings, log_histograms
from backhand.sweeps.groups import SHARE_OF_MEMORY, bytes_a_run, divided, free_memory
from backhand.sweeps.jobs import Job
from backhand.sweeps.population import Population, member, rows_at_once
from backhand.sweeps.sweep import POPULATIONS
from backhand.training.checkpoint import BEST, LAST, WholeFiles, newest
from backhand.training.findings import draw, find
from backhand.training.parts import PRECISIONS, build_data, build_trainer
from backhand.training.train import (
    device_name,
    failure,
    final_metrics,
    in_sweep,
    quiet_lightning,
    wanted,
)

log = logging.getLogger(__name__)

# What is kept of a population while it trains has the list of its members beside it.
MEMBERS = "members.json"
# Numbers in a layer's output, of all runs, below which threads wait for each other about as long as they save: with 64
# runs of 64-32-10 a step takes 1.2 ms on two idle cores and 1.4 on one; where another program has one of the two cores,
# 128 ms on two threads.
FOR_ONE_THREAD = 2**20
# How much of the time writing the checkpoint may take.
SHARE_OF_TIME = 0.05


@contextlib.contextmanager
def _collected_often() -> Iterator[None]:
    """Collect what jobs leave behind in cycles, 0.1 MB each, before it piles up.

    Python does so when new objects are a quarter of what it found the last time; modules and configurations, which
    stay, are taken out of that.
    """
    gc.collect()
    gc.freeze()
    gc.collect()
    try:
        yield
    finally:
        gc.unfreeze()  # or libraries would complain, as Python ends, of what was never given back


class PopulationSweep:
    """Runs the jobs of a sweep: in populations where they can be, the others one by one.

    Args:
        hydra_context: Hydra's.
        task_function: what runs a job alone.
        max_runs: the most runs of a population; by the memory if None.
        note: told how far a population is.
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
        """What each job returns, in their order.

        Jobs that are complete are not run again, and a population that was cut off goes on with the members it had.
        """
        quiet_lightning()
        with _collected_often():
            return self._launch(jobs)

    def _launch(self, jobs: Sequence[Job]) -> list[JobReturn]:
        returns = {job.number: completed(job) for job in jobs if job.complete}
        for group in started(jobs):
            if all(job.number in returns for job in group):
                _forget(group)
            else:
                returns |= self._population(group, returns)
        groups, alone = divided([job for job in jobs if job.number not in returns])
        for job in jobs:
            if job.number in alone:
                returns[job.number] = self._run(job, partial(self._alone, alone[job.number]))
        for group in groups:
            returns |= self._populations(group)
        return [returns[job.number] for job in jobs]

    def one_by_one(self, jobs: Sequence[Job]) -> list[JobReturn]:
        """The same without populations."""
        return [self._run(job, self.task_function) for job in jobs]

    def _populations(self, group: Sequence[Job]) -> dict[int, JobReturn]:
        """Train a group, in as many populations as the memory asks for."""
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
        """Train one population, and write what each of its members leaves, unless it has done so already."""
        try:
            population = train_population(group, dataset or _load(group[0]), self.note)
        except Exception as error:
            if not _is_out_of_memory(error) or len(group) == 1:
                if not isinstance(error, UserError):
                    log.exception("a population of %d runs failed", len(group))
                return self._failed([job for job in group if job.number not in returns], error)
            half = len(group) // 2
            log.warning("a population of %d runs does not fit into memory; %d at a time", len(group), len(group) - half)
            _forget(group)
            return self._population(group[:half], returns) | self._population(group[half:], returns)
        written = {}
        for run, job in enumerate(group):
            if job.number not in returns:
                written[job.number] = self._run(job, partial(finish, population, run))
        if all(read_result(job.folder) is not None for job in group):  # else what could not be written may be yet
            _forget(group)
        return written

    def _alone(self, reason: str, cfg: Any) -> Any:
        """Run a job as any other launcher would, and note in its train.log why."""
        log.info("runs by itself, and in no population: %s", reason)
        return self.task_function(cfg)

    def _failed(self, group: Sequence[Job], error: Exception) -> dict[int, JobReturn]:
        """Leave the reason with every one of them."""

        def fail(job: Job, _: Any) -> None:
            write_result(failure(error, job.config), job.config, job.folder)
            raise error

        return {job.number: self._run(job, partial(fail, job)) for job in group}

    def _run(self, job: Job, task_function: TaskFunction) -> JobReturn:
        """What Hydra does around a job: its folder, its log, its `.hydra`."""
        return run_job(
            hydra_context=self.hydra_context,
            task_function=task_function,
            config=job.cfg,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


class _Keep(Checkpoint):
    """Keeps the population's one checkpoint up to date, at the ends of epochs.

    Of many short epochs it writes only some: they may not take longer to write than to compute.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.next = path, 0.0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write it, if that is due."""
        if (began := time.perf_counter()) >= self.next:
            trainer.save_checkpoint(self.path)
            self.next = time.perf_counter() + (time.perf_counter() - began) / SHARE_OF_TIME


class _Note(Callback):
    """Tells at every epoch how far a population is."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        of = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        self.note(f"{len(pl_module.going)} in one population, epoch {trainer.current_epoch + 1}{of}")


def train_population(group: Sequence[Job], dataset: Dataset, note: Callable[[str], None]) -> Population:
    """Train the jobs of a group together, from where they were cut off if they were.

    Returns:
        The population, tested.

    Raises:
        UserError: a setting that this machine or Lightning refuses.
    """
    configs = [settled(job.config, dataset.facts) for job in group]
    first = replace(configs[0], callbacks=replace(configs[0].callbacks, progress_bar=False))
    L.seed_everything(first.seed, workers=True, verbose=False)
    data = build_data(first, dataset)
    seeds = [config.seed for config in configs]
    data.shuffle_seed = seeds if len(set(seeds)) > 1 else seeds[0]
    members = [member(config, job.config, job.folder, data) for config, job in zip(configs, group, strict=True)]
    data.evaluation_batch = rows_at_once(members)
    population = Population(members, data)
    folder = _folder(group)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / MEMBERS, json.dumps([_name(job) for job in group]))
    checkpoint = folder / "last.ckpt"
    callbacks = [_Note(note), _Keep(checkpoint)]
    trainer = build_trainer(first, folder, callbacks=callbacks, logger=False)
    with _threads_for(population, data):
        resumed = newest(folder)
        trainer.fit(population, datamodule=data, ckpt_path=resumed, weights_only=True)
        trainer.save_checkpoint(checkpoint)  # what is left is to write a folder for each run
        trainer.test(population, datamodule=data, verbose=False)
    return population


@contextlib.contextmanager
def _threads_for(population: Population, data: InMemoryData) -> Iterator[None]:
    """Compute with one thread what is too small for several; see `FOR_ONE_THREAD`."""
    threads, rows = torch.get_num_threads(), len(data.rows["train"].x)
    batch = rows if data.settings.batch_size == "full" else min(rows, data.settings.batch_size)
    if len(population.members) * batch * max(population.model.sizes) < FOR_ONE_THREAD:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def finish(population: Population, run: int, _: Any) -> float:
    """Write what a run of its own would have written, result.json last; returns its objective.

    Raises:
        UserError: the run ended with a wrong gradient, or its files cannot be written.
    """
    each = population.members[run]
    log.info("one of a population of %d runs, which trained for %.1f s", len(population.members), population.seconds)
    folder, config = each.folder, in_sweep(each.config, each.folder)
    files: tuple[tuple[Literal["best", "last"], str], ...] = (("best", BEST), ("last", LAST))
    for which, name in files:
        if (contents := population.checkpoint(run, which)) is not None:
            WholeFiles().save_checkpoint(contents, folder / name)
    assert each.status is not None
    rows = population.rows(run)
    tested = {name: values[run] for name, values in population.tested.items()} if each.best is not None else {}
    loggers, _ = build_loggers(config, folder)
    for logger in loggers:
        for row in rows:
            logger.log_metrics({name: value for name, value in row.items() if name != "step"}, int(row["step"]))
        logger.log_metrics(tested | {"epoch": each.epochs}, population.last_steps[-1] + 1)
        logger.finalize("success")
    for epoch, histograms in population.histograms.items():
        if epoch < each.epochs:
            of_run = {name: kept for name, runs in histograms.items() if (kept := runs[run]) is not None}
            log_histograms(loggers, of_run, epoch, population.last_steps[epoch])
    if (best := population.checkpoint(run, "best")) is not None:
        each.module.load_state_dict(best["state_dict"])
        findings = find(each.module, population.in_memory)
        findings.write(folder)
        log_findings(loggers, findings, folder / BEST, best_epoch(rows, config.objective) | tested)
        if wanted(config.plots, alone=False):
            draw(rows, findings, folder / "plots")
    close_loggers(loggers, 1 if each.status == "failed" else 0)
    result = Result(
        status=each.status,
        objective={"name": config.objective, "value": best_objective(rows, config.objective)},
        metrics=final_metrics(rows) | tested,
        best=best_epoch(rows, config.objective),
        parameters=sum(parameter.numel() for parameter in each.module.parameters()),
        seconds=round(population.seconds / len(population.members), 3),
        population=len(population.members),
        steps=population.steps(run),
        epochs=each.epochs,
        device=device_name(population.trainer),
        audit=None if each.audit is None else each.audit.summary(),
        error=each.error,
        chosen=chosen(each.composed, config),
    )
    write_result(result, each.composed, folder)
    if wanted(config.report, alone=False):
        leave_report(folder)
    if each.status == "failed":
        raise UserError(str(each.error))
    return worst_objective(config.objective) if each.status == "diverged" else float(result.objective["value"])


def most_runs(config: TrainConfig, dataset: Dataset) -> int:
    """How many runs like this one fit into the free memory, with room to spare."""
    sizes = layer_sizes(config, dataset.facts)
    samples = len(dataset.rows["train"].x)
    batch = samples if config.data.batch_size == "full" else min(samples, config.data.batch_size)
    states = {"sgd": 1, "adam": 2, "adamw": 2}[config.optimizer.name]
    itemsize = 8 if PRECISIONS.get(str(config.trainer.precision)) == torch.float64 else 4
    on_gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    free = torch.cuda.mem_get_info()[0] if on_gpu else free_memory()
    return max(1, int(SHARE_OF_MEMORY * free / bytes_a_run(sizes, batch, samples, states, itemsize)))


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)


def _load(job: Job) -> Dataset:
    return load(job.config.data, job.config.model.hidden_activation, job.config.model.output_activation)


def completed(job: Job) -> JobReturn:
    """What a job that is complete returned."""
    log.info("complete already: %s", job.folder)
    record = job.record
    assert record is not None
    return JobReturn(
        overrides=list(job.overrides),
        cfg=job.cfg,
        working_dir=str(job.folder),
        status=JobStatus.COMPLETED,
        _return_value=objective_of(record),
    )


def _name(job: Job) -> list[str]:
    return [str(job.number), job.hash]


def _folder(group: Sequence[Job]) -> Path:
    key = hashlib.sha256(json.dumps([_name(job) for job in group]).encode()).hexdigest()[:12]
    return Path(str(group[0].cfg.hydra.sweep.dir)).absolute() / POPULATIONS / key


def started(jobs: Sequence[Job]) -> list[list[Job]]:
    """The populations that were cut off, with the members that they had."""
    known = {tuple(_name(job)): job for job in jobs}
    root = Path(str(jobs[0].cfg.hydra.sweep.dir)).absolute() / POPULATIONS
    groups = []
    for file in sorted(root.glob(f"*/{MEMBERS}")):
        names = [tuple(each) for each in read_whole(file) or ()]
        if names and all(each in known for each in names):
            groups.append([known[each] for each in names])
    return groups


def _forget(group: Sequence[Job]) -> None:
    """Remove what a population kept while it trained."""
    folder = _folder(group)
    shutil.rmtree(folder)
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()
