"""The part of the evaluate task that needs torch."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console
from torch import Tensor

from backhand.config.dataset_info import DatasetInfo
from backhand.config.schema import TrainConfig
from backhand.config.validation import resolve_auto
from backhand.data.dataset import Dataset, Rows, Split
from backhand.data.module import RunData, load
from backhand.errors import UserError
from backhand.reporting.terminal import metrics_table
from backhand.training.checkpoint import checking_contents, read
from backhand.training.module import LightningMLP
from backhand.training.parts import build_data, prepared
from backhand.training.train import quiet_lightning

Table = list[list[Any]]


def evaluate_split(config: TrainConfig, checkpoint: Path, split: Split) -> tuple[dict[str, float], Table]:
    """Print a checkpoint's metrics on a split of its run's data.

    Returns:
        The metrics, and the predictions as rows below a header: id, target, prediction, and a probability per class.

    Raises:
        UserError: the checkpoint is damaged, or does not fit its run's configuration; or the data are gone or changed.
    """
    quiet_lightning()
    module = read_module(checkpoint)
    dataset = load(config.data, config.model.hidden_activation, config.model.output_activation, write=False)
    if dataset.preprocessing != module.hparams["preprocessing"]:
        path = getattr(config.data, "path", None)
        raise UserError(f"data.path={path}: is not the table that the run was trained on any more")
    config = resolve_auto(config, dataset.info)
    return _evaluated(config, module, build_data(config, dataset), split, f"{config.data.name}, {split} split")


def evaluate_new_rows(
    config: TrainConfig, checkpoint: Path, path: Path, unknown: str = "refuse"
) -> tuple[dict[str, float], Table]:
    """Predict the rows of another file with a checkpoint of a run on a table; print metrics if it has the target.

    What `unknown=zeros` accepts, and missing values that are filled, are printed, too.

    Returns:
        The metrics and the predictions, as in `evaluate_split`; without a target there are no metrics, and there is no
        such column.

    Raises:
        UserError: the checkpoint is damaged or not of a table, or the file lacks a column or has a wrong value.
    """
    from backhand.data.table import read_new_rows

    quiet_lightning()
    module = read_module(checkpoint)
    preprocessing = module.hparams["preprocessing"]
    if preprocessing is None:
        raise UserError(f"run={checkpoint}: was not trained on a table")
    with checking_contents(checkpoint, key="run"):
        x, y, weight, accepted, filled = read_new_rows(path, preprocessing, unknown)
        class_names = preprocessing["class_names"]
    if accepted:
        print(f"unknown=zeros: {accepted}")
    if filled:
        print(f"data.missing={preprocessing['missing']}: {filled}")
    info = DatasetInfo(features=x.shape[1], classes=len(class_names) or None)
    absent = torch.zeros(len(x), dtype=torch.long) if class_names else torch.zeros(len(x), 1, dtype=torch.float64)
    dataset = Dataset({"test": Rows(torch.arange(len(x)), x, absent if y is None else y, weight)}, info, class_names)
    config = resolve_auto(config, info)
    data = prepared(config, dataset, module.hparams["target_mean"], module.hparams["target_std"])
    return _evaluated(config, module, data, "test", str(path), targets=y is not None)


def _evaluated(
    config: TrainConfig, module: LightningMLP, data: RunData, split: Split, title: str, targets: bool = True
) -> tuple[dict[str, float], Table]:
    no_float64 = data.dtype == torch.float64 and torch.backends.mps.is_available()
    trainer = L.Trainer(
        accelerator="cpu" if no_float64 else "auto",
        devices=1,
        precision=config.trainer.precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = data.evaluation_dataloader(split)
    metrics: dict[str, float] = {}
    predictions = trainer.predict(module, batches)
    if not predictions:
        raise UserError(f"split={split}: the data have no such split")
    found: dict[str, Tensor] = {name: torch.cat([batch[name] for batch in predictions]) for name in predictions[0]}
    count = len(found["prediction"])
    console = Console()
    console.print(f"{title}: {count} samples", style="bold", highlight=False)
    if targets:
        (tested,) = trainer.test(module, batches, verbose=False)
        metrics = {name.replace("test/", f"{split}/"): value for name, value in tested.items()}
        console.print(metrics_table(metrics))
    columns: dict[str, list[Any]] = {"id": data.ids(split, count)}
    names = data.dataset.class_names
    for name in ("target", "prediction") if targets else ("prediction",):
        if names:
            columns[name] = [names[number] for number in found[name].tolist()]
        elif found[name].dim() == 1:
            columns[name] = found[name].tolist()
        else:
            columns |= {f"{name}_{k}": column.tolist() for k, column in enumerate(found[name].T)}
    if "probabilities" in found:
        for name, column in zip(names, found["probabilities"].float().T, strict=True):
            columns[f"probability_{name}"] = column.tolist()
    return metrics, [list(columns), *(list(row) for row in zip(*columns.values(), strict=True))]


def read_module(checkpoint: Path) -> LightningMLP:
    """The trained network.

    Raises:
        UserError: the checkpoint is damaged, or of another version.
    """
    contents = read(checkpoint, key="run")
    with checking_contents(checkpoint, key="run"):
        sizes = contents["hyper_parameters"]["sizes"]
        stored = sum(each.numel() for each in contents["state_dict"].values())
        if sum(inputs * units for inputs, units in pairwise(sizes)) > stored:  # torch would allocate it
            raise ValueError(f"a network of {sizes} has more weights than its {stored}")
        arguments, state = dict(contents["hyper_parameters"]), contents["state_dict"]
        if arguments["gradient"] != "autograd":  # its own rule may be code, and only training needs it
            arguments["gradient"] = "hand"
            state = {name: value for name, value in state.items() if not name.startswith("model.feedback.")}
        try:
            module = LightningMLP(**arguments)
        except UserError as error:  # its message does not name the file
            raise ValueError(error) from None
        module.load_state_dict(state)
    return module
