"""The train task: fit, test the best checkpoint, and write the run's folder."""

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
from backhand.config.lock import LOCK_FILE, created_parents, lock_folder
from backhand.config.process import garbage_collection
from backhand.config.schema import AUTO, TrainConfig
from backhand.config.validation import check_interval, resolve_auto
from backhand.data.module import InMemoryData, RunData, load
from backhand.errors import UserError
from backhand.reporting.loggers import build_loggers
from backhand.reporting.result import Result, Status, best_row, objective_of, read_result
from backhand.reporting.terminal import print_summary
from backhand.training.checkpoint import (
    BEST,
    LAST,
    LastCheckpoint,
    check_fits,
    checking_contents,
    newest_checkpoint,
    read,
    resume_state,
)
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

# Sizes below which a second thread saves about as much time as it costs: numbers in a layer's output of all runs, or
# parameters of a single run. With 64 runs of 64-32-10 a step takes 1.2 ms on two idle cores and 1.4 on one; if another
# program uses one of the cores, 128 ms on two threads. A step of digits then takes 100 ms on two threads, and 2 on one.
OUTPUTS_FOR_ONE_THREAD, PARAMETERS_FOR_ONE_THREAD = 2**20, 100_000


def train(composed: TrainConfig, folder: Path, sweep: Path | None = None) -> float:
    """Train one network, in this process or, if the run needs several, in processes that are started for it.

    Args:
        composed: the configuration as the user gave it. With `ckpt_path=auto`, or without a `ckpt_path` in a sweep, the
            run is resumed from the last checkpoint of its folder.
        folder: the run's folder.
        sweep: the folder of the sweep, if the run is a job of one.

    Returns:
        The best value of `objective`, for Hydra's sweepers.

    Raises:
        UserError: a setting does not fit the machine, Lightning or the run's folder; or a process failed.
        SystemExit: the run was interrupted.
    """
    standalone, config = sweep is None, composed if sweep is None else in_sweep(composed, sweep)
    quiet_lightning()
    quiet_others()
    if multiprocessing.get_start_method(allow_none=True) == "loky":  # joblib's start method, which only joblib can use
        multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    with Interruption().handling_signals() as interruption, ExitStack() as held:
        if not standalone and is_first():
            held.callback(lock_folder(folder, "hydra.sweep.dir"))
        if is_first():
            log_overrides()
        try:
            if config.ckpt_path == AUTO or (config.ckpt_path is None and not standalone):
                config = resumed(config, folder)
            # For the number of processes; and a setting that Lightning refuses must not leave a W&B run behind.
            trainer = build_trainer(config, folder, callbacks=[], logger=False)
            if (count := processes_to_start(trainer)) > 0:
                return train_in_processes(count, config, folder, composed, standalone)
            with own_code(config, folder):
                return Run(config, folder, composed, interruption).train(standalone)
        except (KeyboardInterrupt, SystemExit):
            raise SystemExit(interruption.exit_status) from None
        except Exception as error:
            if not standalone and not isinstance(error, UserError):
                log.exception("the job failed")
            # The other processes only see the consequence of the failure.
            if isinstance(error, ProcessError) or (not standalone and read_result(folder) is None):
                write(failure(error, composed), composed, folder)
            if standalone and isinstance(error, UserError) and not isinstance(error, OwnCodeError) and is_first():
                _remove_unused(folder)
            raise


def resumed(config: TrainConfig, folder: Path) -> TrainConfig:
    """The configuration with the newest undamaged checkpoint of the run's folder, if there is one, as `ckpt_path`.

    Raises:
        UserError: all checkpoints are damaged.
    """
    path = newest_checkpoint((shared_folder(folder) / LAST).parent)
    return replace(config, ckpt_path=None if path is None else str(path))


def in_sweep(config: TrainConfig, sweep: Path) -> TrainConfig:
    """The configuration of one job: no progress bar, its W&B run in the sweep's group, no histograms by default."""
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
    """One run: its parts and its outcome.

    Args:
        config: the configuration. If `ckpt_path` is a checkpoint of `folder`, the run is resumed as if it had never
            stopped.
        folder: the run's folder.
        composed: the configuration as the user gave it, whose hash is stored in the folder; `config` if None.
        interruption: tells whether a signal was received; None if signals are not handled.
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
        self.config = config = resolve_auto(config, dataset.info)
        state = None
        if config.ckpt_path is not None:
            checkpoint = Path(config.ckpt_path)
            if checkpoint.resolve().parent == (shared_folder(folder) / LAST).parent.resolve():
                state = resume_state(checkpoint, self.composed, dataset)
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
            self.module.double()  # Lightning does so only after loading a checkpoint, whose values would be rounded
        rows, wandb_id = [], None
        if state is not None:
            rows = [row for row in state["history"] if row["epoch"] >= state["first_epoch"]]
            wandb_id = state["wandb_id"]
        self.loggers, self.table = build_loggers(config, folder, rows, wandb_id)
        every, identity = config.checkpoint.every_n_steps, (self.composed, dataset, state)
        self.last = LastCheckpoint(folder / LAST, every, *identity, self.loggers, self.interruption)
        self.callbacks = [*own, best_checkpoint(config, folder), EpochLines(), self.last]
        self.trainer = build_trainer(config, folder, callbacks=self.callbacks, logger=self.loggers)
        self.outcome = Outcome(config, self.composed, folder, self.table.rows, {}, self.loggers, standalone=True)

    def train(self, standalone: bool = True) -> float:
        """Fit, test, and write the outcome, with result.json last, even if the run fails.

        Args:
            standalone: whether the run is not part of a sweep, so that its outcome is printed.
        """
        self.outcome.standalone = standalone
        if self.trainer.is_global_zero:
            log_setup(self.config, self.data, self.module, device_name(self.trainer), self.trainer.world_size)
        try:
            with threads_for(self.module, self.data), garbage_collection(), self._restoring():
                self.trainer.fit(self.module, datamodule=self.data, ckpt_path=self.config.ckpt_path, weights_only=True)
                self._test()
            if self.trainer.is_global_zero and self.outcome.needs_error_analysis:
                self.outcome.write_error_analysis(self.module, self.data)
        except (KeyboardInterrupt, SystemExit):
            # Lightning cleans up after Ctrl-C, and then raises SystemExit(1).
            self._leave("interrupted", None)
            raise SystemExit(self.interruption.exit_status) from None
        except BaseException as error:
            if self.interruption.received is not None:  # the first process has ended, and this one lost it
                raise SystemExit(self.interruption.exit_status) from None
            if is_out_of_memory(error):
                error = UserError("out of memory while training; try a smaller data.batch_size or model.hidden")
            if isinstance(error, MisconfigurationException):  # a setting that does not fit the data
                error = UserError(f"trainer: {' '.join(str(error).split())}")
            with suppress(UserError):  # if result.json cannot be written, report the first error
                self._leave("failed", failure(error, self.config).error)
            raise error from None if isinstance(error, UserError) else error.__cause__
        result = self._leave(*status_of(self.module.progress.endings[0], self.folder))
        if standalone and self.trainer.is_global_zero:
            best = best_row(self.table.rows, self.config.objective)
            print_summary(result, self.folder, None if best is None else int(best["epoch"]) + 1)
        return objective_of(asdict(result))

    @contextmanager
    def _restoring(self) -> Iterator[None]:
        """Turn an exception while Lightning restores a checkpoint into a `UserError` about the checkpoint."""
        try:
            yield
        except Exception as error:
            if self.config.ckpt_path is None or self.last.is_restored or is_out_of_memory(error):
                raise
            with checking_contents(Path(self.config.ckpt_path)):
                raise

    def _test(self) -> None:
        self.trainer.strategy.barrier()
        best = Path(self.trainer.strategy.broadcast(str(self.folder))) / BEST  # the first process's
        if best.exists():
            self.module.load_state_dict(read(best)["state_dict"])
        self.trainer.test(self.module, datamodule=self.data, verbose=False)
        metrics = self.trainer.callback_metrics
        self.outcome.test_metrics = {name: float(value) for name, value in metrics.items() if "test/" in name}

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
    """Send Lightning's warnings to train.log; drop its notices, and warnings that do not apply here."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # `train_log` logs the setup and the end of a run
        logging.getLogger(name).handlers.clear()  # Hydra's handlers take over
        logging.getLogger(name).propagate = True  # off if Lightning was imported before Hydra set up its handlers
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # compiling warns that there is no CUDA
    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):  # `processes.reason_of` reports failures
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    for message in (
        ".*does not have many workers.*",  # batches are one indexing operation; workers would slow them down
        ".*smaller than the logging interval.*",  # metrics are logged by epoch
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # in Lightning's own code
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*The dirpath has changed from.*",  # a resumed run has a folder of its own
        ".*`srun` command is available.*",  # a Slurm on the machine is no reason to use it
        ".*sync_dist=True.*",  # the sums are already reduced over processes
        ".*Grad strides do not match bucket view strides.*",  # a narrow layer's gradients have other strides
        ".*could not find the monitored key.*",  # before the first validation
        ".*You requested to overfit.*",  # the order of the samples does not change then
        ".*`training_step` returned `None`.*",  # a compiled step has no loss to differentiate
        ".*trying to infer the `batch_size`.*",
        ".*Total length of `list` across ranks is zero.*",  # data of the user's own without a test split
    ):
        warnings.filterwarnings("ignore", message)


def _remove_unused(folder: Path) -> None:
    """Remove the folder that Hydra made for a refused run, unless it holds other files."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {".hydra", "train.log", LOCK_FILE}:
        shutil.rmtree(folder)
        for parent in created_parents(folder):
            if any(parent.iterdir()):
                break
            parent.rmdir()


@contextmanager
def threads_for(module: LightningMLP, data: RunData) -> Iterator[None]:
    """Use one thread in the body if the computation is too small for several; see `OUTPUTS_FOR_ONE_THREAD`."""
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
    """Whether memory ran out; torch has a class of its own only for a GPU's memory."""
    says_so = "allocate memory" in str(error) or "out of memory" in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and says_so)


def device_name(trainer: L.Trainer) -> str:
    """The name of the device in result.json."""
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
