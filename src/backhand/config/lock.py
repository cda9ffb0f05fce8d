"""A folder that one command at a time writes in."""

import atexit
import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from backhand.errors import UserError

log = logging.getLogger(__name__)

# Says who is at work in the folder, while somebody is; the lock itself is the system's, and ends with its process.
HOLDER = ".lock"
# For each folder that is held, those that were made for it: itself and the ones above it, the innermost first.
_made: dict[Path, list[Path]] = {}


def hold(folder: Path, key: str) -> Callable[[], None]:
    """Keep other commands out of a folder, which is made where it is not there, for as long as this process lives.

    Args:
        folder: the folder.
        key: the setting that named it.

    Returns:
        What lets them in before.

    Raises:
        UserError: another one is at work there, which is named; or the folder cannot be made.
    """
    where = f"{key}={folder}"
    whole = folder.absolute()
    made = [each for each in (whole, *whole.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{where}: cannot be made ({error.strerror})") from None
    _made[whole] = made
    holder = whole / HOLDER
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UserError(f"{where}: {_who(holder)} is at work in it; wait for it, or name another folder") from None
    except OSError:
        log.info("%s: the file system knows no locks", folder)
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    with contextlib.suppress(OSError):  # who wants to write here will say what is wrong
        holder.unlink(missing_ok=True)  # in somebody else's folder it may be a link to anywhere
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {since}")

    def release() -> None:
        atexit.unregister(release)
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        os.close(lock)

    atexit.register(release)
    return release


def made_above(folder: Path) -> list[Path]:
    """The folders around one that is held that were made for it, the innermost first."""
    return [each for each in _made.get(folder.absolute(), []) if each != folder.absolute()]


def _who(holder: Path) -> str:
    try:
        return holder.read_text()[:200].strip() or "another command"
    except (OSError, ValueError):
        return "another command"
