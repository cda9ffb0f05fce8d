"""Atomic writes: a file is either complete or unchanged, even if the process is killed."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replace_file(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to `path` after an fsync.

    Args:
        path: the file to write or to replace; it is unchanged if an exception is raised.
        shared: whether several processes may write this file at the same time; each then has its own temporary path.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp" if shared else f"{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # in a folder from others it may be a link to anywhere
        yield temporary
        fsync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def atomic_write(path: Path, contents: str | bytes | memoryview) -> None:
    """Write a file with `replace_file`; text is encoded as UTF-8.

    Raises:
        OSError: the file cannot be written; it is unchanged.
    """
    with replace_file(path) as temporary:
        temporary.write_bytes(contents.encode() if isinstance(contents, str) else contents)


def read_json(path: Path) -> Any:
    """Read a JSON file; None if it is missing, not a regular file, or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None


def fsync(path: Path) -> None:
    """Flush a file or a folder to disk; otherwise a rename may reach the disk before the contents."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
