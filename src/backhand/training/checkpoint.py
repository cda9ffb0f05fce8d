"""Reading checkpoints: always as plain data (`weights_only=True`), never as pickled objects."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from backhand.config.errors import UserError
from backhand.config.schema import TrainConfig
from backhand.config.validation import layer_sizes
from backhand.data.dataset import Dataset

# Settings of `LightningMLP` that a checkpoint and the run that goes on from it must share.
SHARED = ("sizes", "hidden_activation", "output_activation", "loss")


def read(path: Path, key: str = "ckpt_path") -> dict[str, Any]:
    """The contents of a checkpoint.

    Raises:
        UserError: the file is damaged, or is something else.
    """
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise UserError(f"{key}={path}: holds more than plain data, or is damaged; not opened") from None
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError on a damaged file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{key}={path}: is no checkpoint, or a damaged one ({reason})") from None
    if not isinstance(contents, dict) or not {"state_dict", "hyper_parameters"} <= contents.keys():
        raise UserError(f"{key}={path}: is not a checkpoint of this program")
    return contents


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
