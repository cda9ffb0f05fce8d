"""Validation of the configuration, before anything is created or trained."""

import functools
import os
import stat
import zipfile
from dataclasses import asdict, fields, make_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast, get_type_hints
from urllib.parse import urlsplit

from omegaconf import MISSING, DictConfig, OmegaConf

from backhand.calculus.activations import ACTIVATIONS, check_hidden_activation
from backhand.calculus.choices import check_choice, closest
from backhand.calculus.feedback import GRADIENTS, RULES
from backhand.calculus.initialization import INITIALIZATIONS
from backhand.calculus.losses import LOSSES, check_parameters
from backhand.config.confidential import USER, check_nothing_confidential, leaves, without_secrets
from backhand.config.dataset_info import DATASETS, DatasetInfo
from backhand.config.errors import no_schema
from backhand.config.imports import import_modules, split_gradient, top_level_names
from backhand.config.ranges import MAX_SIZE, check_ranges, is_whole
from backhand.config.schema import (
    AUTO,
    CHOICES,
    OPEN_PARTS,
    OWN_UPDATES,
    CosineConfig,
    CustomDataConfig,
    CustomSchedulerConfig,
    DataConfig,
    ImagesConfig,
    ModelConfig,
    NetworkArguments,
    SchedulerConfig,
    TableConfig,
    TeacherConfig,
    TrainConfig,
    TrainerConfig,
)
from backhand.config.stored import check_archive
from backhand.errors import UserError


def parse_config(cfg: DictConfig) -> TrainConfig:
    """Convert the composed configuration to dataclasses, with interpolations resolved and all values checked.

    For data that must be read first, `resolve_auto` completes the check.

    Raises:
        UserError: a value is wrong.
        omegaconf.errors.OmegaConfBaseException: a key or a type does not match the schema.
    """
    return check_config(apply_schema(cfg))


def apply_schema(cfg: DictConfig) -> DictConfig:
    """Merge the composed configuration, without Hydra's part, into the typed schema.

    It takes 15 ms, and `check_config` 1 ms; therefore jobs of a sweep that differ in a few values share the result.

    Raises:
        UserError: a `name` is not a choice.
        omegaconf.errors.OmegaConfBaseException: a key or a type does not match the schema.
    """
    tree = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=False))
    tree.pop("hydra", None)
    kinds = dict(OPEN_PARTS)
    for group, choices in CHOICES.items():
        part = tree.get(group)
        name = part.get("name") if isinstance(part, dict) else part
        if name == MISSING:
            raise UserError(no_schema(group))
        check_choice(f"{group}.name", str(name), choices)
        kinds[group] = choices[str(name)]
    for group, kind in kinds.items():
        part = tree.get(group)
        if getattr(kind, "is_open", False) and isinstance(part, dict):
            for key in part:
                if not str(key).isidentifier():
                    raise UserError(f"{group}.{key}: must be a name of letters, digits and _")
            kinds[group] = add_keys(kind, tuple(str(key) for key in part if key not in get_type_hints(kind)))
    return cast(DictConfig, OmegaConf.merge(_schema(**kinds), tree))


@functools.cache
def _schema(**kinds: type) -> DictConfig:
    """The structured configuration with the dataclasses of these choices; creating it takes 5 ms."""
    schema = OmegaConf.structured(TrainConfig)
    for group, kind in kinds.items():
        schema[group] = OmegaConf.structured(kind)
    return cast(DictConfig, schema)


@functools.cache
def add_keys(kind: type, keys: tuple[str, ...]) -> type:
    """A dataclass of an open part of the configuration, with additional keys of the user."""
    return make_dataclass(kind.__name__, [(key, Any, None) for key in keys], bases=(kind,)) if keys else kind


def extra_keys(part: Any, kind: type) -> dict[str, Any]:
    """The additional keys of an open part whose values are not null."""
    own = {field.name: getattr(part, field.name) for field in fields(part)[len(fields(cast(Any, kind))) :]}
    return {key: value for key, value in own.items() if value is not None}


def check_config(tree: DictConfig) -> TrainConfig:
    """Convert the result of `apply_schema` to dataclasses, with interpolations resolved and all values checked.

    Raises:
        UserError: a value is wrong.
        omegaconf.errors.OmegaConfBaseException: an interpolation names no key.
    """
    for key in sorted(OmegaConf.missing_keys(tree)):
        group = key.partition(".")[0]
        raise UserError(f"{key}: missing; {group}={tree[group].name} needs it")
    config = cast(TrainConfig, OmegaConf.to_object(tree))
    check_nothing_confidential(leaves(asdict(config)))
    check_ranges(config)
    import_modules(config.imports)
    _check(config)
    info = known_info(config.data)
    return config if info is None else resolve_auto(config, info)


def known_info(data: DataConfig) -> DatasetInfo | None:
    """The shape of the configured data set; None for a table, which must be read first."""
    match data:
        case TeacherConfig():
            return DatasetInfo(samples=data.samples, features=data.features, outputs=data.outputs, classes=None)
        case CustomDataConfig():
            return DatasetInfo(features=data.features, classes=data.classes, outputs=data.outputs)
    return DATASETS.get(data.name)


def resolve_auto(config: TrainConfig, info: DatasetInfo) -> TrainConfig:
    """Replace `auto` by values for this data set, and check the configuration against its shape.

    Raises:
        UserError: a value does not match the data.
    """
    loss, output = config.model.loss, config.model.output_activation
    if loss == "auto":
        loss = "mse" if info.classes is None else "binary_cross_entropy" if info.classes == 2 else "cross_entropy"
    if output == "auto":
        output = LOSSES[loss].matched if loss in LOSSES else output
    config = replace(config, model=replace(config.model, loss=loss, output_activation=output))
    _check_split(config, info)
    _check_model(config, info)
    check_choice("objective", config.objective, metric_names(info))
    return config


def output_units(config: TrainConfig, info: DatasetInfo) -> int:
    """C: 1 for binary cross-entropy, otherwise the number of classes or of regression targets."""
    if info.classes is None:
        return info.outputs
    return 1 if config.model.loss == "binary_cross_entropy" else info.classes


def layer_sizes(config: TrainConfig, info: DatasetInfo) -> list[int]:
    """The layer sizes [D, H, …, C]."""
    return [info.features, *config.model.hidden, output_units(config, info)]


def metric_names(info: DatasetInfo) -> list[str]:
    """The allowed values of `objective`."""
    metrics = ("loss", "r2", "mae") if info.classes is None else ("loss", "acc")
    return ["train/loss", *(["train/acc"] if "acc" in metrics else []), *(f"val/{metric}" for metric in metrics)]


def larger_is_better(metric: str) -> bool:
    """Whether a metric is to be maximised."""
    return metric.endswith(("/acc", "/r2"))


def check_validated(key: str, metric: str, trainer: TrainerConfig) -> None:
    """Refuse a metric of the validation split if there is no validation.

    Args:
        key: the key of the setting that names the metric, for messages.
        metric: the metric, such as `val/loss`.
        trainer: the trainer's configuration.

    Raises:
        UserError: there is no validation.
    """
    if not metric.startswith("val/") or trainer.fast_dev_run:  # fast_dev_run always validates
        return
    every, epochs, because = trainer.check_val_every_n_epoch, trainer.max_epochs, None
    if trainer.limit_val_batches == 0 and not trainer.overfit_batches:  # overfit_batches overrides the limit
        because = f"trainer.limit_val_batches={trainer.limit_val_batches}"
    elif every is not None and epochs is not None and 0 < epochs < every:
        because = f"trainer.check_val_every_n_epoch={every} and trainer.max_epochs={epochs}"
    if because is not None:
        raise UserError(f"{key}={metric}: there is no validation with {because}; choose train/loss")


def check_interval(trainer: TrainerConfig, batches: int) -> None:
    """Refuse a validation interval that is longer than an epoch.

    Raises:
        UserError: the interval is longer.
    """
    interval, counts_on = trainer.val_check_interval, trainer.check_val_every_n_epoch is None
    if isinstance(interval, int) and not isinstance(interval, bool) and interval > batches and not counts_on:
        raise UserError(
            f"trainer.val_check_interval={interval}: an epoch has {batches} batches; "
            "with trainer.check_val_every_n_epoch=null batches are counted across epochs"
        )


def _check_own(group: str, part: Any, kind: type) -> None:
    """Refuse additional keys without a `_target_`; they may be misspelt."""
    known = [field.name for field in fields(cast(Any, kind))]
    for key, value in extra_keys(part, kind).items():
        if not isinstance(value, dict) or "_target_" not in value:
            raise UserError(
                f"{group}.{key}: no such key{closest(key, known)}; {group} has {', '.join(known)}, or your own with "
                f"{group}.NAME._target_=…: docs/extending.md"
            )


def _check(config: TrainConfig) -> None:
    """Check the rules for several keys."""
    for group, kind in OPEN_PARTS.items():
        _check_own(group, getattr(config, group), kind)
    data, trainer, scheduler, audit = config.data, config.trainer, config.scheduler, config.callbacks.audit
    if isinstance(data, ImagesConfig):
        if data.test_fraction != 0:
            raise UserError(
                f"data.test_fraction={data.test_fraction}: data={data.name} has its own test split; must be 0"
            )
    elif data.test_fraction == 0:
        raise UserError(f"data.test_fraction=0.0: data={data.name} has no test split of its own; must be above 0")
    if data.val_fraction + data.test_fraction >= 1:
        raise UserError(
            f"data.val_fraction={data.val_fraction} and data.test_fraction={data.test_fraction}: "
            "their sum must be below 1, so that training data are left"
        )
    lr = getattr(config.optimizer, "lr", None)
    if lr is not None and not (isinstance(lr, int | float) and 0 < lr < float("inf")):  # of a custom optimizer
        raise UserError(f"optimizer.lr={lr}: must be a number above 0")
    if lr is not None and getattr(scheduler, "min_lr", 0.0) > lr:
        raise UserError(f"scheduler.min_lr={scheduler.min_lr}: must be at most optimizer.lr={lr}")  # type: ignore[attr-defined]
    if isinstance(scheduler, CosineConfig) and (trainer.max_epochs or -1) < 1:
        raise UserError("scheduler=cosine: needs trainer.max_epochs, the length of the schedule")
    for unit in ("epochs", "steps"):
        least, most = getattr(trainer, f"min_{unit}") or 0, getattr(trainer, f"max_{unit}")
        if most not in (None, -1) and least > most:
            raise UserError(f"trainer.min_{unit}={least}: must be at most trainer.max_{unit}={most}")
    if is_whole(trainer.devices) and is_whole(data.batch_size) and trainer.devices > data.batch_size:
        raise UserError(
            f"trainer.devices={trainer.devices}: must be at most data.batch_size={data.batch_size}, which they share"
        )
    interval = trainer.val_check_interval
    if trainer.check_val_every_n_epoch is None and (interval is None or isinstance(interval, float)):
        raise UserError(
            "trainer.check_val_every_n_epoch=null: batches are counted across epochs; "
            f"trainer.val_check_interval={interval} must be a number of batches, or a time as DD:HH:MM:SS"
        )
    if lr is None and type(scheduler) not in (SchedulerConfig, CustomSchedulerConfig):
        raise UserError(f"scheduler={scheduler.name}: needs optimizer.lr, as in optimizer.lr=0.01")
    check_validated("objective", config.objective, trainer)
    if config.compile:
        _check_compile(config)
    if config.logger.wandb:
        check_wandb_environment()
    if audit is not None and audit.stop < audit.warn:
        raise UserError(f"callbacks.audit.stop={audit.stop}: must be at least callbacks.audit.warn={audit.warn}")
    if config.ckpt_path not in (None, AUTO):
        check_checkpoint_file("ckpt_path", Path(str(config.ckpt_path)))


def _check_split(config: TrainConfig, info: DatasetInfo) -> None:
    data = config.data
    if info.samples is None:
        return
    train_fraction = 1 - data.val_fraction - data.test_fraction
    parts = [("val", data.val_fraction), ("train", train_fraction)]
    if not info.has_test_split:
        parts.insert(1, ("test", data.test_fraction))
    for part, fraction in parts:
        least = 2 * (info.classes or 1)
        if int(fraction * info.samples) < least:
            raise UserError(
                f"data.val_fraction={data.val_fraction}, data.test_fraction={data.test_fraction}: leave "
                f"{int(fraction * info.samples)} of the {info.samples} samples of data={data.name} to {part}; "
                f"it needs {least} or more"
            )


def check_network(model: NetworkArguments, outputs: int) -> None:
    """Check the layers, the names of activations and loss, and the parameters of the loss.

    Raises:
        UserError: a value is wrong.
    """
    for units in model.hidden:
        if not is_whole(units) or units < 1:
            raise UserError(f"model.hidden={model.hidden}: a layer needs 1 unit or more; [] is a linear model")
        if units > MAX_SIZE:
            raise UserError(f"model.hidden={model.hidden}: a layer can have at most {MAX_SIZE} units")
    try:
        check_hidden_activation(model.hidden_activation, len(model.hidden))
        check_choice("loss", model.loss, LOSSES)
        loss = LOSSES[model.loss]
        output = model.output_activation or loss.matched
        check_choice("output_activation", output, ACTIVATIONS)
        if misfit := loss.misfit(output, ACTIVATIONS[output].range):
            raise UserError(f"loss={model.loss} {misfit}; model.output_activation is {output}")
        parameters = loss_parameters(model)
        if parameters.get("class_weight") == "balanced" and "class_weight" in loss.parameters:
            parameters.pop("class_weight")
        check_parameters(model.loss, parameters, outputs)
    except ValueError as error:
        raise UserError(f"model.{error}") from None


def loss_parameters(model: NetworkArguments) -> dict[str, Any]:
    """The given parameters of the loss, by name."""
    names = {name for loss in LOSSES.values() for name in loss.parameters}
    return {name: value for name in sorted(names) if (value := getattr(model, name)) is not None}


def _check_model(config: TrainConfig, info: DatasetInfo) -> None:
    model = config.model
    units = output_units(config, info)
    check_network(model, units)
    _check_gradient(model)
    check_choice("model.init", model.init, INITIALIZATIONS)
    loss = LOSSES[model.loss]
    if info.classes is None and loss.probabilities:
        numbers = ", ".join(name for name, each in LOSSES.items() if not each.probabilities)
        raise UserError(f"model.loss={model.loss} is for classes; data={config.data.name} is a regression: {numbers}")
    if model.loss == "binary_cross_entropy" and info.classes != 2:
        raise UserError(f"model.loss={model.loss} is for two classes; data={config.data.name} has {info.classes}")
    if model.output_activation == "softmax" and units == 1:
        raise UserError("model.output_activation=softmax: softmax of a single output is always 1")


def _check_gradient(model: ModelConfig) -> None:
    """Check the name or the file and function, and the activations that the rule is for."""
    where = f"model.gradient={model.gradient}"
    if (own := split_gradient(model.gradient)) is not None:
        path, name = own
        _check_file("model.gradient", path)
        try:
            names = top_level_names(path)
        except (SyntaxError, ValueError) as error:
            raise UserError(f"{where}: {path} is not Python ({error})") from None
        if name not in names:
            raise UserError(f"{where}: {path} has no function {name}{closest(name, names)}")
        return
    if model.gradient.endswith(".py"):
        raise UserError(f"{where}: needs the function, as in {model.gradient}:hidden_delta")
    check_choice("model.gradient", model.gradient, GRADIENTS)
    names = [model.hidden_activation] if isinstance(model.hidden_activation, str) else model.hidden_activation
    flat = [name for name in ACTIVATIONS if ACTIVATIONS[name].flat]
    if model.gradient in RULES and RULES[model.gradient].flat and not set(names) & set(flat):
        raise UserError(f"{where}: is for activations with derivative 0, such as model.hidden_activation={flat[0]}")
    if model.gradient in RULES and not RULES[model.gradient].flat and set(names) & set(flat):
        raise UserError(
            f"{where}: multiplies by the derivative of model.hidden_activation={model.hidden_activation}, which is 0; "
            "use model.gradient=straight_through"
        )


def can_compile() -> bool:
    """Whether this torch compiles the training step correctly: 2.15 does.

    With torch 2.11 the audit found errors of 1 % in the gradients with Adam.
    """
    return tuple(int(part) for part in version("torch").split(".")[:2]) >= (2, 15)


def _check_compile(config: TrainConfig) -> None:
    """Refuse settings that the compiled step does not support, and older versions of torch."""
    trainer = config.trainer
    if not can_compile():
        raise UserError(
            f"compile=true: needs torch 2.15 or newer, which it was tested with; this is {version('torch')}"
        )
    mixed = str(trainer.precision) in ("bf16-mixed", "16-mixed", "bf16", "16")
    for wrong, reason in (
        (config.model.gradient == "autograd", "model.gradient=autograd: it builds no graph"),
        (
            config.optimizer.target not in OWN_UPDATES,
            f"optimizer={config.optimizer.name}: use sgd, adam or adamw",
        ),
        (isinstance(config.scheduler, CustomSchedulerConfig), "scheduler=custom, which Lightning steps"),
        (mixed, f"trainer.precision={trainer.precision}: mixed precision is not implemented"),
        (trainer.devices != 1 or trainer.num_nodes != 1, "several devices; use one"),
        (trainer.accumulate_grad_batches != 1, "trainer.accumulate_grad_batches; it updates after every batch"),
        (trainer.gradient_clip_val is not None, "trainer.gradient_clip_val; it does not clip"),
    ):
        if wrong:
            raise UserError(f"compile=true: does not support {reason}")


def check_table_file(config: TrainConfig) -> None:
    """Check that the table file exists; its contents are checked later.

    Raises:
        UserError: there is no such file.
    """
    if isinstance(config.data, TableConfig):
        _check_file("data.path", Path(config.data.path))


def check_checkpoint_file(key: str, path: Path) -> None:
    """Check that a file can be a checkpoint, without opening it with torch.

    Raises:
        UserError: there is no such file, or it is not a complete zip archive that torch can have written.
    """
    _check_file(key, path, "; name a checkpoint in it, such as checkpoints/last.ckpt")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{key}={path}: is not a checkpoint, or is damaged")
    check_archive(path, key)


def check_folder(key: str, folder: Path) -> None:
    """Check that a path is a folder or can become one.

    Raises:
        UserError: a part of the path is a file, or the path is invalid.
    """
    try:
        existing = next(part for part in (folder, *folder.parents, Path()) if part.exists())
    except OSError as error:
        raise UserError(f"{key}={folder}: cannot be a folder ({error.strerror})") from None
    if not existing.is_dir():
        raise UserError(f"{key}={folder}: {existing} is not a folder")


def _check_file(key: str, path: Path, in_a_folder: str = "") -> None:
    """Refuse anything except a regular file, without opening it: opening a pipe would block."""
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


def check_wandb_environment() -> None:
    """Check the environment variables that W&B would refuse later.

    Raises:
        UserError: WANDB_MODE or WANDB_BASE_URL is invalid, or the URL contains a password.
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
            raise UserError(f"WANDB_BASE_URL={shown}: must be a URL such as https://api.wandb.ai")
        if USER.search(address):
            raise UserError(
                f"WANDB_BASE_URL={without_secrets(address)}: must not contain a user name or password, which W&B "
                "would store; use wandb login or WANDB_API_KEY"
            )
