"""Lock a folder, so that only one command at a time writes to it."""

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

# The locked file; it contains the owner. The operating system releases the lock when the process ends, so a file that
# a killed process leaves behind is not locked.
LOCK_FILE = ".lock"
# For each locked folder, the folders that were created for it: itself and its parents, innermost first.
_created: dict[Path, list[Path]] = {}


def lock_folder(folder: Path, key: str) -> Callable[[], None]:
    """Lock a folder until this process ends; it is created if it does not exist.

    Args:
        folder: the folder.
        key: the key of the setting that names it, for messages.

    Returns:
        A function that releases the lock.

    Raises:
        UserError: another command has locked the folder, or it cannot be created or written to.
    """
    where = f"{key}={folder}"
    absolute = folder.absolute()
    created = [each for each in (absolute, *absolute.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{where}: cannot be created ({error.strerror})") from None
    _created[absolute] = created
    file = absolute / LOCK_FILE
    # With `fallback_to_soft` a file that a killed process leaves behind would be a lock.
    lock = FileLock(file, blocking=False, thread_local=False, fallback_to_soft=False, on_acquired=_write_owner)
    try:
        _remove_special(file)
        lock.acquire()
    except Timeout:
        raise UserError(f"{where}: {_owner(file)} is writing to it; wait for it, or name another folder") from None
    except OSError as error:
        if error.filename is not None:  # the file cannot be opened
            raise UserError(f"{where}: {LOCK_FILE} in it cannot be written ({error.strerror})") from None
        log.info("%s: the file system has no locks", folder)
        file.unlink(missing_ok=True)
        return lambda: None
    ours = file.stat()

    def release() -> None:
        atexit.unregister(release)
        with contextlib.suppress(OSError):
            if os.path.samestat(file.stat(), ours):  # another command may have created the folder again
                file.unlink()
        lock.release()

    atexit.register(release)
    return release


def created_parents(folder: Path) -> list[Path]:
    """The parents of a locked folder that were created for it, innermost first."""
    return [each for each in _created.get(folder.absolute(), []) if each != folder.absolute()]


def _remove_special(file: Path) -> None:
    """Remove the lock file unless it is a regular file; in a folder from others it may be a link or a pipe."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(file.lstat().st_mode):
            file.unlink()


def _write_owner(descriptor: int) -> None:
    """Write this process and the time into the lock file."""
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    with contextlib.suppress(OSError):  # on a full disk the command's own files fail with a better message
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {since}".encode())


def _owner(file: Path) -> str:
    try:
        return file.read_text()[:200].strip() or "another command"
    except (OSError, ValueError):
        return "another command"
