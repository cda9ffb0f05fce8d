"""Checkpoints: written atomically, read as plain data (`weights_only=True`), never as pickled objects."""

import io
import logging
import os
import re
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, StochasticWeightAveraging
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from backhand.checking.audit import Audit
from backhand.config.files import atomic_write
from backhand.config.schema import TrainConfig
from backhand.config.stored import check_archive
from backhand.config.validation import layer_sizes
from backhand.data.dataset import Dataset
from backhand.errors import UserError
from backhand.reporting.epochs import Epochs
from backhand.reporting.loggers import wandb_id
from backhand.reporting.result import backward_pass, config_hash, mismatch
from backhand.training.interruption import Interruption

log = logging.getLogger(__name__)

# Batches after which the processes of a run tell each other whether one of them received a signal.
BATCHES_BETWEEN_CHECKS = 10
# The share of the training time that checkpoints at the ends of epochs may take.
TIME_SHARE = 0.05

BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"
# Tensors may share storage, so all of them together may be larger than the file, up to this factor.
MAX_EXPANSION = 4
# The last.ckpt before the present one, for the case that the present one is damaged.
PREVIOUS = "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file and renames it, so that a complete one exists at any moment.

    The previous `last.ckpt` is kept as `previous.ckpt`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the checkpoint to a temporary file, flush it to the disk, and rename it.

        Raises:
            UserError: the file cannot be written, or the run's folder was removed.
        """
        path = Path(path)
        contents = io.BytesIO()  # torch's own writer hides the system's error message
        torch.save(checkpoint, contents)
        try:
            in_run_folder = path.name in (Path(LAST).name, Path(BEST).name)  # a removed run folder is not made again
            path.parent.mkdir(parents=not in_run_folder, exist_ok=True)
            if path.name == Path(LAST).name:
                _keep_previous(path)
            atomic_write(path, contents.getbuffer())
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def _keep_previous(path: Path) -> None:
    """Keep the checkpoint that is about to be replaced as `previous.ckpt`."""
    previous = path.with_name(PREVIOUS)
    aside = path.with_name(f"{PREVIOUS}.tmp")
    aside.unlink(missing_ok=True)
    if not path.exists():
        return
    try:
        os.link(path, aside)
        aside.replace(previous)
    except OSError:  # a file system without hard links
        path.replace(previous)


class LastCheckpoint(Checkpoint):
    """Saves `last.ckpt` at the ends of epochs, every `every_n_steps` steps, and when the run is interrupted.

    The first and the last epoch have a checkpoint; between them, writing takes at most `TIME_SHARE` of the time. Within
    an epoch it waits until no gradients are accumulated, because a checkpoint does not store them, and until no
    validation follows at once, because Lightning skips that validation when it resumes.

    A run that is resumed in its own folder continues as if it had never stopped. A run in another folder that starts
    from the checkpoint takes the weights, the optimizer's state, and the metrics of the epochs so far.

    Args:
        path: the file.
        every_n_steps: optimizer steps between two checkpoints; None for the ends of epochs only.
        config: the configuration, whose hash each checkpoint stores.
        dataset: the data, whose digest each checkpoint stores.
        resumed: what `resume_state` returned; None for a new run.
        loggers: the run's.
        interruption: tells whether a signal was received; None if signals are not handled.
    """

    def __init__(
        self,
        path: Path,
        every_n_steps: int | None,
        config: TrainConfig,
        dataset: Dataset,
        resumed: dict[str, Any] | None,
        loggers: Sequence[Logger] = (),
        interruption: Interruption | None = None,
    ) -> None:
        self.path, self.every_n_steps, self.interruption = path, every_n_steps, interruption or Interruption()
        self.hash, self.backward_pass = config_hash(config), backward_pass(config)
        self.digest, self.loggers, self.resumed = dataset.digest, loggers, resumed
        self.seconds_before = 0.0 if resumed is None else resumed["seconds"]
        self.first_epoch = None if resumed is None else resumed["first_epoch"]
        self.started_at: float | None = None
        self.is_restored = False
        self.saved_step = 0
        self.is_checked = False
        self.next_save = 0.0  # no checkpoint at the end of an epoch before this time

    @property
    def seconds(self) -> float:
        """Training time so far, including the time before the run was resumed."""
        return self.seconds_before + (0.0 if self.started_at is None else time.perf_counter() - self.started_at)

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.started_at = time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Start to watch for signals; a run from another run's checkpoint inherits neither its end nor its audits."""
        self.is_restored, self.saved_step = True, trainer.global_step
        self.interruption.install()
        self.interruption.training = True
        if self.resumed is None:
            self.first_epoch = trainer.current_epoch
            pl_module.progress.forget_endings()
            for audit in (each for each in trainer.callbacks if isinstance(each, Audit)):  # type: ignore[attr-defined]
                audit.forget()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        every, step = self.every_n_steps, trainer.global_step
        is_due = every is not None and step // every > self.saved_step // every
        interrupted = self._is_interrupted(trainer, batch_idx)
        if not (is_due or interrupted) or trainer.is_last_batch or is_validated_next(trainer, batch_idx):
            return
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._save(trainer, interrupted)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        interrupted = self._is_interrupted(trainer)
        is_over = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        is_due = trainer.strategy.broadcast(is_over or time.perf_counter() >= self.next_save)
        if interrupted or (is_due and trainer.global_step > self.saved_step):
            began = time.perf_counter()
            self._save(trainer, interrupted)
            self.next_save = time.perf_counter() + (time.perf_counter() - began) / TIME_SHARE

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Save the averaged weights that `StochasticWeightAveraging` sets after the last epoch."""
        self.interruption.training = False  # no step is left to wait for
        if any(isinstance(each, StochasticWeightAveraging) for each in trainer.callbacks):  # type: ignore[attr-defined]
            self._save(trainer, interrupted=False)

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.interruption.training = False

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        self.seconds_before, self.started_at = self.seconds, None

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to resume the run, to best.ckpt too.

        Raises:
            UserError: the `state_dict` of a callback or of the data is not plain data, so that the checkpoint could not
                be loaded again.
        """
        if not self.is_checked:
            for name, state in {**checkpoint.get("callbacks", {}), "data": checkpoint.get("CustomData")}.items():
                _check_plain(name, state)
            self.is_checked = True
        checkpoint["own_folder"] = {
            "config_hash": self.hash,
            "backward_pass": self.backward_pass,
            "data": self.digest,
            "first_epoch": self.first_epoch,
            "seconds": self.seconds,
            "wandb_id": wandb_id(self.loggers),
        }

    def _is_interrupted(self, trainer: L.Trainer, batch_idx: int = -1) -> bool:
        """Whether the run must end here: all of its processes do if one of them received a signal."""
        received = self.interruption.received is not None
        if trainer.world_size == 1:
            return received
        if (batch_idx + 1) % BATCHES_BETWEEN_CHECKS:
            return False
        return trainer.strategy.reduce_boolean_decision(received, all=False)

    def _save(self, trainer: L.Trainer, interrupted: bool) -> None:
        if interrupted:
            self.interruption.cancel_timer()
        trainer.save_checkpoint(self.path)
        self.saved_step = trainer.global_step
        if interrupted:
            raise KeyboardInterrupt


def _check_plain(name: str, state: Any) -> None:
    """Refuse a state that `torch.load(weights_only=True)` cannot read."""
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # whatever pickle and the unpickler of plain data raise
        raise UserError(
            f"{name}: its state_dict must be numbers, strings, lists, dicts and tensors, because checkpoints are "
            "loaded as plain data"
        ) from None


def is_validated_next(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether a validation follows this batch of the epoch."""
    every, epochs = trainer.val_check_batch, trainer.check_val_every_n_epoch
    if every is None or every == float("inf"):
        return False
    if epochs is None:  # the count of batches continues across epochs
        return (trainer.fit_loop.total_batch_idx + 1) % every == 0
    return (trainer.current_epoch + 1) % epochs == 0 and (batch_idx + 1) % every == 0


# What `LastCheckpoint` adds to a checkpoint, besides the digests.
RESUME_KEYS: dict[str, Any] = {"first_epoch": int, "seconds": (int, float), "wandb_id": (str, type(None))}


def resume_state(path: Path, config: TrainConfig, dataset: Dataset) -> dict[str, Any]:
    """What `LastCheckpoint` stored in a checkpoint, and as `history` the metrics of its epochs.

    Raises:
        UserError: the checkpoint belongs to another configuration or other data, or this version did not write it.
    """
    contents = read(path)
    with checking_contents(path):
        state = contents["own_folder"]
        if whose := mismatch({name: state[name] for name in ("config_hash", "backward_pass")}, config):
            raise UserError(f"{path}: belongs to {whose}, and nothing is overwritten; name another folder")
        same = contents["hyper_parameters"].get("preprocessing") == dataset.preprocessing
        if not same or state["data"] != dataset.digest:
            raise UserError(f"{path}: the data have changed since; train on them in another folder")
        for name, kinds in RESUME_KEYS.items():
            if not isinstance(state[name], kinds):
                raise TypeError(f"{name} is {state[name]!r:.80}")
        if not re.fullmatch(r"[^/\\#?%:]{1,128}", state["wandb_id"] or "none"):  # W&B would refuse it later
            raise ValueError(f"wandb_id is {state['wandb_id']!r:.80}")
        history = Epochs.of(contents["run"]["history"])
        if len(history.column("epoch")) < len(history):
            raise ValueError("a row without its epoch")
    return {**state, "history": history}


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest undamaged checkpoint to resume from; None if there is no checkpoint.

    Raises:
        UserError: all checkpoints are damaged.
    """
    damaged: list[UserError] = []
    for path in (folder / Path(LAST).name, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            _read(path, "ckpt_path")
        except UserError as error:
            damaged.append(error)
        else:
            if damaged:
                log.warning("%s; resumed from the previous checkpoint", damaged[0])
            return path
    if damaged:
        raise UserError(f"{damaged[-1]}, and no other checkpoint is intact; remove them to start again")
    return None


def read(path: Path, key: str = "ckpt_path") -> dict[str, Any]:
    """The contents of a checkpoint.

    Raises:
        UserError: the file is damaged, is not a checkpoint, or claims more memory than its size allows.
    """
    contents = _read(path, key)
    parts = ("state_dict", "hyper_parameters")
    if not isinstance(contents, dict) or not all(isinstance(contents.get(part), dict) for part in parts):
        raise UserError(f"{key}={path}: is not a checkpoint of this program")
    return contents


@contextmanager
def checking_contents(path: Path, key: str = "ckpt_path") -> Iterator[None]:
    """Turn the exceptions that unexpected contents of a checkpoint cause in the body into a `UserError`.

    Raises:
        UserError: a key is missing, or its value has another type.
    """
    try:
        yield
    except UserError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{key}={path}: is not a checkpoint of this program ({reason})") from None


def _read(path: Path, key: str) -> Any:
    check_archive(path, key)
    try:
        copy = _rewritten(path)
        _check_memory(copy, path, key)
        copy.seek(0)
        return torch.load(copy, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except UnpicklingError:
        raise UserError(f"{key}={path}: holds more than plain data, or is damaged; not opened") from None
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError on a damaged file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{key}={path}: is not a checkpoint, or is damaged ({reason})") from None


def _rewritten(path: Path) -> io.BytesIO:
    """The archive as `zipfile` reads it, written again: torch's reader may find another archive in the same bytes.

    The checksums are verified, which torch does not do.

    Raises:
        zipfile.BadZipFile: a checksum is wrong.
    """
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as theirs, zipfile.ZipFile(copy, "w") as ours:
        for member in theirs.infolist():
            ours.writestr(member.filename, theirs.read(member))
    copy.seek(0)
    return copy


def _check_memory(copy: io.BytesIO, path: Path, key: str) -> None:
    """Refuse tensors that claim more memory than the size of the file allows: torch would allocate it."""
    shapes = torch.load(copy, map_location="meta", weights_only=True)
    pending, seen, needed, size = [shapes], set(), 0, path.stat().st_size
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, torch.Tensor):
            needed += each.numel() * each.element_size()
        elif isinstance(each, dict):
            pending += each.values()
        elif isinstance(each, list | tuple):
            pending += each
    if needed > MAX_EXPANSION * size:
        raise UserError(f"{key}={path}: its tensors claim {needed} bytes, but the file has {size}; not opened")


def check_fits(path: Path, config: TrainConfig, dataset: Dataset) -> None:
    """Refuse a checkpoint that the configured run cannot start from.

    Raises:
        UserError: another architecture or optimizer, or no epochs left to train.
    """
    contents = read(path)
    with checking_contents(path):
        theirs = contents["hyper_parameters"]
        ours = {
            "sizes": layer_sizes(config, dataset.info),
            "hidden_activation": config.model.hidden_activation,
            "output_activation": config.model.output_activation,
            "loss": config.model.loss,
            "gradient": _backward_pass_of(config.model.gradient),
        }
        theirs["gradient"] = _backward_pass_of(theirs.get("gradient", "hand"))
        for setting, value in ours.items():
            if theirs.get(setting) != value:
                raise UserError(
                    f"ckpt_path={path}: was trained with {setting}={theirs.get(setting)}, this run has {value}"
                )
        if theirs.get("preprocessing") != dataset.preprocessing:
            raise UserError(
                f"ckpt_path={path}: was trained on another table, or on other columns, rows or splits of this one"
            )
        for group in ("optimizer", "scheduler"):
            name = theirs.get(group, {}).get("name")
            if name != (mine := getattr(config, group).name):
                raise UserError(f"ckpt_path={path}: was trained with {group}={name}, this run has {group}={mine}")
        done, limit = contents.get("epoch", 0) + 1, config.trainer.max_epochs
        if limit is not None and 0 < limit <= done:
            raise UserError(
                f"ckpt_path={path}: was trained for {done} epochs already; "
                f"set trainer.max_epochs above that, not {limit}"
            )


def _backward_pass_of(gradient: str) -> str:
    """The rule that decides which tensors a checkpoint has: `autograd` has the same as `hand`."""
    return "hand" if gradient == "autograd" else gradient
