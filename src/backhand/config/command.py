"""Commands whose user's mistakes are one line and exit status 1."""

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

from backhand.config import CONF
from backhand.config.confidential import without_secrets
from backhand.config.errors import USER_ERRORS, one_line
from backhand.config.help import register_help
from backhand.config.output import replace_unencodable
from backhand.config.platform import check_platform
from backhand.config.schema import CHOICES
from backhand.errors import UserError

GROUPS = tuple(folder.relative_to(CONF).as_posix() for folder in CONF.rglob("*") if folder.is_dir())
OPTIONAL = ("experiment", "debug")  # groups of which there need not be a choice


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

    register_help()
    run = hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(mark_and_run)

    @script
    @functools.wraps(task)
    def main(command_line: list[str]) -> int:
        nonlocal begun
        begun = False
        # Hydra would print exceptions in its own form, and several lines of it; with this it hands them on.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        logging.raiseExceptions = False  # a log on a full disk would have a traceback for each line
        try:
            check_command_line(command_line)
            run()
        except USER_ERRORS:
            raise
        except Exception as error:
            said = None if begun else _of_starting(error, command_line)
            if said is None:
                raise
            sys.exit(report(said))
        return 0

    return main


def _of_starting(error: Exception, arguments: Sequence[str]) -> Exception | None:
    """What the user is told of an exception before the task has begun; None if it is a bug."""
    if isinstance(error, AssertionError):
        # OmegaConf's answer to a key of a part that is off: `callbacks=quiet callbacks.audit.every=5`.
        for argument in arguments:
            if found := re.match(r"\+*((callbacks|logger)\.\w+)\.", argument):
                part, group = found.groups()
                return UserError(
                    f"{argument}: {part} is off here (null); choose a {group}=… that has it, or leave this out"
                )
    if isinstance(error, OSError) and error.filename is not None:
        return UserError(f"{error.filename}: cannot be read or made ({error.strerror})")
    ours = {frame.f_globals["__name__"] for frame, _ in walk_tb(error.__traceback__)}
    if any(name.startswith(("backhand.", "hydra_plugins.backhand")) for name in ours - {__name__}):
        return error if isinstance(error, ValueError | OSError) else None
    # With nothing but the user's words to compose, whatever Hydra stumbles over is one of them.
    reason = " ".join(filter(None, (type(error).__name__, str(error))))
    return UserError(f"{' '.join(arguments)}: cannot be composed ({reason})")


class _Flags(argparse.ArgumentParser):
    """Hydra's flags, as `--hydra-help` has them."""

    def __init__(self) -> None:
        super().__init__(add_help=False)
        self.add_argument("overrides", nargs="*")
        for flags in ("--help -h", "--hydra-help", "--version", "--resolve", "--run -r", "--multirun -m"):
            self.add_argument(*flags.split(), action="store_true")
        self.add_argument("--shell-completion", "-sc", action="store_true")
        for flags in ("--package -p", "--config-path -cp", "--config-name -cn", "--config-dir -cd"):
            self.add_argument(*flags.split())
        self.add_argument("--experimental-rerun")
        self.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
        about = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
        self.add_argument("--info", "-i", nargs="?", const="all", choices=about)

    def error(self, message: str) -> NoReturn:
        behind = message.removeprefix("unrecognized arguments: ")
        if behind != message and not behind.startswith("-"):
            raise UserError(f"{behind}: stands behind a flag with settings before it; put the flags first")
        raise UserError(f"{message}; the flags are in --help")


def check_command_line(arguments: Sequence[str]) -> None:
    """Refuse what Hydra would answer in several lines or not at all.

    Raises:
        UserError: what is wrong with it.
        hydra.errors.OverrideParseException: a setting that is not of the form key=value.
    """
    flags = _Flags().parse_args(arguments)
    if flags.experimental_rerun is not None:
        raise UserError("--experimental-rerun: unpickles a file, which can run anything; repeat .hydra/overrides.yaml")
    if flags.config_path is not None:
        raise UserError(
            f"--config-path={flags.config_path}: conf/ is needed; --config-dir adds a folder of yours to it"
        )
    if flags.config_dir is not None:
        _check_own_choices(Path(flags.config_dir))
    for before, after in itertools.pairwise(flags.overrides):
        if after.startswith("=") or (before.endswith("=") and re.fullmatch(r"\w+", after)):
            raise UserError(f"{before} {after}: there are no spaces around =; write it as in data=wine")
    overrides = OverridesParser.create().parse_overrides(flags.overrides)
    is_run = not (flags.multirun or flags.cfg or flags.info or flags.help)
    is_run = is_run and all(each.key_or_group != "hydra.mode" for each in overrides)
    for override in overrides:
        _check_override(override, is_run)


def _check_own_choices(folder: Path) -> None:
    """Refuse a user's choice that has the name of one of ours, which Hydra takes instead without a word."""
    for file in folder.rglob("*.yaml"):
        ours = CONF / file.relative_to(folder)
        if ours.is_file() and ours.read_bytes() != file.read_bytes():
            raise UserError(
                f"--config-dir={folder}: {file.relative_to(folder)} has the name of a choice in conf/; give it another"
            )


def _check_override(override: Override, is_run: bool) -> None:
    """Refuse `data=null`, `data=[true]`, `~seed`, and `search=optuna` of a single run."""
    name, value = override.key_or_group, override.value()
    if override.is_delete() and name not in OPTIONAL:
        raise UserError(f"{override.input_line}: cannot be left out; give it another value, or null")
    if is_run and re.fullmatch(r"search|hydra[/.](launcher|sweep(er)?)(\..+)?", name):
        raise UserError(f"{override.input_line}: is for sweeps; add -m")
    if name not in GROUPS or override.is_sweep_override() or (name in OPTIONAL and value is None):
        return
    names = value if isinstance(value, list) and value and name not in CHOICES else [value]
    if not all(isinstance(each, str) for each in names):
        choices = ", ".join(sorted(file.stem for file in (CONF / name).glob("*.yaml")))
        raise UserError(f"{override.input_line}: must be the name of a choice: {choices}")


def script(task: Callable[[list[str]], int]) -> Callable[[], None]:
    """Make a task that takes the command line's arguments, and returns its exit status, into a command."""

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

    return main


def report(error: BaseException) -> str:
    """The line that the user reads."""
    return f"{Path(sys.argv[0]).name}: {without_secrets(one_line(error))}"
