"""The systems that the commands run on."""

import os
import platform

from backhand.errors import UserError


def check_platform() -> None:
    """Refuse a system without the signals, process groups and folders' fsync that the commands rely on: Windows.

    Raises:
        UserError: it is not of the POSIX family.
    """
    if os.name != "posix":
        raise UserError(f"{platform.system()}: not supported; use Linux or macOS, or on Windows the Linux of WSL")
