"""Checkpoints: written whole or not at all, read as plain data (`weights_only=True`), never as pickled objects."""

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

# Batches after which processes that share a run ask each other whether one was asked to end.
TOGETHER = 10
# How much of the time the checkpoints at the ends of epochs may take.
SHARE_OF_TIME = 0.05

BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"
# A tensor may show some numbers of the file several times; most show each once.
MOST_TIMES = 4
# What the last one was before it was written anew: to resume from where that is damaged.
PREVIOUS = "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the one that it replaces, so that at any moment there is a whole one.

    Of `last.ckpt` the one before is kept.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it aside, wait for the disk, and rename it.

        Raises:
            UserError: the disk does not take it, or the folder is gone.
        """
        path = Path(path)
        contents = io.BytesIO()  # torch's own writer does not say what is wrong with a disk
        torch.save(checkpoint, contents)
        try:
            ours = path.name in (Path(LAST).name, Path(BEST).name)  # a run's folder that is gone stays so
            path.parent.mkdir(parents=not ours, exist_ok=True)
            if path.name == Path(LAST).name:
                _keep(path)
            atomic_write(path, contents.getbuffer())
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def _keep(path: Path) -> None:
    """Give the checkpoint that is about to be replaced a second name."""
    previous = path.with_name(PREVIOUS)
    aside = path.with_name(f"{PREVIOUS}.tmp")
    aside.unlink(missing_ok=True)
    if not path.exists():
        return
    try:
        os.link(path, aside)
        aside.replace(previous)
    except OSError:  # a file system that knows no second names
        path.replace(previous)


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`: at the ends of epochs, every so many steps, and where the run is asked to end.

    Epochs that are shorter than it takes to write a checkpoint do not each have one, but the first and the last do. In
    the middle of an epoch it waits until no gradients are accumulated, for a checkpoint holds none, and until there is
    no validation to follow at once, which Lightning leaves out when it resumes from there.

    A checkpoint has what its run needs to be resumed in its own folder as if it had never stopped. A run that begins
    from one in another folder takes the weights, the optimizer's state and the epochs that its decisions look back on.

    Args:
        path: of the file.
        every_n_steps: optimizer steps between two; None for the ends of epochs alone.
        config: the configuration, whose hash each checkpoint carries.
        dataset: the data, whose digest it carries.
        resumed: the state to resume from, as `state_of` read it; None for a run that begins.
        loggers: the run's.
        interruption: what the run is asked; nothing if None.
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
        self.before = 0.0 if resumed is None else resumed["seconds"]
        self.first_epoch = None if resumed is None else resumed["first_epoch"]
        self.began: float | None = None
        self.is_restored = False
        self.saved = 0  # the step of the last one
        self.saved_once = False
        self.next = 0.0  # when the end of an epoch has one again

    @property
    def seconds(self) -> float:
        """Of training so far, those before the run was cut off included."""
        return self.before + (0.0 if self.began is None else time.perf_counter() - self.began)

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.began = time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Begin to look at what the run is asked; train on where another run had ended."""
        self.is_restored, self.saved = True, trainer.global_step
        self.interruption.install()
        self.interruption.training = True
        if self.resumed is None:
            self.first_epoch = trainer.current_epoch
            pl_module.progress.forget_endings()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        every, step = self.every_n_steps, trainer.global_step
        is_due = every is not None and step // every > self.saved // every
        asked = self._is_asked(trainer, batch_idx)
        if not (is_due or asked) or trainer.is_last_batch or is_validated_next(trainer, batch_idx):
            return
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._save(trainer, asked)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        asked = self._is_asked(trainer)
        is_over = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        is_due = trainer.strategy.broadcast(is_over or time.perf_counter() >= self.next)
        if asked or (is_due and trainer.global_step > self.saved):
            began = time.perf_counter()
            self._save(trainer, asked)
            self.next = time.perf_counter() + (time.perf_counter() - began) / SHARE_OF_TIME

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Keep the average of the weights that Lightning's callback leaves after the last epoch."""
        self.interruption.training = False  # from here on there is no step to wait for
        if any(isinstance(each, StochasticWeightAveraging) for each in trainer.callbacks):  # type: ignore[attr-defined]
            self._save(trainer, asked=False)

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.interruption.training = False

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        self.before, self.began = self.seconds, None

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add what the run needs to be resumed, to best.ckpt too.

        Raises:
            UserError: the state of a callback or of the data, which may be the user's, is no plain data: the checkpoint
                could not be opened again.
        """
        if not self.saved_once:
            for name, state in {**checkpoint.get("callbacks", {}), "data": checkpoint.get("OwnData")}.items():
                _check_plain(name, state)
            self.saved_once = True
        checkpoint["own_folder"] = {
            "config_hash": self.hash,
            "backward_pass": self.backward_pass,
            "data": self.digest,
            "first_epoch": self.first_epoch,
            "seconds": self.seconds,
            "wandb_id": wandb_id(self.loggers),
        }

    def _is_asked(self, trainer: L.Trainer, batch_idx: int = -1) -> bool:
        """Whether the run is to end here: all of its processes do, where one was asked."""
        asked = self.interruption.asked is not None
        if trainer.world_size == 1:
            return asked
        if (batch_idx + 1) % TOGETHER:
            return False
        return trainer.strategy.reduce_boolean_decision(asked, all=False)

    def _save(self, trainer: L.Trainer, asked: bool) -> None:
        if asked:
            self.interruption.take_time()
        trainer.save_checkpoint(self.path)
        self.saved = trainer.global_step
        if asked:
            raise KeyboardInterrupt


def _check_plain(name: str, state: Any) -> None:
    """Refuse what `torch.load(weights_only=True)` does not read."""
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # whatever pickle and the unpickler of plain data raise
        raise UserError(
            f"{name}: its state_dict must be numbers, strings, lists, dicts and tensors, for checkpoints are opened as "
            "plain data"
        ) from None


def is_validated_next(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether a validation follows this batch of the epoch."""
    every, epochs = trainer.val_check_batch, trainer.check_val_every_n_epoch
    if every is None or every == float("inf"):
        return False
    if epochs is None:  # the batches are counted on over epochs
        return (trainer.fit_loop.total_batch_idx + 1) % every == 0
    return (trainer.current_epoch + 1) % epochs == 0 and (batch_idx + 1) % every == 0


# What `LastCheckpoint` adds to a checkpoint, beside two digests.
OF_STATE: dict[str, Any] = {"first_epoch": int, "seconds": (int, float), "wandb_id": (str, type(None))}


def state_of(path: Path, config: TrainConfig, dataset: Dataset) -> dict[str, Any]:
    """What `LastCheckpoint` put into a checkpoint, and as `history` the epochs behind it.

    Raises:
        UserError: it is another configuration's or other data's, or not a checkpoint of this version.
    """
    contents = read(path)
    with made_here(path):
        state = contents["own_folder"]
        if whose := mismatch({name: state[name] for name in ("config_hash", "backward_pass")}, config):
            raise UserError(f"{path}: is of {whose}, and nothing is overwritten; name another folder")
        same = contents["hyper_parameters"].get("preprocessing") == dataset.preprocessing
        if not same or state["data"] != dataset.digest:
            raise UserError(f"{path}: the data have changed since; train on them in another folder")
        for name, kinds in OF_STATE.items():
            if not isinstance(state[name], kinds):
                raise TypeError(f"{name} is {state[name]!r:.80}")
        if not re.fullmatch(r"[^/\\#?%:]{1,128}", state["wandb_id"] or "none"):  # W&B would refuse it later
            raise ValueError(f"wandb_id is {state['wandb_id']!r:.80}")
        history = Epochs.of(contents["run"]["history"])
        if len(history.column("epoch")) < len(history):
            raise ValueError("a row without its epoch")
    return {**state, "history": history}


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint of those that a run goes on from; None where there is none at all.

    Raises:
        UserError: there are some, and none of them is whole.
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
                log.warning("%s; resumed from the one before it", damaged[0])
            return path
    if damaged:
        raise UserError(f"{damaged[-1]}, and there is no other that is whole; remove them to begin anew")
    return None


def read(path: Path, key: str = "ckpt_path") -> dict[str, Any]:
    """The contents of a checkpoint.

    Raises:
        UserError: the file is damaged, or is something else, or would take more memory than it can have in it.
    """
    contents = _read(path, key)
    parts = ("state_dict", "hyper_parameters")
    if not isinstance(contents, dict) or not all(isinstance(contents.get(part), dict) for part in parts):
        raise UserError(f"{key}={path}: is not a checkpoint of this program")
    return contents


@contextmanager
def made_here(path: Path, key: str = "ckpt_path") -> Iterator[None]:
    """Refuse a checkpoint whose contents are not what this program writes: the body stumbles over them.

    Raises:
        UserError: a key is missing, or has a value of another kind.
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
        copy = _copied(path)
        _check_memory(copy, path, key)
        copy.seek(0)
        return torch.load(copy, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except UnpicklingError:
        raise UserError(f"{key}={path}: holds more than plain data, or is damaged; not opened") from None
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError on a damaged file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{key}={path}: is no checkpoint, or a damaged one ({reason})") from None


def _copied(path: Path) -> io.BytesIO:
    """What `zipfile` finds in the archive, written anew: in the same bytes torch's own reader may find another archive.

    The checksums are compared, which torch does not.

    Raises:
        zipfile.BadZipFile: what is there is not what was written.
    """
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as theirs, zipfile.ZipFile(copy, "w") as ours:
        for member in theirs.infolist():
            ours.writestr(member.filename, theirs.read(member))
    copy.seek(0)
    return copy


def _check_memory(copy: io.BytesIO, path: Path, key: str) -> None:
    """Refuse tensors that are larger than what the file has for them: torch would make room for all that they say."""
    shapes = torch.load(copy, map_location="meta", weights_only=True)
    pending, seen, needed, told = [shapes], set(), 0, path.stat().st_size
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
    if needed > MOST_TIMES * told:
        raise UserError(f"{key}={path}: says that its tensors have {needed} bytes, and has {told} itself; not opened")


def check_fits(path: Path, config: TrainConfig, dataset: Dataset) -> None:
    """Refuse a checkpoint that the configured run cannot go on from.

    Raises:
        UserError: another architecture or optimizer, or no epochs left to train.
    """
    contents = read(path)
    with made_here(path):
        theirs = contents["hyper_parameters"]
        ours = {
            "sizes": layer_sizes(config, dataset.facts),
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
        done, wanted = contents.get("epoch", 0) + 1, config.trainer.max_epochs
        if wanted is not None and 0 < wanted <= done:
            raise UserError(
                f"ckpt_path={path}: has {done} epochs behind it already; "
                f"set trainer.max_epochs above that, not {wanted}"
            )


def _backward_pass_of(gradient: str) -> str:
    """Whose tensors a checkpoint has: autograd's gradients are backpropagation's."""
    return "hand" if gradient == "autograd" else gradient
