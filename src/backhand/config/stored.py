"""Files that may be somebody else's: to open one runs nothing that is in it, and needs memory in proportion to it.

A stored configuration is read here. A checkpoint and a folder's links are only looked at, before torch is imported.
"""

import io
import itertools
import os
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

import backhand
from backhand.errors import UserError

# What a run writes in its folder, beside its log.
WRITTEN = (
    ".hydra", "checkpoints", "plots", "tensorboard", "wandb", "metrics.csv", "findings.json", "result.json",
    "report.html",
)  # fmt: skip
# Links that W&B makes in each run's new folder, to its logs in the user's cache; it writes through none that it finds.
WANDBS_OWN = ("debug-core.log",)

# Of a stored configuration; a run's has some 150 values and 4 levels. PyYAML reads a number to the base of 60
# (`1:1:1`), and OmegaConf a text of interpolations, in minutes where they are much longer than this.
MOST_BYTES, MOST_VALUES, LONGEST_VALUE, MOST_LEVELS = 1 << 20, 10_000, 10_000, 50
MOST_INTERPOLATIONS = 1_000
INTERPOLATION = re.compile(r"\$\{(oc\.env:\w+|[\w.-]+)\}")

# Modules whose classes a stored configuration may name, directly: through a module that it has imported,
# `torch.optim.optimizer.os.system` is a name, too.
CLASSES = ("torch.optim", "torch.optim.lr_scheduler", "lightning.pytorch.callbacks", "lightning.pytorch.loggers")

Values = Mapping[tuple[Any, ...], Any]


def read_stored(path: Path, allowed: Collection[str] = ()) -> DictConfig:
    """The configuration in a run's folder, interpolations not yet resolved.

    Args:
        path: its file.
        allowed: what `imports` may name, and `_target_` beside the classes of torch, Lightning and this package.

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
    values = dict(_values(OmegaConf.to_container(config, resolve=False)))
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


def _values(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Each value of a tree with its path; the places of a list are texts, as interpolations have them."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        place = (*path, key if isinstance(tree, dict) else str(key))
        if isinstance(value, dict | list):
            yield from _values(value, place)
        else:
            yield place, value


def _check_targets(values: Values, allowed: Collection[str]) -> None:
    for path, target in values.items():
        if path[0] == "imports" and target not in allowed:
            raise UserError(
                f"imports=[{target}]: is not imported, for this file may be somebody else's; "
                f"scripts/evaluate.py run=… allow_targets=[{target}] permits it"
            )
        if "_target_" in path and target not in allowed and not _is_known_class(str(target)):
            raise UserError(
                f"{'.'.join(map(str, path))}={target}: is not called, for this file may be somebody else's; "
                f"scripts/evaluate.py run=… allow_targets=[{target}] permits it"
            )


def _is_known_class(target: str) -> bool:
    module, _, name = target.rpartition(".")
    if not re.fullmatch(r"[A-Z]\w*", name):
        return False
    if module in (*CLASSES, "backhand"):
        return True
    if not re.fullmatch(r"backhand(\.[a-z]\w*)+", module):
        return False
    source = Path(backhand.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    # Of its own: what a module of ours has imported is a name in it, too.
    return source.is_file() and re.search(rf"^class {name}\b", source.read_text("utf-8"), re.MULTILINE) is not None


def _check_interpolations(values: Values) -> None:
    """Refuse interpolations that lead in circles, that come to more than the file may have, or that compute something.

    Raises:
        UserError: the first that is not `${key.of.a.value}` or `${oc.env:NAME}`.
    """
    names: dict[tuple[Any, ...], list[tuple[str, ...]]] = {}
    lengths: dict[tuple[Any, ...], int] = {}
    for path, value in values.items():
        text = str(value)
        if "${" not in text:
            lengths[path] = len(text)
            continue
        if "${" in INTERPOLATION.sub("", text):
            raise _refused(path, text)
        names[path] = [_named(name, path) for name in INTERPOLATION.findall(text)]
        lengths |= {each: len(os.environ.get(each[1], "")) for each in names[path] if each[0] == "oc.env"}
    for _ in range(MOST_LEVELS):
        known = names.keys() - lengths.keys()
        ready = [path for path in known if all(name in lengths for name in names[path])]
        lengths |= {path: len(values[path]) + sum(lengths[name] for name in names[path]) for path in ready}
    for path in names.keys() - lengths.keys():
        raise _refused(path, values[path])
    if sum(lengths.values()) > MOST_BYTES or sum(map(len, names.values())) > MOST_INTERPOLATIONS:
        raise UserError(f"its interpolations come to more than {MOST_BYTES} characters, or are too many")


def _named(name: str, path: tuple[Any, ...]) -> tuple[Any, ...]:
    """The path of the value that an interpolation names; `${.lr}` is beside it, `${..lr}` beside what it lies in."""
    if name.startswith("oc.env:"):
        return ("oc.env", name.removeprefix("oc.env:"))
    inner = name.lstrip(".")
    dots = len(name) - len(inner)
    return (*(path[:-dots] if dots else ()), *inner.split("."))


def _refused(path: tuple[Any, ...], text: str) -> UserError:
    return UserError(
        f"{'.'.join(map(str, path))}={text}: must name a value that is there, as ${{key}} or ${{oc.env:NAME}}, and not "
        "in a circle"
    )


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
        raise UserError(f"{where}: is no checkpoint, or a damaged one") from None


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
