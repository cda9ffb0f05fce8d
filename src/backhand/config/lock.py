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

from backhand.config.errors import UserError

log = logging.getLogger(__name__)

# Says who is at work in the folder, while somebody is; the lock itself is the system's, and ends with its process.
HOLDER = ".lock"


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{where}: cannot be made ({error.strerror})") from None
    holder = folder.absolute() / HOLDER
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


def _who(holder: Path) -> str:
    try:
        return holder.read_text()[:200].strip() or "another command"
    except (OSError, ValueError):
        return "another command"
