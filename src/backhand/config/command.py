"""Commands whose user's mistakes are one line and exit status 1."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra._internal import hydra as hydra_internal
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from yaml import YAMLError

from backhand.config.confidential import without_secrets
from backhand.config.errors import USER_ERRORS, UserError, key_of_null, one_line
from backhand.config.untrusted import CheckedLoader, permission

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
            _check_what_is_composed()
            run()
        except USER_ERRORS as error:
            sys.exit(report(error))
        except (ValueError, OSError, YAMLError) as error:
            # Hydra answers some overrides (`data=null`) with a bare ValueError while it composes, and a folder that
            # cannot be made with an OSError.
            if begun:
                raise
            sys.exit(report(error))
        except AssertionError:
            # OmegaConf's answer to a key of a part that is off: `callbacks.audit=null callbacks.audit.every=5`.
            if begun or (key := key_of_null(sys.argv[1:])) is None:
                raise
            parent, _, _ = key.rpartition(".")
            group, _, _ = parent.partition(".")
            sys.exit(
                report(
                    UserError(f"{key}: {parent} is off here (null); choose a {group}=… that has it, or leave this out")
                )
            )
        except KeyboardInterrupt:
            sys.exit(130)

    return main


def _check_what_is_composed() -> None:
    """Give Hydra a loader that looks at what it composes.

    Raises:
        UserError: `allow_targets` is no list of names; or an old run is to be repeated from a pickle, which is code.
    """
    if get_args_parser().parse_args().experimental_rerun is not None:
        raise UserError("--experimental-rerun: unpickles a file, which can run anything; repeat .hydra/overrides.yaml")
    assert hasattr(hydra_internal, "ConfigLoaderImpl")
    hydra_internal.ConfigLoaderImpl = functools.partial(CheckedLoader, permission=permission(sys.argv))


def script(task: Callable[[list[str]], int]) -> Callable[[], None]:
    """Make a task that takes the command line's arguments, and returns its exit status, into a command."""

    @functools.wraps(task)
    def main() -> None:
        try:
            sys.exit(task(sys.argv[1:]))
        except UserError as error:
            sys.exit(report(error))
        except KeyboardInterrupt:
            sys.exit(130)

    return main


def report(error: BaseException) -> str:
    """The line that the user reads."""
    return f"{Path(sys.argv[0]).name}: {without_secrets(one_line(error))}"
