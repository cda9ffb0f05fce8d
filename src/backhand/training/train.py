"""The train task: fit, test the best checkpoint, and leave a folder that says what happened."""

import logging
import multiprocessing
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from backhand.checking.audit import Audit
from backhand.config.lock import HOLDER, hold, made_above
from backhand.config.process import collecting
from backhand.config.schema import AUTO, TrainConfig
from backhand.config.validation import check_interval, settled
from backhand.data.module import InMemoryData, RunData, load
from backhand.errors import UserError
from backhand.reporting.loggers import build_loggers
from backhand.reporting.result import Result, Status, best_row, objective_of, read_result
from backhand.reporting.terminal import print_summary
from backhand.training.checkpoint import BEST, LAST, LastCheckpoint, check_fits, made_here, newest, read, state_of
from backhand.training.interruption import Interruption
from backhand.training.module import LightningMLP
from backhand.training.outcome import Outcome, failure, status_of, write
from backhand.training.own_code import OwnCodeError, own_code
from backhand.training.parts import (
    best_checkpoint,
    build_callbacks,
    build_data,
    build_module,
    build_trainer,
    check_own_parts,
)
from backhand.training.processes import (
    ProcessError,
    is_first,
    processes_to_start,
    quiet_others,
    shared_folder,
    train_in_processes,
)
from backhand.training.train_log import EpochLines, log_overrides, log_setup

log = logging.getLogger(__name__)

# Where threads wait for each other about as long as they save: below so many numbers in a layer's output of all runs,
# or so many parameters of the only one. With 64 runs of 64-32-10 a step takes 1.2 ms on two idle cores and 1.4 on one;
# where another program has one of the two cores, 128 ms on two threads. A step of digits then takes 100 ms, and 2 on
# one.
OUTPUTS_FOR_ONE_THREAD, PARAMETERS_FOR_ONE_THREAD = 2**20, 100_000


def train(composed: TrainConfig, folder: Path, sweep: Path | None = None) -> float:
    """Train one network: here, or in processes of its own where the run needs several.

    Args:
        composed: the configuration as the user gave it. With `ckpt_path=auto` the run is resumed from the last
            checkpoint of its folder; so is a sweep's job without a `ckpt_path`.
        folder: where it writes.
        sweep: the folder of the sweep that it is a job of.

    Returns:
        The best value of `objective`, for Hydra's sweepers.

    Raises:
        UserError: what this machine, Lightning or the run's folder refuses; a process that failed.
        SystemExit: the run was interrupted.
    """
    alone, config = sweep is None, composed if sweep is None else in_sweep(composed, sweep)
    quiet_lightning()
    quiet_others()
    if multiprocessing.get_start_method(allow_none=True) == "loky":  # joblib's, by which only joblib can start any
        multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    with Interruption().watched() as interruption, ExitStack() as held:
        if not alone and is_first():
            held.callback(hold(folder, "hydra.sweep.dir"))
        if is_first():
            log_overrides()
        try:
            if config.ckpt_path == AUTO or (config.ckpt_path is None and not alone):
                config = resumed(config, folder)
            # It says how many processes there are to be; and what it refuses must not leave a W&B run behind.
            trainer = build_trainer(config, folder, callbacks=[], logger=False)
            if (count := processes_to_start(trainer)) > 0:
                return train_in_processes(count, config, folder, composed, alone)
            with own_code(config, folder):
                return Run(config, folder, composed, interruption).train(alone)
        except (KeyboardInterrupt, SystemExit):
            raise SystemExit(interruption.exit_status) from None
        except Exception as error:
            if not alone and not isinstance(error, UserError):
                log.exception("the job failed")
            # Of a process that failed the others know the consequence alone.
            if isinstance(error, ProcessError) or (not alone and read_result(folder) is None):
                write(failure(error, composed), composed, folder)
            if alone and isinstance(error, UserError) and not isinstance(error, OwnCodeError) and is_first():
                _remove_unused(folder)
            raise


def resumed(config: TrainConfig, folder: Path) -> TrainConfig:
    """The configuration with the newest whole checkpoint of the run's own folder, if it has one, as its `ckpt_path`.

    Raises:
        UserError: it has some, and none of them is whole.
    """
    path = newest((shared_folder(folder) / LAST).parent)
    return replace(config, ckpt_path=None if path is None else str(path))


def in_sweep(config: TrainConfig, sweep: Path) -> TrainConfig:
    """The configuration of one job: no progress bar of its own, its W&B run in the sweep's group, and no histograms."""
    wandb = config.logger.wandb
    if wandb is not None:
        every = wandb.histograms_every if wandb.media else None
        wandb = replace(wandb, group=wandb.group or "/".join(sweep.parts[-2:]), histograms_every=every)
    return replace(
        config,
        callbacks=replace(config.callbacks, progress_bar=False),
        logger=replace(config.logger, wandb=wandb),
    )


class Run:
    """One run: what it trains with, and what has become of it so far.

    Args:
        config: its configuration. Where `ckpt_path` is a checkpoint of `folder` itself, the run is resumed as if it had
            never stopped.
        folder: where it writes.
        composed: the configuration as the user gave it, whose hash the folder carries; `config` if None.
        interruption: what it may be asked while it trains; nothing if None.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        composed: TrainConfig | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        self.config, self.folder, self.composed = config, folder, composed or config
        self.interruption = interruption or Interruption()
        L.seed_everything(config.seed, workers=True, verbose=False)
        check_own_parts(config)
        own = build_callbacks(config)
        dataset = load(config.data, config.model.hidden_activation, config.model.output_activation)
        self.config = config = settled(config, dataset.facts)
        state = None
        if config.ckpt_path is not None:
            checkpoint = Path(config.ckpt_path)
            if checkpoint.resolve().parent == (shared_folder(folder) / LAST).parent.resolve():
                state = state_of(checkpoint, self.composed, dataset)
            else:
                check_fits(checkpoint, config, dataset)
        self.data = build_data(config, dataset)
        if isinstance(self.data, InMemoryData):
            check_interval(config.trainer, len(self.data.train_dataloader()))
        try:
            self.module = build_module(config, self.data)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(f"model.hidden={config.model.hidden}: the network does not fit into memory") from None
        if self.data.dtype == torch.float64:
            self.module.double()  # Lightning does so after it has loaded a checkpoint, which would then be rounded
        rows, wandb_id = [], None
        if state is not None:
            rows = [row for row in state["history"] if row["epoch"] >= state["first_epoch"]]
            wandb_id = state["wandb_id"]
        self.loggers, self.table = build_loggers(config, folder, rows, wandb_id)
        every, belonging = config.checkpoint.every_n_steps, (self.composed, dataset, state)
        self.last = LastCheckpoint(folder / LAST, every, *belonging, self.loggers, self.interruption)
        self.callbacks = [*own, best_checkpoint(config, folder), EpochLines(), self.last]
        self.trainer = build_trainer(config, folder, callbacks=self.callbacks, logger=self.loggers)
        self.outcome = Outcome(config, self.composed, folder, self.table.rows, {}, self.loggers, alone=True)

    def train(self, alone: bool = True) -> float:
        """Fit, test, draw, print, and write result.json last, whichever way it ends.

        Args:
            alone: whether it is a run by itself, whose outcome is to be shown, or a sweep's.
        """
        self.outcome.alone = alone
        if self.trainer.is_global_zero:
            log_setup(self.config, self.data, self.module, device_name(self.trainer), self.trainer.world_size)
        try:
            with threads_for(self.module, self.data), collecting(), self._restoring():
                self.trainer.fit(self.module, datamodule=self.data, ckpt_path=self.config.ckpt_path, weights_only=True)
                self._test()
            if self.trainer.is_global_zero and self.outcome.needs_error_analysis:
                self.outcome.write_error_analysis(self.module, self.data)
        except (KeyboardInterrupt, SystemExit):
            # Lightning turns Ctrl-C into SystemExit(1) after it has put its affairs in order.
            self._leave("interrupted", None)
            raise SystemExit(self.interruption.exit_status) from None
        except BaseException as error:
            if self.interruption.asked is not None:  # of several processes the first has ended, and left this one
                raise SystemExit(self.interruption.exit_status) from None
            if is_out_of_memory(error):
                error = UserError("out of memory while training; try a smaller data.batch_size or model.hidden")
            if isinstance(error, MisconfigurationException):  # what it could not know before it had seen the data
                error = UserError(f"trainer: {' '.join(str(error).split())}")
            with suppress(UserError):  # where it cannot be written either, the first reason is the one to tell
                self._leave("failed", failure(error, self.config).error)
            raise error from None if isinstance(error, UserError) else error.__cause__
        result = self._leave(*status_of(self.module.progress.endings[0], self.folder))
        if alone and self.trainer.is_global_zero:
            best = best_row(self.table.rows, self.config.objective)
            print_summary(result, self.folder, None if best is None else int(best["epoch"]) + 1)
        return objective_of(asdict(result))

    @contextmanager
    def _restoring(self) -> Iterator[None]:
        """Say of what Lightning stumbles over in a checkpoint that it is not one of this program's."""
        try:
            yield
        except Exception as error:
            if self.config.ckpt_path is None or self.last.is_restored or is_out_of_memory(error):
                raise
            with made_here(Path(self.config.ckpt_path)):
                raise

    def _test(self) -> None:
        self.trainer.strategy.barrier()
        best = Path(self.trainer.strategy.broadcast(str(self.folder))) / BEST  # the first process's
        if best.exists():
            self.module.load_state_dict(read(best)["state_dict"])
        self.trainer.test(self.module, datamodule=self.data, verbose=False)
        metrics = self.trainer.callback_metrics
        self.outcome.tested = {name: float(value) for name, value in metrics.items() if "test/" in name}

    def _leave(self, status: Status, error: str | None) -> Result:
        audit = next((each for each in self.callbacks if isinstance(each, Audit)), None)
        on_nan = self.module.on_nan
        return self.outcome.leave(
            status,
            error,
            parameters=sum(each.numel() for each in self.module.parameters()),
            seconds=round(self.last.seconds, 3),
            steps=self.trainer.global_step,
            epochs=self.trainer.current_epoch,
            skipped=0 if on_nan is None else on_nan.skipped[0],
            device=device_name(self.trainer),
            audit=None if audit is None else audit.summary(),
        )


def quiet_lightning() -> None:
    """Keep Lightning's warnings in train.log, drop its notices, and the warnings that this program has an answer to."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what a run trains with and why it ends, `train_log` says
        logging.getLogger(name).handlers.clear()  # what is left goes to Hydra's handlers
        logging.getLogger(name).propagate = True  # where it was imported before there were any, it keeps to itself
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # compiling tells that there is no CUDA
    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):  # why processes ended is said by us
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    for message in (
        ".*does not have many workers.*",  # batches are one indexing operation; workers would slow them down
        ".*smaller than the logging interval.*",  # metrics are logged by epoch
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # Lightning's own affair
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*The dirpath has changed from.*",  # a resumed run has a folder of its own
        ".*`srun` command is available.*",  # a Slurm on the machine is no reason to use it
        ".*sync_dist=True.*",  # the sums are already reduced over processes
        ".*Grad strides do not match bucket view strides.*",  # those of a narrow layer lie the other way round
        ".*could not find the monitored key.*",  # before the first validation
        ".*You requested to overfit.*",  # the order of the first epoch is every epoch's
        ".*`training_step` returned `None`.*",  # a compiled step has no loss to differentiate
        ".*trying to infer the `batch_size`.*",
        ".*Total length of `list` across ranks is zero.*",  # data of the user's own without a test split
    ):
        warnings.filterwarnings("ignore", message)


def _remove_unused(folder: Path) -> None:
    """Remove the folder that Hydra made for a run that was refused, unless something else is in it."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {".hydra", "train.log", HOLDER}:
        shutil.rmtree(folder)
        for parent in made_above(folder):
            if any(parent.iterdir()):
                break
            parent.rmdir()


@contextmanager
def threads_for(module: LightningMLP, data: RunData) -> Iterator[None]:
    """Compute with one thread what is too small for several; see `OUTPUTS_FOR_ONE_THREAD`."""
    threads, runs = torch.get_num_threads(), module.hparams["runs"]
    is_small = sum(each.numel() for each in module.parameters()) < PARAMETERS_FOR_ONE_THREAD
    if runs is not None:
        assert isinstance(data, InMemoryData)
        rows = len(data.rows["train"].x)
        batch = rows if data.settings.batch_size == "full" else min(rows, data.settings.batch_size)
        is_small = runs * batch * max(module.model.sizes) < OUTPUTS_FOR_ONE_THREAD
    if is_small:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is memory that there was too little of; torch has an exception of its own for a GPU's alone."""
    told = "allocate memory" in str(error) or "out of memory" in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and told)


def device_name(trainer: L.Trainer) -> str:
    """What result.json calls the device."""
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
