"""Checkpoints: written whole or not at all, read as plain data (`weights_only=True`), never as pickled objects."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from backhand.config.archive import MOST_TIMES, check_archive
from backhand.config.errors import UserError
from backhand.config.schema import TrainConfig
from backhand.config.validation import layer_sizes
from backhand.data.dataset import Dataset
from backhand.reporting.loggers import EpochTable, wandb_id
from backhand.reporting.result import config_hash

# Settings of `LightningMLP` that a checkpoint and the run that goes on from it must share.
SHARED = ("sizes", "hidden_activation", "output_activation", "loss")


BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside the one that it replaces, so that at any moment there is a whole one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it aside, and rename it.

        Raises:
            UserError: the disk does not take it.
        """
        aside = Path(f"{path}.tmp")
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(checkpoint, aside)
        except BaseException as error:
            aside.unlink(missing_ok=True)
            # Torch's writer, which is not Python's, does not say why: it finds itself where it should not be.
            if isinstance(error, OSError) or "inline_container" in str(error):
                raise UserError(f"{path}: cannot be written; is the disk full?") from None
            raise
        os.replace(aside, path)  # noqa: PTH105


class OwnFolder(Callback):
    """What a checkpoint must hold, beside Lightning's, for its run to go on in its own folder as if it had not stopped.

    A run that goes on from a checkpoint in a folder of its own takes none of it.

    Args:
        config: the configuration, whose hash the checkpoint carries.
        table: the run's epochs.
        loggers: the run's.
        going_on: the state to go on from, as `state_of` read it.
    """

    def __init__(
        self, config: TrainConfig, table: EpochTable, loggers: Sequence[Logger], going_on: dict[str, Any] | None
    ) -> None:
        self.hash, self.table, self.loggers, self.going_on = config_hash(config), table, loggers, going_on
        self.before = 0.0 if going_on is None else going_on["seconds"]
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of training so far, those before the run was cut off included."""
        return self.before + time.perf_counter() - self.began

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Begin to count."""
        self.began = time.perf_counter()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the epochs' metrics, and whether this was the last one."""
        rows = [dict(row) for row in self.table.rows]
        if rows and rows[-1]["epoch"] == trainer.current_epoch:
            # What the epoch's end has just logged reaches the loggers only after the checkpoints are written.
            logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
            step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1
            rows[-1] = rows[-1] | logged | {"step": step}
        checkpoint["own_folder"] = {
            "config_hash": self.hash,
            "rows": rows,
            "seconds": self.seconds,
            "wandb_id": wandb_id(self.loggers),
            "stopped": trainer.should_stop,
            "diverged": pl_module.diverged,
        }

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Train no further where early stopping, or divergence, had the last word."""
        if self.going_on is not None:
            pl_module.diverged = self.going_on["diverged"]
            trainer.should_stop = self.going_on["stopped"]


def state_of(path: Path, config: TrainConfig) -> dict[str, Any]:
    """What `OwnFolder` put into a checkpoint.

    Raises:
        UserError: it is another configuration's, or not a checkpoint of this version.
    """
    state = read(path).get("own_folder")
    if state is None or state["config_hash"] != config_hash(config):
        raise UserError(f"{path}: is another configuration's, and nothing is overwritten; name another folder")
    return state


def read(path: Path, key: str = "ckpt_path") -> dict[str, Any]:
    """The contents of a checkpoint.

    Raises:
        UserError: the file is damaged, or is something else, or would take more memory than it can have in it.
    """
    check_archive(path, key)
    try:
        _check_memory(path, key)
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except UnpicklingError:
        raise UserError(f"{key}={path}: holds more than plain data, or is damaged; not opened") from None
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError on a damaged file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{key}={path}: is no checkpoint, or a damaged one ({reason})") from None
    if not isinstance(contents, dict) or not {"state_dict", "hyper_parameters"} <= contents.keys():
        raise UserError(f"{key}={path}: is not a checkpoint of this program")
    return contents


def _check_memory(path: Path, key: str) -> None:
    """Refuse tensors that are larger than what the file has for them: torch would make room for all that they say."""
    shapes = torch.load(path, map_location="meta", weights_only=True)
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
    theirs = contents["hyper_parameters"]
    ours = {
        "sizes": layer_sizes(config, dataset.facts),
        "hidden_activation": config.model.hidden_activation,
        "output_activation": config.model.output_activation,
        "loss": config.model.loss,
    }
    for setting in SHARED:
        if theirs.get(setting) != ours[setting]:
            raise UserError(
                f"ckpt_path={path}: was trained with {setting}={theirs.get(setting)}, this run has {ours[setting]}"
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
            f"ckpt_path={path}: has {done} epochs behind it already; set trainer.max_epochs above that, not {wanted}"
        )
