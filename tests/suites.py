"""Selection of cases of a slow test for the quick suite."""

from collections.abc import Iterable
from typing import Any

import pytest


def smoke(cases: Iterable[Any], *chosen: Any) -> list[Any]:
    """The cases of a slow test as parameters; the chosen ones are marked for the quick suite."""
    return [pytest.param(case, marks=[pytest.mark.smoke] * (case in chosen)) for case in cases]
