"""Overrides of the command line as Hydra passes them to a job, `key=value`."""

import re
from collections.abc import Iterable


def override_values(overrides: Iterable[str]) -> dict[str, str]:
    r"""The values by key, as the user wrote them: Hydra gives a job of a sweep `rules.py\:mine` for `rules.py:mine`."""
    pairs = (override.partition("=") for override in overrides)
    return {key: re.sub(r"\\(?=[\\()\[\]{}:=, \t])", "", value) for key, _, value in pairs}
