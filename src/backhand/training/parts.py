"""The parts of a run, built from its configuration: data, network, callbacks, Lightning's Trainer."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import Accelerator, CUDAAccelerator, MPSAccelerator, XLAAccelerator
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.utilities.seed import isolate_rng
from torch.nn import Parameter
from torch.optim.lr_scheduler import ReduceLROnPlateau

from backhand.calculus.float64 import widest_dtype
from backhand.calculus.losses import LOSSES
from backhand.checking.audit import Audit
from backhand.config.imports import check_arguments, create, describe, import_class, load_rule
from backhand.config.schema import (
    CallbacksConfig,
    CustomDataConfig,
    CustomOptimizerConfig,
    CustomSchedulerConfig,
    LoggerConfig,
    TeacherConfig,
    TrainConfig,
)
from backhand.config.validation import extra_keys, larger_is_better, layer_sizes, loss_parameters, output_units
from backhand.data.custom import CustomData, data_class
from backhand.data.dataset import Dataset
from backhand.data.module import InMemoryData, RunData
from backhand.errors import UserError
from backhand.training.checkpoint import BEST, AtomicCheckpointIO
from backhand.training.layer_stats import FlowMetrics
from backhand.training.module import LightningMLP
from backhand.training.optimizers import build_optimizer, build_scheduler
from backhand.training.processes import cluster_plugins

# The dtype of the parameters; with mixed precision it is float32.
PRECISIONS = {
    **dict.fromkeys(("64-true", "64"), torch.float64),
    "bf16-true": torch.bfloat16,
    "16-true": torch.float16,
}
# Choices of `trainer.accelerator` that a machine may lack.
ACCELERATORS: dict[str, tuple[type[Accelerator], ...]] = {
    "gpu": (CUDAAccelerator, MPSAccelerator),
    "cuda": (CUDAAccelerator,),
    "mps": (MPSAccelerator,),
    "tpu": (XLAAccelerator,),
}
# Choices of `trainer.profiler` that write files. By its name alone Lightning gives one no folder.
PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


class ProgressBar(RichProgressBar):
    """Lightning's progress bar without the logger's version number."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class StepLoss(Callback):
    """Logs the loss every `trainer.log_every_n_steps` steps."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if outputs is not None and trainer.global_step % every == 0:
            for logger in trainer.loggers:
                logger.log_metrics({"train/loss_step": float(outputs["loss"])}, trainer.global_step - 1)


def build_data(config: TrainConfig, dataset: Dataset) -> RunData:
    """The data module for the configured loss, in the trainer's precision.

    Raises:
        UserError: `in_memory` or `CustomData` refuses the data.
    """
    return in_memory(config, dataset) if dataset.module is None else CustomData(dataset, config, _dtype(config))


def in_memory(config: TrainConfig, dataset: Dataset) -> InMemoryData:
    """The data module of a data set whose rows are in memory.

    Raises:
        UserError: the loss is for counts, and a target is negative.
    """
    target, y = LOSSES[config.model.loss].target, dataset.rows["train"].y
    mean, std = 0.0, 1.0
    if target == "counts" and float(y.min()) < 0:
        raise UserError(f"model.loss={config.model.loss}: is for counts, and data={config.data.name} has negative ones")
    # A teacher's targets need no standardising to be learnable; the user's own data are not changed.
    is_unchanged = isinstance(config.data, TeacherConfig | CustomDataConfig)
    if target == "values" and dataset.info.classes is None and not is_unchanged:
        mean, std = float(y.mean()), float(y.std(correction=0)) or 1.0
    return prepared(config, dataset, mean, std)


def prepared(config: TrainConfig, dataset: Dataset, target_mean: float, target_std: float) -> InMemoryData:
    """The data module for the configured loss, with targets standardised by the given mean and deviation."""
    return InMemoryData(
        dataset,
        config.data,
        target=LOSSES[config.model.loss].target,
        units=output_units(config, dataset.info),
        target_mean=target_mean,
        target_std=target_std,
        shuffle_seed=config.seed,
        dtype=_dtype(config),
        class_weight=config.model.class_weight,
    )


def _dtype(config: TrainConfig) -> torch.dtype:
    return PRECISIONS.get(str(config.trainer.precision), torch.float32)


def build_module(config: TrainConfig, data: RunData, runs: Sequence[TrainConfig] | None = None) -> LightningMLP:
    """The network of `config.model` with its optimizer; with `runs`, K networks in the same tensors."""

    def each(setting: Callable[[TrainConfig], Any]) -> Any:
        return setting(config) if runs is None else [setting(one) for one in runs]

    stopping = config.callbacks.early_stopping
    kind = LightningMLP
    if config.compile:
        from backhand.training.compiled import CompiledMLP

        kind = CompiledMLP
    return kind(
        sizes=layer_sizes(config, data.dataset.info),
        hidden_activation=config.model.hidden_activation,
        output_activation=config.model.output_activation,
        loss=config.model.loss,
        loss_parameters=_loss_parameters(config, data),
        gradient=config.model.gradient,
        gradient_settings={"straight_through_window": config.model.straight_through_window},
        init=each(lambda one: one.model.init),
        init_scale=each(lambda one: one.model.init_scale),
        seed=each(lambda one: one.seed),
        classes=data.classes,
        target_mean=data.target_mean,
        target_std=data.target_std,
        optimizer=each(lambda one: asdict(one.optimizer)),
        scheduler=each(lambda one: asdict(one.scheduler)),
        early_stopping=None if stopping is None else asdict(stopping),
        objective=config.objective,
        on_nan=config.on_nan,
        preprocessing=data.dataset.preprocessing,
        runs=None if runs is None else len(runs),
    )


def check_own_parts(config: TrainConfig) -> None:
    """Test the parts that the configuration names as `_target_`, before the training starts.

    An optimizer and a scheduler make one step. For loggers and data only the arguments are checked, because making them
    may take long, or write files. `build_callbacks` makes the callbacks.

    Raises:
        UserError: no such class, a class of another kind, wrong arguments, or a first step that fails.
    """
    if isinstance(config.optimizer, CustomOptimizerConfig) or isinstance(config.scheduler, CustomSchedulerConfig):
        with isolate_rng():
            _try_a_step(config)
    load_rule(config.model.gradient)
    for name, settings in extra_keys(config.logger, LoggerConfig).items():
        key = f"logger.{name}"
        check_arguments(import_class(settings, key, Logger), settings, key)
    if isinstance(config.data, CustomDataConfig):
        check_arguments(data_class(config.data), extra_keys(config.data, CustomDataConfig), "data")


def _try_a_step(config: TrainConfig) -> None:
    """Update a weight and a bias with the optimizer and the scheduler."""
    weight, bias = Parameter(torch.ones(2, 2)), Parameter(torch.ones(2))
    optimizer = build_optimizer([weight, bias], asdict(config.optimizer))
    scheduler = None
    if isinstance(config.scheduler, CustomSchedulerConfig):
        scheduler = build_scheduler(optimizer, asdict(config.scheduler), config.trainer.max_epochs, steps=1000)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weight.sum() + bias.sum()
        loss.backward()
        return loss

    part: Any = optimizer
    try:
        optimizer.step(closure)  # type: ignore[arg-type]
        part = scheduler
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(1.0)
        elif scheduler is not None:
            scheduler.step()
    except Exception as error:  # whatever a class of the user's raises
        group = "optimizer" if part is optimizer else "scheduler"
        raise UserError(f"{group}: the first step of {type(part).__name__} fails ({describe(error)})") from error


def _loss_parameters(config: TrainConfig, data: RunData) -> dict[str, Any]:
    parameters = loss_parameters(config.model)
    if parameters.get("class_weight") == "balanced":
        parameters["class_weight"] = data.class_weight
    return parameters


def build_callbacks(config: TrainConfig) -> list[Callback]:
    """The callbacks of `config.callbacks` and of the trainer's settings.

    Raises:
        UserError: a `_target_` is not a callback, or cannot be made.
    """
    callbacks: list[Callback] = []
    if config.trainer.log_every_n_steps:
        callbacks.append(StepLoss())
    if config.callbacks.progress_bar:
        callbacks.append(ProgressBar(refresh_rate=20))
    if flow := config.callbacks.flow:
        wandb = config.logger.wandb
        callbacks.append(FlowMetrics(flow.samples, None if wandb is None else wandb.histograms_every))
    if audit := config.callbacks.audit:
        callbacks.append(Audit(audit.every, audit.warn, audit.stop))
    for name, settings in extra_keys(config.callbacks, CallbacksConfig).items():
        key = f"callbacks.{name}"
        callbacks.append(create(settings, key, import_class(settings, key, Callback)))
    return callbacks


def best_checkpoint(config: TrainConfig, folder: Path) -> ModelCheckpoint:
    """Lightning's callback that writes `best.ckpt` at the end of the epoch with the best objective."""
    return ModelCheckpoint(
        dirpath=(folder / BEST).parent,
        filename="best",
        monitor=config.objective,
        mode="max" if larger_is_better(config.objective) else "min",
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )


def build_trainer(config: TrainConfig, folder: Path, callbacks: list[Callback], logger: Any) -> L.Trainer:
    """Lightning's Trainer with `config.trainer`; a profiler writes to the folder `profile`.

    Raises:
        UserError: Lightning refuses the settings, for example a missing GPU or a second ModelCheckpoint with the same
            settings, or the device has no float64.
    """
    given = {key: value for key, value in asdict(config.trainer).items() if value is not None}
    given["check_val_every_n_epoch"] = config.trainer.check_val_every_n_epoch  # here null has a meaning
    if (kind := PROFILERS.get(given.get("profiler", ""))) is not None:
        given["profiler"] = kind(dirpath=folder / "profile", filename=given["profiler"])
    try:
        trainer = L.Trainer(
            **given,
            callbacks=callbacks,
            logger=logger,
            default_root_dir=folder,
            plugins=[AtomicCheckpointIO(), *cluster_plugins(config.trainer)],
            enable_progress_bar=config.callbacks.progress_bar,
            enable_checkpointing=bool(callbacks),
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        states = [each.state_key for each in callbacks if isinstance(each, ModelCheckpoint)]
        if len(set(states)) < len(states):
            raise UserError(
                f"callbacks: two ModelCheckpoints have the same settings, and best.ckpt is written by one with monitor="
                f"{config.objective}; give yours another monitor, mode or every_n_epochs"
            ) from error
        reason = " ".join(str(error).split())
        name = config.trainer.accelerator
        kinds = ACCELERATORS.get(name, ())
        if kinds and not any(kind.is_available() for kind in kinds):
            raise UserError(
                f"trainer.accelerator={name}: this machine has none ({reason}); use trainer=auto"
            ) from error
        raise UserError(f"trainer: {reason}") from error
    precision = config.trainer.precision
    if PRECISIONS.get(str(precision)) == torch.float64:
        device = trainer.strategy.root_device
        if widest_dtype(device) != torch.float64:
            raise UserError(f"trainer.precision={precision}: {device.type} has no float64; choose trainer=cpu")
    return trainer
