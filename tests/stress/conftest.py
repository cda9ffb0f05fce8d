"""The commands of tests/cli."""

from tests.cli.conftest import command, start

__all__ = ["command", "start"]
