"""Entry points of commands: an error of the user is one line and exit status 1."""

import argparse
import functools
import itertools
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from traceback import walk_tb
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from backhand import __version__
from backhand.config import CONF
from backhand.config.confidential import without_secrets
from backhand.config.errors import USER_ERRORS, one_line
from backhand.config.help import choices_with, register_help
from backhand.config.output import is_closed, replace_unencodable
from backhand.config.platform import check_platform
from backhand.config.process import OUTPUT_FAILED
from backhand.config.schema import CHOICES
from backhand.errors import UserError

GROUPS = tuple(folder.relative_to(CONF).as_posix() for folder in CONF.rglob("*") if folder.is_dir())
OPTIONAL_GROUPS = ("experiment", "debug")  # groups that may have no choice


def command(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
    """Turn a function of the composed configuration into a command that reads `conf/train.yaml`.

    An error of the user becomes one line and exit status 1; any other exception is a bug, and keeps its traceback.
    """
    started = False

    @functools.wraps(task)
    def mark_and_run(cfg: DictConfig) -> Any:
        nonlocal started
        started = True
        try:
            return task(cfg)
        except UserError as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            # Hydra would print another line before the message.
            sys.exit(report(error))

    register_help()
    run = hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(mark_and_run)

    @script
    @functools.wraps(task)
    def main(command_line: list[str]) -> int:
        nonlocal started
        started = False
        # Without it Hydra prints exceptions itself, in several lines.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        logging.raiseExceptions = False  # on a full disk each log line would print a traceback
        try:
            check_command_line(command_line)
            run()
        except (*USER_ERRORS, BrokenPipeError):
            raise
        except Exception as error:
            message = None if started else _startup_error(error, command_line)
            if message is None:
                raise
            sys.exit(report(message))
        return 0

    return main


def _startup_error(error: Exception, arguments: Sequence[str]) -> Exception | None:
    """The error to report if an exception is raised before the task starts; None for a bug."""
    if isinstance(error, AssertionError):
        # OmegaConf raises it for a key of a part that is null: `callbacks=quiet callbacks.audit.every=5`.
        for argument in arguments:
            if found := re.match(r"\+*((callbacks|logger)\.\w+)\.", argument):
                part, group = found.groups()
                owners = " or ".join(choices_with(f"{part}."))
                return UserError(f"{argument}: {part} is null" + (f"; it needs {group}={owners}" if owners else ""))
    if isinstance(error, OSError) and error.filename is not None:
        return UserError(f"{error.filename}: cannot be read or created ({error.strerror})")
    ours = {frame.f_globals["__name__"] for frame, _ in walk_tb(error.__traceback__)}
    if any(name.startswith(("backhand.", "hydra_plugins.backhand")) for name in ours - {__name__}):
        return error if isinstance(error, ValueError | OSError) else None
    # Hydra composes only the user's words, so its exception is about one of them.
    reason = " ".join(filter(None, (type(error).__name__, str(error))))
    return UserError(f"{' '.join(arguments)}: cannot be composed ({reason})")


class _Flags(argparse.ArgumentParser):
    """Hydra's flags, as in `--hydra-help`; `--version` prints the version of this package instead of Hydra's."""

    def __init__(self) -> None:
        super().__init__(add_help=False)
        self.add_argument("overrides", nargs="*")
        for flags in ("--help -h", "--hydra-help", "--resolve", "--run -r", "--multirun -m"):
            self.add_argument(*flags.split(), action="store_true")
        self.add_argument("--version", action="version", version=f"backhand {__version__}")
        self.add_argument("--shell-completion", "-sc", action="store_true")
        for flags in ("--package -p", "--config-path -cp", "--config-name -cn", "--config-dir -cd"):
            self.add_argument(*flags.split())
        self.add_argument("--experimental-rerun")
        self.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
        about = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
        self.add_argument("--info", "-i", nargs="?", const="all", choices=about)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The flags; argparse takes settings only from one side of a flag."""
        flags, behind = self.parse_known_args(arguments)
        if behind and not behind[0].startswith("-"):
            after = arguments[arguments.index(flags.overrides[0]) :]
            flag = next(each.partition("=")[0] for each in after if each.startswith("-"))
            raise UserError(f"{flag}: stands between settings; put all flags first")
        if behind:
            self.error(f"unrecognized arguments: {' '.join(behind)}")
        return flags

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; the flags are in --help")


def check_command_line(arguments: Sequence[str]) -> None:
    """Refuse what Hydra would accept, or refuse in several lines.

    Raises:
        UserError: a flag or a setting is wrong.
        hydra.errors.OverrideParseException: a setting is not key=value.
    """
    flags = _Flags().parse(arguments)
    if flags.experimental_rerun is not None:
        raise UserError("--experimental-rerun: unpickles a file, which can run code; repeat .hydra/overrides.yaml")
    if flags.config_path is not None:
        raise UserError(f"--config-path={flags.config_path}: must be conf/; --config-dir adds your own folder")
    if flags.config_dir is not None:
        _check_own_choices(Path(flags.config_dir))
    for before, after in itertools.pairwise(flags.overrides):
        if after.startswith("=") or (before.endswith("=") and re.fullmatch(r"\w+", after)):
            raise UserError(f"{before} {after}: no spaces around = are allowed; write data=wine")
    overrides = OverridesParser.create().parse_overrides(flags.overrides)
    is_run = not (flags.multirun or flags.cfg or flags.info or flags.help)
    is_run = is_run and all(each.key_or_group != "hydra.mode" for each in overrides)
    for override in overrides:
        _check_override(override, is_run)


def _check_own_choices(folder: Path) -> None:
    """Refuse a file of the user with the name of a file in conf/, because Hydra would silently ignore it."""
    for file in folder.rglob("*.yaml"):
        ours = CONF / file.relative_to(folder)
        if ours.is_file() and ours.read_bytes() != file.read_bytes():
            raise UserError(
                f"--config-dir={folder}: {file.relative_to(folder)} is a choice of conf/ already; give it another name"
            )


def _check_override(override: Override, is_run: bool) -> None:
    """Refuse `data=null`, `data=[true]`, `~seed`, and `search=optuna` without -m."""
    name, value = override.key_or_group, override.value()
    if override.is_delete() and name not in OPTIONAL_GROUPS:
        raise UserError(f"{override.input_line}: cannot be deleted; give it another value")
    if is_run and re.fullmatch(r"search|hydra[/.](launcher|sweep(er)?)(\..+)?", name):
        raise UserError(f"{override.input_line}: is only for sweeps; add -m")
    if name not in GROUPS or override.is_sweep_override() or (name in OPTIONAL_GROUPS and value is None):
        return
    names = value if isinstance(value, list) and value and name not in CHOICES else [value]
    if not all(isinstance(each, str) for each in names):
        choices = ", ".join(sorted(file.stem for file in (CONF / name).glob("*.yaml")))
        raise UserError(f"{override.input_line}: must be the name of a choice: {choices}")


def script(task: Callable[[list[str]], int]) -> Callable[[], None]:
    """Turn a function of the command line's arguments, which returns the exit status, into a command."""

    @functools.wraps(task)
    def main() -> None:
        replace_unencodable()
        try:
            check_platform()
            sys.exit(task(sys.argv[1:]))
        except USER_ERRORS as error:
            sys.exit(report(error))
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            # `… | head` has closed the pipe; any other pipe of a command is no output of it.
            if not is_closed(sys.stdout):
                raise
            sys.exit(OUTPUT_FAILED)

    return main


def report(error: BaseException) -> str:
    """The error message that a command prints."""
    return f"{Path(sys.argv[0]).name}: {without_secrets(one_line(error))}"
