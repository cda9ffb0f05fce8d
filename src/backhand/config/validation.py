"""What is refused before anything is imported, created or trained. Beyond this edge the configuration is trusted."""

import functools
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard, cast
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from backhand.calculus.activations import ACTIVATIONS, check_hidden_activation
from backhand.calculus.choices import GRADIENTS, check_choice
from backhand.calculus.initialization import INITIALIZATIONS
from backhand.calculus.losses import LOSSES, check_parameters
from backhand.config.catalogue import PICTURES, Facts, facts_of
from backhand.config.confidential import USER, check_nothing_confidential, leaves, without_secrets
from backhand.config.schema import (
    AUGMENTATIONS,
    AUTO,
    DATA,
    DATA_MAY_HAVE,
    ON_NAN,
    OPTIMIZERS,
    SCHEDULERS,
    DataConfig,
    ModelConfig,
    NetworkArguments,
    TrainConfig,
    TrainerConfig,
)
from backhand.config.stored import check_archive
from backhand.errors import UserError

LARGEST_SIZE = 2**31 - 1  # of a tensor's dimension; beyond what any memory holds


def typed(cfg: DictConfig) -> TrainConfig:
    """The composed configuration as dataclasses, interpolations resolved, every value checked.

    What depends on data that must be read first is checked by `settled`.

    Raises:
        UserError: the first thing that is wrong, in one line.
        omegaconf.errors.OmegaConfBaseException: a key or a type that the schema does not have.
    """
    return checked(in_schema(cfg))


def in_schema(cfg: DictConfig) -> DictConfig:
    """The composed configuration without Hydra's part, every key with its type; a value that is set in it is converted.

    It takes 9 ms, and `checked` 1 ms: jobs of a sweep that differ in a few values share it.

    Raises:
        omegaconf.errors.OmegaConfBaseException: a key or a type that the schema does not have.
    """
    tree = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=False))
    tree.pop("hydra", None)
    return cast(DictConfig, OmegaConf.merge(_schema(), tree))


def checked(tree: DictConfig) -> TrainConfig:
    """What `in_schema` returned as dataclasses, interpolations resolved, every value checked.

    Raises:
        UserError: the first thing that is wrong, in one line.
        omegaconf.errors.OmegaConfBaseException: an interpolation to nothing.
    """
    config = cast(TrainConfig, OmegaConf.to_object(tree))
    check_nothing_confidential(leaves(asdict(config)))
    _check(config)
    facts = facts_of(config.data)
    return config if facts is None else settled(config, facts)


@functools.cache
def _schema() -> Any:
    """The dataclasses as OmegaConf has them; to make that takes 4 ms."""
    return OmegaConf.structured(TrainConfig)


def settled(config: TrainConfig, facts: Facts) -> TrainConfig:
    """The configuration for a data set whose shape is known: what is `auto` is chosen, and all is checked against it.

    Raises:
        UserError: what does not fit the data, in one line.
    """
    loss, output = config.model.loss, config.model.output_activation
    if loss == "auto":
        loss = "mse" if facts.classes is None else "binary_cross_entropy" if facts.classes == 2 else "cross_entropy"
    if output == "auto":
        output = LOSSES[loss].matched if loss in LOSSES else output
    config = replace(config, model=replace(config.model, loss=loss, output_activation=output))
    _check_split(config, facts)
    _check_model(config, facts)
    check_choice("objective", config.objective, metric_names(facts))
    return config


def output_units(config: TrainConfig, facts: Facts) -> int:
    """C: one for a yes and no, one a class, or one a number to predict."""
    if facts.classes is None:
        return facts.outputs
    return 1 if config.model.loss == "binary_cross_entropy" else facts.classes


def layer_sizes(config: TrainConfig, facts: Facts) -> list[int]:
    """[D, H, …, C]."""
    return [facts.features, *config.model.hidden, output_units(config, facts)]


def metric_names(facts: Facts) -> list[str]:
    """What `objective` may be."""
    metrics = ("loss", "r2", "mae") if facts.classes is None else ("loss", "acc")
    return ["train/loss", *(["train/acc"] if "acc" in metrics else []), *(f"val/{metric}" for metric in metrics)]


def larger_is_better(metric: str) -> bool:
    """Whether a metric is to be maximised."""
    return metric.endswith(("/acc", "/r2"))


def check_validated(key: str, metric: str, trainer: TrainerConfig) -> None:
    """Refuse a metric of the validation split where the settings leave no validation.

    Args:
        key: of the setting that names the metric.
        metric: such as `val/loss`.
        trainer: the run's.

    Raises:
        UserError: there is none.
    """
    if not metric.startswith("val/") or trainer.fast_dev_run:  # which validates, whatever the other settings say
        return
    every, epochs, because = trainer.check_val_every_n_epoch, trainer.max_epochs, None
    if trainer.limit_val_batches == 0 and not trainer.overfit_batches:  # which takes the place of the limit
        because = f"trainer.limit_val_batches={trainer.limit_val_batches}"
    elif every is not None and epochs is not None and 0 < epochs < every:
        because = f"trainer.check_val_every_n_epoch={every} and trainer.max_epochs={epochs}"
    if because is not None:
        raise UserError(f"{key}={metric}: there is no validation with {because}; choose train/loss")


def _check(config: TrainConfig) -> None:
    _check_data(config.data)
    _check_optimizer(config)
    _check_scheduler(config)
    _check_trainer(config)
    check_validated("objective", config.objective, config.trainer)
    check_choice("on_nan", config.on_nan, ON_NAN)
    if config.compile:
        _check_compile(config)
    if config.sweep.max_failures is not None:
        _at_least("sweep.max_failures", config.sweep.max_failures, 0)
    _at_least("sweep.top", config.sweep.top, 1)
    _check_seed("seed", config.seed)
    if not all(isinstance(each, str) for each in config.tags):
        raise UserError(f"tags={config.tags}: must be a list of names")
    if config.logger.wandb:
        check_choice("logger.wandb.mode", config.logger.wandb.mode, ("auto", "online", "offline", "disabled"))
        check_project("logger.wandb.project", config.logger.wandb.project)
        if config.logger.wandb.entity is not None:
            check_project("logger.wandb.entity", config.logger.wandb.entity)
        check_wandb_environment()
    if config.callbacks.early_stopping:
        _at_least("callbacks.early_stopping.patience", config.callbacks.early_stopping.patience, 1)
        _at_least("callbacks.early_stopping.min_delta", config.callbacks.early_stopping.min_delta, 0)
    if flow := config.callbacks.flow:
        _at_least("callbacks.flow.samples", flow.samples, 1)
    if (wandb := config.logger.wandb) and wandb.histograms_every is not None:
        _at_least("logger.wandb.histograms_every", wandb.histograms_every, 1)
    if audit := config.callbacks.audit:
        _at_least("callbacks.audit.every", audit.every, 1)
        _at_least("callbacks.audit.warn", audit.warn, 0, above=True)
        if not audit.warn <= audit.stop < float("inf"):
            raise UserError(f"callbacks.audit.stop={audit.stop}: must be at least callbacks.audit.warn, and finite")
    if config.checkpoint.every_n_steps is not None:
        _at_least("checkpoint.every_n_steps", config.checkpoint.every_n_steps, 1)
    if config.ckpt_path not in (None, AUTO):
        assert config.ckpt_path is not None
        check_checkpoint_file("ckpt_path", Path(config.ckpt_path))


def _check_data(data: DataConfig) -> None:
    _check_optional_keys("data", data, DATA, DATA_MAY_HAVE)
    size = data.batch_size
    if not (size == "full" or (_whole(size) and size >= 1)):
        raise UserError(f"data.batch_size={size}: must be a whole number of samples, 1 or more, or full")
    own_test = data.name in PICTURES
    for key in ("val_fraction", "test_fraction"):
        value = getattr(data, key)
        if own_test and key == "test_fraction":
            if value != 0:
                raise UserError(
                    f"data.test_fraction={value}: data={data.name} has a test split of its own; it must be 0"
                )
        elif not 0 < value < 1:
            raise UserError(f"data.{key}={value}: must lie between 0 and 1")
    if data.val_fraction + data.test_fraction >= 1:
        raise UserError(
            f"data.val_fraction={data.val_fraction} and data.test_fraction={data.test_fraction}: "
            "their sum must be below 1, for something must be left to train on"
        )
    _check_seed("data.split_seed", data.split_seed)
    check_choice("data.device", data.device, ("auto", "accelerator", "cpu"))
    if data.augment is not None:
        check_choice("data.augment", data.augment, AUGMENTATIONS)
    if data.name == "table":
        check_choice("data.task", str(data.task), ("auto", "classes", "number"))
        check_choice("data.missing", str(data.missing), ("refuse", "mean", "median"))
    if data.name == "teacher":
        for key in ("samples", "features", "outputs"):
            _check_size(f"data.{key}", getattr(data, key))
        for units in data.hidden or []:
            _check_size("data.hidden", units)


def _check_split(config: TrainConfig, facts: Facts) -> None:
    data = config.data
    if facts.samples is None:
        return
    train_fraction = 1 - data.val_fraction - data.test_fraction
    parts = [("val", data.val_fraction), ("train", train_fraction)]
    if not facts.own_test:
        parts.insert(1, ("test", data.test_fraction))
    for part, fraction in parts:
        least = 2 * (facts.classes or 1)
        if int(fraction * facts.samples) < least:
            raise UserError(
                f"data.val_fraction={data.val_fraction}, data.test_fraction={data.test_fraction}: of the "
                f"{facts.samples} samples of {data.name} {int(fraction * facts.samples)} are left to {part}; "
                f"it needs {least} or more"
            )


def check_network(model: ModelConfig | NetworkArguments, outputs: int) -> None:
    """Refuse names that do not exist, an output that does not fit the loss, and parameters that the loss has not.

    Raises:
        UserError: the first thing that is wrong, in one line.
    """
    for units in model.hidden:
        if not _whole(units) or units < 1:
            raise UserError(f"model.hidden={model.hidden}: every hidden layer needs 1 unit or more; [] has no layer")
        if units > LARGEST_SIZE:
            raise UserError(f"model.hidden={model.hidden}: a layer can have {LARGEST_SIZE} units at most")
    try:
        check_hidden_activation(model.hidden_activation, len(model.hidden))
        check_choice("loss", model.loss, LOSSES)
        loss = LOSSES[model.loss]
        output = model.output_activation or loss.matched
        check_choice("output_activation", output, ACTIVATIONS)
        if misfit := loss.misfit(output, ACTIVATIONS[output].range):
            raise UserError(f"model.loss={model.loss} {misfit}; model.output_activation is {output}")
        parameters = loss_parameters(model)
        if parameters.get("class_weight") == "balanced" and "class_weight" in loss.parameters:
            parameters.pop("class_weight")
        check_parameters(model.loss, parameters, outputs)
    except ValueError as error:
        raise UserError(f"model.{error}") from None


def loss_parameters(model: ModelConfig | NetworkArguments) -> dict[str, Any]:
    """The parameters of the loss that are given, by name."""
    names = {name for loss in LOSSES.values() for name in loss.parameters}
    return {name: value for name in sorted(names) if (value := getattr(model, name)) is not None}


def _check_model(config: TrainConfig, facts: Facts) -> None:
    model = config.model
    units = output_units(config, facts)
    check_network(model, units)
    check_choice("model.gradient", model.gradient, GRADIENTS)
    check_choice("model.init", model.init, INITIALIZATIONS)
    _at_least("model.init_scale", model.init_scale, 0)
    loss = LOSSES[model.loss]
    if facts.classes is None and loss.probabilities:
        numbers = ", ".join(name for name, each in LOSSES.items() if not each.probabilities)
        raise UserError(
            f"model.loss={model.loss} is for classes; data={config.data.name} has a number to predict: {numbers}"
        )
    if model.loss == "binary_cross_entropy" and facts.classes != 2:
        raise UserError(f"model.loss={model.loss} is for two classes; data={config.data.name} has {facts.classes}")
    if model.output_activation == "softmax" and units == 1:
        raise UserError("model.output_activation=softmax: there is a single output, which softmax would make always 1")


def can_compile() -> bool:
    """Whether this torch compiles the whole step rightly: 2.15 does.

    With torch 2.11 the audit found the gradients off by a percent under Adam.
    """
    return tuple(int(part) for part in version("torch").split(".")[:2]) >= (2, 15)


def _check_compile(config: TrainConfig) -> None:
    """Refuse what the compiled step leaves out, and a torch that compiles it wrongly."""
    trainer = config.trainer
    if not can_compile():
        raise UserError(
            f"compile=true: needs torch 2.15 or newer, which it was verified with; this is {version('torch')}"
        )
    mixed = str(trainer.precision) in ("bf16-mixed", "16-mixed", "bf16", "16")
    for wrong, reason in (
        (config.model.gradient != "hand", f"model.gradient={config.model.gradient}: it is for gradients by hand"),
        (mixed, f"trainer.precision={trainer.precision}: it has one precision"),
        (trainer.devices != 1 or trainer.num_nodes != 1, "several devices: it is for one"),
        (trainer.accumulate_grad_batches != 1, "trainer.accumulate_grad_batches: it updates after every batch"),
        (trainer.gradient_clip_val is not None, "trainer.gradient_clip_val: it does not clip"),
    ):
        if wrong:
            raise UserError(f"compile=true does not go with {reason}")


def _check_optimizer(config: TrainConfig) -> None:
    optimizer = config.optimizer
    _check_optional_keys("optimizer", optimizer, OPTIMIZERS)
    _at_least("optimizer.lr", optimizer.lr, 0, above=True)
    _at_least("optimizer.weight_decay", optimizer.weight_decay, 0)
    if optimizer.momentum is not None and not 0 <= optimizer.momentum < 1:
        raise UserError(f"optimizer.momentum={optimizer.momentum}: must be at least 0 and below 1")
    if optimizer.betas is not None and not (len(optimizer.betas) == 2 and all(0 <= b < 1 for b in optimizer.betas)):
        raise UserError(f"optimizer.betas={optimizer.betas}: must be two numbers, each at least 0 and below 1")
    if optimizer.eps is not None:
        _at_least("optimizer.eps", optimizer.eps, 0)


def _check_scheduler(config: TrainConfig) -> None:
    scheduler = config.scheduler
    _check_optional_keys("scheduler", scheduler, SCHEDULERS)
    if scheduler.min_lr is not None and not 0 <= scheduler.min_lr <= config.optimizer.lr:
        raise UserError(f"scheduler.min_lr={scheduler.min_lr}: must lie between 0 and optimizer.lr")
    if scheduler.every is not None:
        _at_least("scheduler.every", scheduler.every, 1)
    if scheduler.factor is not None and not 0 < scheduler.factor < 1:
        raise UserError(f"scheduler.factor={scheduler.factor}: must lie between 0 and 1")
    if scheduler.patience is not None:
        _at_least("scheduler.patience", scheduler.patience, 0)
    if scheduler.name == "cosine" and (config.trainer.max_epochs or -1) < 1:
        raise UserError("scheduler=cosine: needs trainer.max_epochs, the length of the curve")


def _check_trainer(config: TrainConfig) -> None:
    trainer = config.trainer
    if trainer.max_epochs is not None and trainer.max_epochs < 1 and trainer.max_epochs != -1:
        raise UserError(f"trainer.max_epochs={trainer.max_epochs}: must be 1 or more, or -1 for no limit")
    if trainer.min_epochs is not None:
        _at_least("trainer.min_epochs", trainer.min_epochs, 0)
    if trainer.max_steps < 1 and trainer.max_steps != -1:
        raise UserError(f"trainer.max_steps={trainer.max_steps}: must be 1 or more, or -1 for no limit")
    if trainer.min_steps is not None:
        _at_least("trainer.min_steps", trainer.min_steps, 0)
    for unit in ("epochs", "steps"):
        least, most = getattr(trainer, f"min_{unit}") or 0, getattr(trainer, f"max_{unit}")
        if most not in (None, -1) and least > most:
            raise UserError(f"trainer.min_{unit}={least}: must be at most trainer.max_{unit}={most}")
    if not (trainer.max_time is None or _is_duration(trainer.max_time)):
        raise UserError(f"trainer.max_time={trainer.max_time}: {DURATION}, or null")
    check_choice("trainer.accelerator", trainer.accelerator, ("auto", "cpu", "gpu", "cuda", "mps", "tpu"))
    check_choice("trainer.strategy", trainer.strategy, STRATEGIES)
    if not _are_devices(trainer.devices):
        raise UserError(
            f"trainer.devices={trainer.devices}: must be 1 or more, -1 or auto for all, or a list of their numbers"
        )
    _at_least("trainer.num_nodes", trainer.num_nodes, 1)
    if _whole(trainer.devices) and _whole(size := config.data.batch_size) and trainer.devices > size:
        raise UserError(f"trainer.devices={trainer.devices}: they share a batch, and data.batch_size={size} is too few")
    fast = trainer.fast_dev_run
    if not (isinstance(fast, bool) or (_whole(fast) and fast >= 0)):
        raise UserError(f"trainer.fast_dev_run={fast}: must be true, false, or a number of batches")
    for key in ("train", "val", "test", "predict"):
        _number_or_null(f"trainer.limit_{key}_batches", getattr(trainer, f"limit_{key}_batches"))
    _number_or_null("trainer.overfit_batches", trainer.overfit_batches)
    _check_validation_interval(trainer)
    if trainer.num_sanity_val_steps is not None:
        _at_least("trainer.num_sanity_val_steps", trainer.num_sanity_val_steps, -1)
    for key in ("log_every_n_steps", "reload_dataloaders_every_n_epochs"):
        _at_least(f"trainer.{key}", getattr(trainer, key) or 0, 0)
    if trainer.deterministic not in (None, True, False, "warn"):
        raise UserError(f"trainer.deterministic={trainer.deterministic}: must be true, false, warn or null")
    if trainer.profiler is not None:
        check_choice("trainer.profiler", trainer.profiler, ("simple", "advanced", "pytorch", "xla"))
    _at_least("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches, 1)
    if trainer.gradient_clip_val is not None:
        _at_least("trainer.gradient_clip_val", trainer.gradient_clip_val, 0)
    check_choice("trainer.gradient_clip_algorithm", trainer.gradient_clip_algorithm or "norm", ("norm", "value"))
    precisions = ("32-true", "64-true", "bf16-true", "bf16-mixed", "16-mixed", "16-true", "32", "64", "bf16", "16")
    check_choice("trainer.precision", str(trainer.precision), precisions)


def _check_validation_interval(trainer: TrainerConfig) -> None:
    interval, epochs = trainer.val_check_interval, trainer.check_val_every_n_epoch
    fits = interval is None or _is_duration(interval) or (_whole(interval) and interval >= 1)
    if not (fits or (isinstance(interval, float) and 0 < interval <= 1)):
        raise UserError(
            f"trainer.val_check_interval={interval}: must be a number of batches, a share of an epoch above 0.0 and at "
            "most 1.0, a time as DD:HH:MM:SS, or null"
        )
    if epochs is not None:
        _at_least("trainer.check_val_every_n_epoch", epochs, 1)
    elif interval is None or isinstance(interval, float):
        raise UserError(
            "trainer.check_val_every_n_epoch=null: the batches are counted on over epochs; "
            f"trainer.val_check_interval={interval} must be a number of batches, or a time as DD:HH:MM:SS"
        )


DURATION = "must be a time as DD:HH:MM:SS, or such as {hours: 1, minutes: 30}"
# Lightning's others keep a run's results in processes that they fork or spawn, or write checkpoints of their own.
STRATEGIES = (
    "auto",
    "single_device",
    "ddp",
    "ddp_find_unused_parameters_false",
    "ddp_find_unused_parameters_true",
)


def _is_duration(value: object) -> bool:
    if isinstance(value, dict):
        try:
            return timedelta(**value) > timedelta(0)
        except (TypeError, ValueError, OverflowError):
            return False
    return isinstance(value, str) and re.fullmatch(r"\d{1,6}:\d\d:\d\d:\d\d", value) is not None


def _are_devices(value: object) -> bool:
    if isinstance(value, list):
        return len(value) > 0 and len(set(map(str, value))) == len(value) and all(_whole(n) and n >= 0 for n in value)
    if isinstance(value, str):  # "2", "0,1", "-1", as Lightning reads them
        return value == "auto" or re.fullmatch(r"-1|[1-9]\d{0,5}|\d{1,6}(,\d{1,6})*,?", value) is not None
    return _whole(value) and (value == -1 or value >= 1)


def check_table_file(config: TrainConfig) -> None:
    """Refuse a table that is not there; its contents are checked when it is read.

    Raises:
        UserError: no such file.
    """
    if config.data.path is not None:
        _check_file("data.path", Path(config.data.path))


def check_checkpoint_file(key: str, path: Path) -> None:
    """Refuse what cannot be a checkpoint, without opening it with torch.

    Raises:
        UserError: no such file, a folder, or a file that is no (whole) zip archive, or one that torch did not write.
    """
    _check_file(key, path, "; name a checkpoint in it, such as checkpoints/last.ckpt")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{key}={path}: is no checkpoint, or a damaged one")
    check_archive(path, key)


def check_folder(key: str, folder: Path) -> None:
    """Refuse a path that cannot become a folder; whether it can be written to shows when it is.

    Raises:
        UserError: a part of the path is a file, or the path is none.
    """
    try:
        existing = next(part for part in (folder, *folder.parents, Path()) if part.exists())
    except OSError as error:
        raise UserError(f"{key}={folder}: cannot be a folder ({error.strerror})") from None
    if not existing.is_dir():
        raise UserError(f"{key}={folder}: {existing} is not a folder")


def _check_file(key: str, path: Path, in_a_folder: str = "") -> None:
    """Refuse anything but a regular file, without opening it: to open a pipe would block."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"{key}={path}: no such file") from None
    except OSError as error:
        raise UserError(f"{key}={path}: no such file ({error.strerror})") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{key}={path}: is a folder{in_a_folder}")
    if not stat.S_ISREG(mode):
        raise UserError(f"{key}={path}: is not a file, but a pipe, a socket or a device")


def _check_optional_keys(
    group: str,
    node: Any,
    choices: Mapping[str, tuple[str, ...]],
    may_have: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> None:
    check_choice(f"{group}.name", node.name, choices)
    has = {name: (*keys, *may_have.get(name, ())) for name, keys in choices.items()}
    for key in sorted({key for keys in has.values() for key in keys}):
        given = getattr(node, key) is not None
        if given and key not in has[node.name]:
            owners = " or ".join(f"{group}={name}" for name, keys in has.items() if key in keys)
            raise UserError(f"{group}.{key}: {group}={node.name} has no such setting; it belongs to {owners}")
        if not given and key in choices[node.name]:
            raise UserError(f"{group}.{key}: {group}={node.name} needs a value")


def check_project(key: str, name: str) -> None:
    """Refuse a name that W&B would.

    Raises:
        UserError: it is empty, longer than 128 characters, or has a character in it that W&B keeps for itself.
    """
    if not 0 < len(name) <= 128 or set(name) & set("/\\#?%:"):
        raise UserError(f"{key}={name}: must have 1 to 128 characters, none of them / \\ # ? % :")


def check_wandb_environment() -> None:
    """What W&B itself would refuse later.

    Raises:
        UserError: WANDB_MODE or WANDB_BASE_URL is set to what means nothing, or the address has a password in it.
    """
    if mode := os.environ.get("WANDB_MODE"):
        check_choice("WANDB_MODE", mode, ("online", "offline", "disabled", "dryrun", "run", "shared"))
    if address := os.environ.get("WANDB_BASE_URL"):
        try:
            parts = urlsplit(address)
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            shown = without_secrets(address)
            raise UserError(f"WANDB_BASE_URL={shown}: must be an address such as https://api.wandb.ai")
        if USER.search(address):
            raise UserError(
                f"WANDB_BASE_URL={without_secrets(address)}: must have no user's name or password in it, which W&B "
                "would write down; wandb login or WANDB_API_KEY says who you are"
            )


def _check_size(key: str, value: int) -> None:
    _at_least(key, value, 1)
    if value > LARGEST_SIZE:
        raise UserError(f"{key}={value}: must be at most {LARGEST_SIZE}")


def _check_seed(key: str, value: int) -> None:
    _at_least(key, value, 0)
    if value >= 2**32:
        raise UserError(f"{key}={value}: must be below 2^32")


def _at_least(key: str, value: float, bound: float, above: bool = False) -> None:
    if not (bound < value if above else bound <= value) or value == float("inf"):
        raise UserError(f"{key}={value}: must be {'above' if above else 'at least'} {bound}, and finite")


def _number_or_null(key: str, value: object) -> None:
    fits = isinstance(value, float) and 0 <= value <= 1
    if not (value is None or fits or (_whole(value) and value >= 0)):
        raise UserError(f"{key}={value}: must be a number of batches, a share between 0.0 and 1.0, or null")


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
