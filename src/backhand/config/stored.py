"""Safe reading of files from others: no code in them runs, and memory use is proportional to their size.

Stored configurations are read here. Checkpoints and links in a folder are only checked, before torch is imported.
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

# The files of a run in its folder, besides its log.
RUN_FILES = (
    ".hydra", "checkpoints", "plots", "profile", "tensorboard", "wandb", "metrics.csv", "findings.json", "result.json",
    "report.html",
)  # fmt: skip
# Links that W&B creates in a new run folder, to its logs in the user's cache; it never writes through existing links.
WANDB_LINKS = ("debug-core.log",)

# Limits of a stored configuration; a run's has about 150 values, 4 levels and 2 interpolations. PyYAML needs minutes
# for a number in base 60 (`1:1:1`) that is much longer than this.
MAX_BYTES, MAX_VALUES, MAX_VALUE_LENGTH, MAX_LEVELS, MAX_INTERPOLATIONS = 1 << 20, 10_000, 10_000, 50, 20
INTERPOLATION = re.compile(r"\$\{(oc\.env:\w+|[\w.-]+)\}")
# Parts of a stored configuration that only training uses.
TRAINING_ONLY = ("callbacks", "logger", "optimizer", "scheduler")
# Classes that a stored configuration may name.
ALLOWED_CLASSES = re.compile(
    r"(torch\.optim|torch\.optim\.lr_scheduler|lightning\.pytorch\.(callbacks|loggers)|backhand(\.[a-z]\w*)*)\.[A-Z]\w*"
)


def read_stored(path: Path, allowed: Collection[str] = ()) -> DictConfig:
    """Read the configuration of a run, with interpolations unresolved.

    Args:
        path: the file.
        allowed: modules that `imports` may name, and classes that `_target_` may name besides those of torch,
            Lightning and this package. Parts in `TRAINING_ONLY` may name any class.

    Raises:
        UserError: the file is not a configuration, exceeds a limit, or names a class that is not allowed.
        ValueError: the file is not UTF-8.
        OSError: the file cannot be read.
        yaml.YAMLError: the file is not YAML, or has tags.
    """
    if not path.is_file():
        raise UserError("is not a file, but a folder, a pipe, a socket or a device")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UserError(f"is not a configuration: it has more than {MAX_BYTES} bytes")
    config = OmegaConf.load(io.StringIO(checked_yaml(content.decode("utf-8"))))
    if not isinstance(config, DictConfig):
        raise UserError("is not a configuration")
    values = dict(leaves(OmegaConf.to_container(config, resolve=False)))
    _check_targets(values, allowed)
    _check_interpolations(values)
    return config


def checked_yaml(text: str) -> str:
    """Check that YAML text is small: without aliases, eight short lines of which can expand to a gigabyte.

    Raises:
        UserError: it has aliases, or too many levels or values.
        yaml.YAMLError: it is not YAML.
    """
    level = 0
    for count, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"is not a configuration: it has an alias (*{event.anchor})")
        if level > MAX_LEVELS or count > MAX_VALUES:
            raise UserError(
                f"is not a configuration: more than {MAX_LEVELS} levels deep, or more than {MAX_VALUES} values"
            )
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_VALUE_LENGTH:
            raise UserError(f"is not a configuration: a value has {len(event.value)} characters")
    return text


def _check_targets(values: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Refuse imports that are not allowed; `import_class` checks the base class later."""
    refused = {}
    for key, value in values.items():
        parts, name = key.split("."), str(value)
        is_target = "_target_" in parts and parts[0] not in TRAINING_ONLY
        is_import = parts[0] == "imports" and value != []
        if name not in allowed and (is_import or (is_target and not ALLOWED_CLASSES.fullmatch(name))):
            refused[f"{key}={name}"] = name
    if refused:
        names = ",".join(dict.fromkeys([*allowed, *refused.values()]))
        raise UserError(
            f"{', '.join(refused)}: is not imported, because this file may be from others; "
            f"scripts/evaluate.py run=… allow_targets=[{names}] allows it"
        )


def _check_interpolations(values: Mapping[str, Any]) -> None:
    """Refuse interpolations that compute something, and too many of them, because each can double its value.

    Raises:
        UserError: an interpolation is not `${key.of.a.value}` or `${oc.env:NAME}`, or there are too many.
    """
    count = 0
    for key, value in values.items():
        names = INTERPOLATION.findall(str(value))
        count += len(names)
        plain = "${" not in INTERPOLATION.sub("", str(value))
        if not plain or not all(name.startswith("oc.env:") or _absolute_key(name, key) in values for name in names):
            raise UserError(f"{key}={value}: must name an existing value, as ${{key}} or ${{oc.env:NAME}}")
    if count > MAX_INTERPOLATIONS:
        raise UserError(f"is not a configuration: it has {count} interpolations")


def _absolute_key(name: str, key: str) -> str:
    """The absolute key of an interpolation; `${.lr}` is in the same part, `${..lr}` in the parent."""
    inner = name.lstrip(".")
    dots = len(name) - len(inner)
    return ".".join([*(key.split(".")[:-dots] if dots else []), inner])


def check_archive(path: Path, key: str) -> None:
    """Refuse a checkpoint with compressed members, because a small file could expand to a large one.

    Raises:
        UserError: the file is not an archive; a member is compressed, encrypted or has a false size; the members have
            more bytes than the file; or a pickle could allocate any amount of memory.
    """
    where = f"{key}={path}"
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                    raise UserError(f"{where}: has a compressed member, which torch never writes; not opened")
                if member.file_size != member.compress_size:
                    raise UserError(f"{where}: has a member with a false size; not opened")
            if (declared := sum(member.file_size for member in members)) > size:
                raise UserError(f"{where}: declares {declared} bytes in {size}; not opened")
            if len({member.filename for member in members}) < len(members):
                raise UserError(f"{where}: has two members with one name; not opened")
            for member in members:
                # torch's restricted unpickler may call `bytearray(10**12)`.
                if member.filename.endswith(".pkl") and b"bytearray" in archive.read(member):
                    raise UserError(f"{where}: holds more than plain data; not opened")
    except UserError:
        raise
    # zipfile raises NotImplementedError and RuntimeError for unknown compression.
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError):
        raise UserError(f"{where}: is not a checkpoint, or is damaged") from None


def is_outside(name: str) -> bool:
    """Whether a relative path leads out of its folder."""
    return name.startswith("/") or ".." in name.split("/") or "\0" in name


def check_links(folder: Path, key: str, names: Sequence[str] = ("",)) -> None:
    """Refuse links that lead out of a folder before a command writes to it: the folder may be from others.

    Args:
        folder: the folder.
        key: the key of the setting that names it, for messages.
        names: the files and folders to check; by default all.

    Raises:
        UserError: a link leads out of the folder.
    """
    inside = folder.resolve()
    for top in (inside / name for name in names):
        below = (Path(place, name) for place, *found in os.walk(top) for name in itertools.chain(*found))
        for path in (top, *below):
            if path.is_symlink() and not path.resolve().is_relative_to(inside) and path.name not in WANDB_LINKS:
                raise UserError(
                    f"{key}={folder}: {path.relative_to(inside)} is a link out of the folder, "
                    "and nothing is written through it; remove it, or name another folder"
                )
