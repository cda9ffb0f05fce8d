"""The lines of train.log: a run's setup, each epoch, why the run ended, and its test metrics."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import Checkpoint

from backhand.calculus.activations import ACTIVATIONS
from backhand.calculus.feedback import RULES
from backhand.config.confidential import without_secrets
from backhand.config.overrides import as_written
from backhand.config.schema import CustomDataConfig, TrainConfig
from backhand.data.custom import warn_of_class_numbers
from backhand.data.module import InMemoryData, RunData
from backhand.reporting.result import Result, best_row
from backhand.reporting.terminal import format_metric
from backhand.training.module import LightningMLP

log = logging.getLogger(__name__)


def log_overrides() -> None:
    """Log the overrides of the command line, if Hydra has started the run."""
    if HydraConfig.initialized():
        given = " ".join(map(as_written, HydraConfig.get().overrides.task))
        log.info("overrides: %s", without_secrets(given) or "none")


def log_setup(config: TrainConfig, data: RunData, module: LightningMLP, device: str, processes: int = 1) -> None:
    """Log the data set, the network, the device, and the checkpoint that the run starts from."""
    info = data.dataset.info
    sizes = ", ".join(f"{len(rows.x):,} {split}" for split, rows in data.dataset.rows.items()) or "its own batches of"
    target = f"{info.classes} classes" if info.classes else "a number to predict"
    log.info("data: %s, %s samples of %d features, %s", config.data.name, sizes, info.features, target)
    parameters = sum(each.numel() for each in module.parameters()) // (module.hparams["runs"] or 1)
    where = device if processes == 1 else f"{device}, in {processes} processes"
    log.info("network: %s, %s parameters, on %s", "-".join(map(str, module.model.sizes)), f"{parameters:,}", where)
    if (rule := RULES.get(config.model.gradient)) is not None:
        log.info("backward pass: %s: %s (%s)", config.model.gradient, rule.text, rule.source)
    names = config.model.hidden_activation
    flat = [name for name in ([names] if isinstance(names, str) else names) if ACTIVATIONS[name].flat]
    if flat and config.model.hidden and config.model.gradient in ("hand", "autograd"):
        log.warning("%s has the derivative 0, so no gradient passes it; use model.gradient=straight_through", flat[0])
    if isinstance(config.data, CustomDataConfig) and isinstance(data, InMemoryData) and info.classes is None:
        warn_of_class_numbers(data.rows["train"].y, config.model.loss, f"data._target_={config.data._target_}")
    if config.ckpt_path is not None:
        log.info("starts from %s", Path(config.ckpt_path))


class EpochLines(Checkpoint):
    """Logs a line at the end of an epoch.

    It is a `Checkpoint` because Lightning calls those after the module, which computes the epoch's metrics.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        row = pl_module.progress.history[-1]
        of = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        names = ("train/loss", "val/loss", pl_module.hparams["objective"])
        log.info("epoch %d%s: %s", trainer.current_epoch + 1, of, in_words(row, names))


def log_end(result: Result, rows: Sequence[Mapping[str, float]], config: TrainConfig) -> None:
    """Log why a run ended, and the test metrics of its best epoch."""
    epochs = "1 epoch" if result.epochs == 1 else f"{result.epochs:,} epochs"
    steps = "1 step" if result.steps == 1 else f"{result.steps:,} steps"
    log.info("%s, %s, %.1f s: %s", epochs, steps, result.seconds, _reason(result, config))
    tested = {name: value for name, value in result.metrics.items() if name.startswith("test/")}
    if tested:
        best = best_row(rows, config.objective)
        which = "last epoch" if best is None else f"best epoch {int(best['epoch']) + 1}"
        log.info("%s: %s", which, in_words({**(best or {}), **tested}, [config.objective, *tested]))


def in_words(row: Mapping[str, float], names: Sequence[str]) -> str:
    """The named metrics that the row has, as in `train/loss 0.053, val/acc 96.67%`."""
    present = [name for name in dict.fromkeys(names) if name in row]
    return ", ".join(f"{name} {format_metric(name.partition('/')[2], row[name])}" for name in present)


def _reason(result: Result, config: TrainConfig) -> str:
    """Why a run ended."""
    if result.status != "finished":
        return f"{result.status}: {without_secrets(result.error)}" if result.error else result.status
    limits = config.trainer
    if limits.max_steps is not None and 0 < limits.max_steps <= result.steps:
        return "trainer.max_steps reached"
    if limits.max_epochs is not None and 0 < limits.max_epochs <= result.epochs:
        return "trainer.max_epochs reached"
    return "early stopping" if config.callbacks.early_stopping is not None else "stopped by the trainer"
