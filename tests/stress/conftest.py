"""The commands of tests/cli."""

from tests.cli.conftest import warm_command, warm_start

__all__ = ["warm_command", "warm_start"]
