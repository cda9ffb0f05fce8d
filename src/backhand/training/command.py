"""The command `python train.py`: torch and Lightning are imported only once the configuration has been accepted."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from backhand.config.command import command, report
from backhand.config.errors import USER_ERRORS, UserError
from backhand.config.validation import check_folder, check_table_file, typed
from backhand.training.processes import is_first, refuse_sweep, without_a_folder


def main() -> None:
    """The command."""
    with without_a_folder():
        train_command()


@command
def train_command(cfg: DictConfig) -> Any:
    """Train one network; returns its objective, for Hydra's sweepers."""
    config = typed(cfg)
    from backhand.training.train import train

    return train(config)


class RefuseBadConfig(Callback):
    """Checks a single run's configuration before Hydra makes its folder; a sweep's jobs are checked as each begins.

    Hydra turns an exception in a callback into a warning and goes on, so this one leaves with SystemExit.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the run."""
        try:
            check_run(config)
        except USER_ERRORS as error:
            sys.exit(report(error))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse to begin a sweep in one of several processes."""
        try:
            refuse_sweep()
        except USER_ERRORS as error:
            sys.exit(report(error))


def check_run(cfg: DictConfig) -> None:
    """Check the configuration, that there is a table to read, and that the run's folder is free.

    Raises:
        UserError: what is wrong, in one line.
    """
    config = typed(cfg)
    check_table_file(config)
    if not cfg.hydra.run.dir:
        raise UserError("hydra.run.dir=: must be the name of a folder, which need not be there yet")
    folder = Path(cfg.hydra.run.dir)
    check_folder("hydra.run.dir", folder)
    if is_first() and (folder / ".hydra").exists():
        raise UserError(f"hydra.run.dir={folder}: holds a run already, and nothing is overwritten; name another folder")
