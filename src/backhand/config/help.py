"""The help of `python train.py --help`: groups with their choices, and keys with their meaning."""

import inspect
import re
import shutil
import textwrap
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from backhand.config import CONF
from backhand.config.schema import CHOICES, TrainConfig, TrainerConfig

MAX_WIDTH = 100  # characters of a line; fewer in a narrower terminal
HEADER = """Train a fully-connected network with a backward pass derived by hand.

  python train.py                                     digits, one hidden layer, 30 epochs
  python train.py data=wine model.hidden=[32,16] model.hidden_activation=relu optimizer=adam
  python train.py model.gradient=autograd             the same run through torch's own gradients
  python train.py ckpt_path=outputs/.../checkpoints/last.ckpt trainer.max_epochs=60
  python train.py -m seed=0,1,2 optimizer.lr=0.03,0.1 a sweep: every combination, one folder each
"""
FOOTER = """Flags: --cfg job (the configuration as a file), --multirun (-m), --resolve, --version, --hydra-help.
Your own optimizers, callbacks, loggers, data and activations: docs/extending.md.
Tab completion: eval "$(python train.py -sc install=bash)"
"""


def help_text() -> str:
    """The text of `--help`."""
    parts = [HEADER, "GROUPS (group=choice)"]
    for folder in sorted(path for path in CONF.rglob("*") if path.is_dir() and path != CONF / "hydra"):
        group = folder.relative_to(CONF).as_posix()
        choices = {file.stem for file in folder.glob("*.yaml")}
        if group.startswith("hydra/"):  # including those of installed plugins
            choices |= {name.removesuffix(".yaml") for name in ConfigStore.instance().list(group)}
        parts.append(_wrapped(f"{group:<15} ", ", ".join(sorted(choices))))
    parts.append("\nKEYS (key=value), with their defaults")
    parts += _of_dataclass(TrainConfig, "")
    for name, kind in get_type_hints(TrainConfig).items():
        if not is_dataclass(kind):
            continue
        parts.append("\n" + textwrap.fill(f"{name}: {inspect.getdoc(kind)}", _width()))
        if kind is TrainerConfig:
            parts.append(_wrapped("  ", ", ".join(field.name for field in fields(kind))))
            continue
        parts += _of_dataclass(kind, f"{name}.")
        shown = {field.name for field in fields(kind)}
        for own in CHOICES.get(name, {}).values():
            parts += _of_dataclass(own, f"{name}.", shown, name)
            shown |= {field.name for field in fields(own)}
    return "\n".join([*parts, "", FOOTER])


def comments(kind: type) -> dict[str, str]:
    """The comment of each field of a dataclass, beside it or in the line above."""
    found, above = {}, ""
    for line in inspect.getsource(kind).splitlines():
        if key := re.match(r"    (\w+): ", line):
            beside = re.search(r"  # (.+)", line)
            found[key[1]] = beside[1] if beside else above
        comment = re.match(r"    # (.+)", line)
        above = comment[1] if comment else ""
    return found


def _of_dataclass(kind: Any, path: str, without: set[str] | None = None, group: str = "") -> list[str]:
    lines = []
    texts = {name: text for base in reversed(kind.__mro__[:-1]) for name, text in comments(base).items()}
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        inner = next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
        if field.name in (without or ()) or (inner is not None and not path):
            continue
        if inner is not None:
            lines += _of_dataclass(inner, f"{path}{field.name}.")
        elif field.name != "name" or not path:
            text = _owners(group, field.name) + texts.get(field.name, "")
            lines.append(_wrapped(f"  {path}{field.name}{_default(field)}", text))
    return lines


def _owners(group: str, key: str) -> str:
    """The choices of a group that have this key; "" if all have it."""
    choices = {name: {field.name for field in fields(kind)} for name, kind in CHOICES.get(group, {}).items()}
    owners = [name for name, keys in choices.items() if key in keys]
    if not owners or len(owners) >= len(choices) - 1:  # `custom` accepts any key
        return ""
    return f"{group}={' or '.join(owners)}: "


def _default(field: "Field[Any]") -> str:
    value = field.default if field.default_factory is MISSING else field.default_factory()
    shown = str(value).lower() if isinstance(value, bool) else "null" if value is None else value
    return "" if value in (MISSING, "???") else f"={shown}"


def _width() -> int:
    return min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns)


def _wrapped(key: str, text: str) -> str:
    """The text beside its key, or below it in a narrow terminal."""
    column = max(36, len(key) + 2) if key.startswith("  ") and len(key) > 2 else len(key)
    if not text:
        return key
    if column > 0.6 * _width():
        return f"{key}\n{textwrap.fill(text, _width(), initial_indent=' ' * 6, subsequent_indent=' ' * 6)}"
    return textwrap.fill(text, _width(), initial_indent=key.ljust(column), subsequent_indent=" " * column)


def register_help() -> None:
    """Register the help as `${backhand_help:}`; Hydra uses it as a template, so $ is escaped."""
    OmegaConf.register_new_resolver("backhand_help", lambda: help_text().replace("$", "$$"), replace=True)
