"""The command `python train.py`: torch and Lightning are imported only once the configuration has been accepted."""

from typing import Any

from omegaconf import DictConfig

from backhand.config.command import command
from backhand.config.validation import typed


@command
def main(cfg: DictConfig) -> Any:
    """Train one network; returns its objective, for Hydra's sweepers."""
    config = typed(cfg)
    from backhand.training.train import train

    return train(config)
