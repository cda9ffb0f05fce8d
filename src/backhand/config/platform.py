"""The supported operating systems."""

import os
import platform

from backhand.errors import UserError


def check_platform() -> None:
    """Refuse Windows: commands need POSIX signals, process groups and fsync of folders.

    Raises:
        UserError: the system is not POSIX.
    """
    if os.name != "posix":
        raise UserError(f"{platform.system()}: not supported; use Linux or macOS, or on Windows the Linux of WSL")
