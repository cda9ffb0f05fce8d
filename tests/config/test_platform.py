import os
import platform

import pytest

from backhand.config.platform import check_platform
from backhand.errors import UserError


def test_windows_is_refused_in_one_line(monkeypatch):
    check_platform()
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    with pytest.raises(
        UserError, match=r"^Windows: not supported; use Linux or macOS, or on Windows the Linux of WSL$"
    ):
        check_platform()
