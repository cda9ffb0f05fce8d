"""Overrides of the command line as Hydra passes them to a job, `key=value`."""

import re


def as_written(override: str) -> str:
    r"""An override as the user wrote it: Hydra gives a job of a sweep `rules.py\:mine` for `rules.py:mine`."""
    return re.sub(r"\\(?=[\\()\[\]{}:=, \t])", "", override)
