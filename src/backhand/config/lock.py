"""A folder that one command at a time writes in."""

import atexit
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from backhand.errors import UserError

log = logging.getLogger(__name__)

# The file in the folder that is locked, and says who is at work. The lock is the system's, and ends with its process;
# a file that is left behind by a process that was killed is locked by nobody.
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
        UserError: another one is at work there, which is named; or the folder cannot be made or written to.
    """
    where = f"{key}={folder}"
    whole = folder.absolute()
    made = [each for each in (whole, *whole.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{where}: cannot be made ({error.strerror})") from None
    _made[whole] = made
    holder = whole / HOLDER
    # `fallback_to_soft` would take a file for a lock by its mere presence, and it outlives a process that is killed.
    lock = FileLock(holder, blocking=False, thread_local=False, fallback_to_soft=False, on_acquired=_sign)
    try:
        _remove_foreign(holder)
        lock.acquire()
    except Timeout:
        raise UserError(f"{where}: {_who(holder)} is at work in it; wait for it, or name another folder") from None
    except OSError as error:
        if error.filename is not None:  # it is the file that cannot be opened
            raise UserError(f"{where}: {HOLDER} in it cannot be written ({error.strerror})") from None
        log.info("%s: the file system knows no locks", folder)
        holder.unlink(missing_ok=True)
        return lambda: None
    ours = holder.stat()

    def release() -> None:
        atexit.unregister(release)
        with contextlib.suppress(OSError):
            if os.path.samestat(holder.stat(), ours):  # the folder may be another command's, made anew
                holder.unlink()
        lock.release()

    atexit.register(release)
    return release


def made_above(folder: Path) -> list[Path]:
    """The folders around one that is held that were made for it, the innermost first."""
    return [each for each in _made.get(folder.absolute(), []) if each != folder.absolute()]


def _remove_foreign(holder: Path) -> None:
    """Remove what is no file: in somebody else's folder it may be a link to anywhere, or a pipe."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(holder.lstat().st_mode):
            holder.unlink()


def _sign(descriptor: int) -> None:
    """Write into the file that has been locked who is at work."""
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    with contextlib.suppress(OSError):  # of a full disk: who wants to write here will say so
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {since}".encode())


def _who(holder: Path) -> str:
    try:
        return holder.read_text()[:200].strip() or "another command"
    except (OSError, ValueError):
        return "another command"
