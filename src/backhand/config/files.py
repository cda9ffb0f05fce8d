"""Files that are whole, or as they were before, whatever happens while they are written."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; once it is on the disk, it is renamed to `path`.

    Args:
        path: the file to write or to replace. Where the body or the disk fails, it stays as it was.
        shared: whether several processes may write this file at the same time; each then writes to a path of its own.

    Raises:
        OSError: the file cannot be written.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp" if shared else f"{path.name}.tmp")
    try:
        aside.unlink(missing_ok=True)  # in somebody else's folder it may be a link to anywhere
        yield aside
        to_disk(aside)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    to_disk(path.parent)


def atomic_write(path: Path, contents: str | bytes | memoryview) -> None:
    """Write a file as `replacing` does; text becomes UTF-8.

    Raises:
        OSError: the file cannot be written; it stays as it was.
    """
    with replacing(path) as aside:
        aside.write_bytes(contents.encode() if isinstance(contents, str) else contents)


def read_json(path: Path) -> Any:
    """What `atomic_write` wrote, as JSON; None where there is none, or a pipe, or other text."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None


def to_disk(path: Path) -> None:
    """Wait until a file's contents, or a folder's names, are on the disk: a rename may else be there before them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
