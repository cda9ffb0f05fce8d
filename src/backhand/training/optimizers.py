"""The optimizers and learning-rate schedules that the configuration can name."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim import lr_scheduler as schedules


def build_optimizer(parameters: Iterable[Parameter], settings: dict[str, Any]) -> Optimizer:
    """The optimizer of an `OptimizerConfig`; what is null there is not a setting of its kind."""
    kinds: dict[str, Callable[..., Optimizer]] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    given = {key: value for key, value in settings.items() if key != "name" and value is not None}
    return kinds[settings["name"]](parameters, **given)


def build_scheduler(
    optimizer: Optimizer, settings: dict[str, Any], maximize: bool, max_epochs: int | None
) -> schedules.LRScheduler | None:
    """The schedule of a `SchedulerConfig`, stepped once an epoch, or None."""
    match settings["name"]:
        case "cosine":
            assert max_epochs is not None
            return schedules.CosineAnnealingLR(optimizer, T_max=max_epochs, eta_min=settings["min_lr"])
        case "step":
            return schedules.StepLR(optimizer, step_size=settings["every"], gamma=settings["factor"])
        case "plateau":
            return schedules.ReduceLROnPlateau(
                optimizer,
                mode="max" if maximize else "min",
                factor=settings["factor"],
                patience=settings["patience"],
                min_lr=settings["min_lr"],
            )
    return None
