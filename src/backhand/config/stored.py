"""Files that may be somebody else's: to open one runs nothing that is in it, and needs memory in proportion to it.

A stored configuration is read here. A checkpoint and a folder's links are only looked at, before torch is imported.
"""

import io
import itertools
import os
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from backhand.config.confidential import leaves
from backhand.errors import UserError

# What a run writes in its folder, beside its log.
WRITTEN = (
    ".hydra", "checkpoints", "plots", "tensorboard", "wandb", "metrics.csv", "findings.json", "result.json",
    "report.html",
)  # fmt: skip
# Links that W&B makes in each run's new folder, to its logs in the user's cache; it writes through none that it finds.
WANDBS_OWN = ("debug-core.log",)

# Of a stored configuration; a run's has some 150 values, 4 levels and 2 interpolations. PyYAML reads a number to the
# base of 60 (`1:1:1`) in minutes where it is much longer than this.
MOST_BYTES, MOST_VALUES, LONGEST_VALUE, MOST_LEVELS, MOST_INTERPOLATIONS = 1 << 20, 10_000, 10_000, 50, 20
INTERPOLATION = re.compile(r"\$\{(oc\.env:\w+|[\w.-]+)\}")
# The parts of a stored configuration of which nothing is made: they are for training.
NOT_MADE = ("callbacks", "logger", "optimizer", "scheduler")
# Classes that a stored configuration may name, by the module that they are in.
KNOWN = re.compile(
    r"(torch\.optim|torch\.optim\.lr_scheduler|lightning\.pytorch\.(callbacks|loggers)|backhand(\.[a-z]\w*)*)\.[A-Z]\w*"
)


def read_stored(path: Path, allowed: Collection[str] = ()) -> DictConfig:
    """The configuration in a run's folder, interpolations not yet resolved.

    Args:
        path: its file.
        allowed: what `imports` may name, and `_target_` beside the classes of torch, Lightning and this package;
            below `NOT_MADE` anything may.

    Raises:
        UserError: it is no configuration, becomes larger than it looks, or names what may not be called.
        ValueError: it is no text.
        OSError: it cannot be read.
        yaml.YAMLError: it is no YAML, or has tags.
    """
    if not path.is_file():
        raise UserError("is not a file, but a folder, a pipe, a socket or a device")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(f"is no configuration: it has more than {MOST_BYTES} bytes")
    config = OmegaConf.load(io.StringIO(checked_yaml(content.decode("utf-8"))))
    if not isinstance(config, DictConfig):
        raise UserError("is not a configuration")
    values = dict(leaves(OmegaConf.to_container(config, resolve=False)))
    _check_targets(values, allowed)
    _check_interpolations(values)
    return config


def checked_yaml(text: str) -> str:
    """YAML that is as large as it looks; Hydra writes no aliases, and eight short lines of them may be a gigabyte.

    Raises:
        UserError: it has aliases, or too many levels or values.
        yaml.YAMLError: it is no YAML.
    """
    level = 0
    for count, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"is no configuration: it has an alias (*{event.anchor})")
        if level > MOST_LEVELS or count > MOST_VALUES:
            raise UserError(
                f"is no configuration: more than {MOST_LEVELS} levels deep, or more than {MOST_VALUES} values"
            )
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST_VALUE:
            raise UserError(f"is no configuration: a value has {len(event.value)} characters")
    return text


def _check_targets(values: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Refuse what would be imported; that a class is of the right kind is seen before it is called."""
    refused = {}
    for key, value in values.items():
        parts, name = key.split("."), str(value)
        is_target, is_import = "_target_" in parts and parts[0] not in NOT_MADE, parts[0] == "imports" and value != []
        if name not in allowed and (is_import or (is_target and not KNOWN.fullmatch(name))):
            refused[f"{key}={name}"] = name
    if refused:
        names = ",".join(dict.fromkeys([*allowed, *refused.values()]))
        raise UserError(
            f"{', '.join(refused)}: is not imported, for this file may be somebody else's; "
            f"scripts/evaluate.py run=… allow_targets=[{names}] permits it"
        )


def _check_interpolations(values: Mapping[str, Any]) -> None:
    """Refuse interpolations that compute something, or whose values could be large: each may double what it names.

    Raises:
        UserError: one that is not `${key.of.a.value}` or `${oc.env:NAME}`, or too many of them.
    """
    count = 0
    for key, value in values.items():
        names = INTERPOLATION.findall(str(value))
        count += len(names)
        plain = "${" not in INTERPOLATION.sub("", str(value))
        if not plain or not all(name.startswith("oc.env:") or _named(name, key) in values for name in names):
            raise UserError(f"{key}={value}: must name a value that is there, as ${{key}} or ${{oc.env:NAME}}")
    if count > MOST_INTERPOLATIONS:
        raise UserError(f"is no configuration: it has {count} interpolations")


def _named(name: str, key: str) -> str:
    """The key that an interpolation names; `${.lr}` is beside it, `${..lr}` beside what it lies in."""
    inner = name.lstrip(".")
    dots = len(name) - len(inner)
    return ".".join([*(key.split(".")[:-dots] if dots else []), inner])


def check_archive(path: Path, key: str) -> None:
    """Refuse a checkpoint whose members are not stored as they are: a small file could become a large one.

    Raises:
        UserError: a member that is packed or encrypted, or that is not as large as it says; more bytes in the members
            than in the file; a pickle that would make room for whatever it says; or no archive.
    """
    where = f"{key}={path}"
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                    raise UserError(f"{where}: has a member that is compressed, as torch writes none; not opened")
                if member.file_size != member.compress_size:
                    raise UserError(f"{where}: has a member that is not as large as it says; not opened")
            if (declared := sum(member.file_size for member in members)) > size:
                raise UserError(f"{where}: says that {declared} bytes are in its {size}; not opened")
            if len({member.filename for member in members}) < len(members):
                raise UserError(f"{where}: has two members of one name; not opened")
            for member in members:
                # The unpickler of plain data may call it, and `bytearray(10**12)` is a short line.
                if member.filename.endswith(".pkl") and b"bytearray" in archive.read(member):
                    raise UserError(f"{where}: holds more than plain data; not opened")
    except UserError:
        raise
    # NotImplementedError and RuntimeError are zipfile's words for ways of packing that it does not know.
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError):
        raise UserError(f"{where}: is not a checkpoint, or is damaged") from None


def leads_out(name: str) -> bool:
    """Whether a path that is to be taken from a folder leads somewhere else."""
    return name.startswith("/") or ".." in name.split("/") or "\0" in name


def check_links(folder: Path, key: str, names: Sequence[str] = ("",)) -> None:
    """Refuse a folder that is to be written to with links in it that lead out of it: it may be a stranger's.

    Args:
        folder: the folder.
        key: how the user has named it.
        names: what is written there; everything, unless given.

    Raises:
        UserError: the first such link.
    """
    inside = folder.resolve()
    for top in (inside / name for name in names):
        below = (Path(place, name) for place, *found in os.walk(top) for name in itertools.chain(*found))
        for path in (top, *below):
            if path.is_symlink() and not path.resolve().is_relative_to(inside) and path.name not in WANDBS_OWN:
                raise UserError(
                    f"{key}={folder}: {path.relative_to(inside)} in it is a link that leads out of it, "
                    "and nothing is written through it; remove it, or name another folder"
                )
