"""The help of `python train.py --help`: groups with their choices, and keys with their meaning."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Collection
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from backhand.calculus.activations import ACTIVATIONS, hidden_activations
from backhand.calculus.feedback import GRADIENTS
from backhand.calculus.initialization import INITIALIZATIONS
from backhand.calculus.losses import LOSSES
from backhand.config import CONF
from backhand.config.ranges import allowed
from backhand.config.schema import CHOICES, OPEN_PARTS, TrainConfig

MAX_WIDTH = 100  # characters of a line; fewer in a narrower terminal
# What keys allow whose annotations do not say it, because your own modules can add names.
NAMES = {
    "model.hidden_activation": ", ".join(hidden_activations()),
    "model.output_activation": ", ".join(ACTIVATIONS),
    "model.loss": ", ".join(LOSSES),
    "model.gradient": ", ".join(GRADIENTS),
    "model.init": ", ".join(INITIALIZATIONS),
    **{f"model.{name}": each.allowed for loss in LOSSES.values() for name, each in loss.parameters.items()},
}
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


def help_text(composed: DictConfig) -> str:
    """The text of `--help`; the defaults are the values of the composed configuration."""
    values = OmegaConf.to_container(composed)
    parts = [HEADER, "GROUPS (group=choice)"]
    for folder in sorted(path for path in CONF.rglob("*") if path.is_dir() and path != CONF / "hydra"):
        group = folder.relative_to(CONF).as_posix()
        choices = {file.stem for file in folder.glob("*.yaml")}
        if group.startswith("hydra/"):  # including those of installed plugins
            choices |= {name.removesuffix(".yaml") for name in ConfigStore.instance().list(group)}
        parts.append(_wrapped(f"{group:<15} ", ", ".join(sorted(choices))))
    parts.append("\nKEYS (key=value), with their defaults")
    parts += _of_dataclass(TrainConfig, "", values)
    for name, kind in get_type_hints(TrainConfig).items():
        if not is_dataclass(kind):
            continue
        parts.append("\n" + textwrap.fill(f"{name}: {inspect.getdoc(kind)}", _width()))
        parts += _of_dataclass(kind, f"{name}.", values)
        shown = {field.name for field in fields(kind)}
        for own in CHOICES.get(name, {}).values():
            parts += _of_dataclass(own, f"{name}.", values, shown)
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


def choices_with(key: str) -> list[str]:
    """The choices of a key's group that have it, such as `table` for `data.path`; none if every choice has it."""
    group, _, name = key.partition(".")
    if group in CHOICES:
        return [choice for choice, kind in CHOICES[group].items() if name in {field.name for field in fields(kind)}]
    part, inner, _ = name.partition(".")
    if group not in OPEN_PARTS or not inner:
        return []
    return [file.stem for file in sorted((CONF / group).glob("*.yaml")) if part in OmegaConf.load(file)]


def _of_dataclass(kind: Any, path: str, values: Any, without: Collection[str] = ()) -> list[str]:
    lines = []
    texts = {name: text for base in reversed(kind.__mro__[:-1]) for name, text in comments(base).items()}
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        inner = next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
        if field.name in without or (inner is not None and not path):
            continue
        key = f"{path}{field.name}"
        if inner is not None:
            lines += _of_dataclass(inner, f"{key}.", values)
        elif field.name != "name" or not path:
            default = field.default if field.default_factory is MISSING else field.default_factory()
            shown = key.removeprefix("trainer.")  # with it, the longest would not fit a narrow terminal
            range_ = NAMES.get(key) or ", ".join(allowed(get_type_hints(kind, include_extras=True)[field.name]))
            text = f"{_owners(key)}{texts.get(field.name, '')}{f' [{range_}]' if range_ else ''}"
            lines.append(_wrapped(f"  {shown}{_default(key, default, values)}", text.strip()))
    return lines


def _owners(key: str) -> str:
    """The choices that have this key; "" if all or all but one have it: `optimizer=custom` accepts any key."""
    group, owners = key.partition(".")[0], choices_with(key)
    if not owners or len(owners) >= len(list((CONF / group).glob("*.yaml"))) - 1:
        return ""
    return f"{group}={' or '.join(owners)}: "


def _default(key: str, default: Any, values: Any) -> str:
    """A key's value in the composed configuration, else in the choices that have it, else in the schema."""
    group, _, name = key.partition(".")
    files = [OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choice}.yaml")) for choice in choices_with(key)]
    first, *others = [_value(file, name, default) for file in files] or [default]
    value = _value(values, key, first if all(each == first for each in others) else "???")
    if value == "???":
        return ""
    return f"={str(value).lower() if isinstance(value, bool) else 'null' if value is None else value}"


def _value(tree: Any, key: str, default: Any) -> Any:
    """The value of a key in nested dicts."""
    for name in key.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return default
        tree = tree[name]
    return tree


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

    def escaped(*, _root_: DictConfig) -> str:
        return help_text(_root_).replace("$", "$$")

    OmegaConf.register_new_resolver("backhand_help", escaped, replace=True)
