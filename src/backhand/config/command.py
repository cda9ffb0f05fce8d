"""A Hydra command that refuses a wrong configuration in one line, before a folder is made for the run."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from backhand.config.errors import USER_ERRORS, UserError, one_line
from backhand.config.validation import typed

CONF = Path(__file__).resolve().parents[3] / "conf"


def command(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
    """Make a task that takes the composed configuration into a command of `conf/train.yaml`.

    The user's mistakes end it with one line and exit status 1; any other exception is a bug, and keeps its traceback.
    """
    begun = False

    @functools.wraps(task)
    def mark_and_run(cfg: DictConfig) -> Any:
        nonlocal begun
        begun = True
        try:
            return task(cfg)
        except UserError as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            # Hydra would put a line of its own before ours.
            sys.exit(report(error))

    run = hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(mark_and_run)

    @functools.wraps(task)
    def main() -> None:
        # Hydra would print exceptions in its own form, and several lines of it; with this it hands them on.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        try:
            run()
        except USER_ERRORS as error:
            sys.exit(report(error))
        except ValueError as error:
            # Hydra answers some overrides (`data=null`) with a bare ValueError while it composes.
            if begun:
                raise
            sys.exit(report(error))
        except KeyboardInterrupt:
            sys.exit(130)

    return main


def report(error: BaseException) -> str:
    """The line that the user reads."""
    return f"{Path(sys.argv[0]).name}: {one_line(error)}"


class RefuseBadConfig(Callback):
    """Checks the composed configuration before Hydra makes the run's folder.

    Hydra turns an exception in a callback into a warning and goes on, so this one leaves with SystemExit.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check a single run, and that its folder is free."""
        try:
            check_run(config)
        except USER_ERRORS as error:
            sys.exit(report(error))


def check_run(config: DictConfig) -> None:
    """Check the configuration, the folder and the checkpoint to go on from.

    Raises:
        UserError: what is wrong, in one line.
    """
    checked = typed(config)
    folder = Path(config.hydra.run.dir)
    first_process = os.environ.get("LOCAL_RANK", "0") == "0"  # the other processes of a run share its folder
    if first_process and (folder / ".hydra").exists():
        raise UserError(f"hydra.run.dir={folder}: holds a run already, and nothing is overwritten; name another folder")
    if checked.ckpt_path is not None:
        # Only here is torch worth its seconds before the run begins: the checkpoint must be read to be judged.
        from backhand.training.checkpoint import check_fits

        check_fits(Path(checked.ckpt_path), checked)
