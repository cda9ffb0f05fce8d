"""Checks of single arguments: a name among its choices, a number in its range. This file imports no torch."""

import math
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

from backhand.errors import UserError


def check_choice(what: str, name: Any, choices: Collection[str]) -> None:
    """Refuse a name that is not among the choices.

    Raises:
        UserError: one line with the name, the closest choice, and all of them.
    """
    if not isinstance(name, str):
        shown = " ".join(str(name).split())  # a torch module has several lines
        raise UserError(f"{what}={shown}: must be a name; choose from {', '.join(choices)}")
    if name not in choices:
        raise UserError(f"{what}={name}: no such choice{closest(name, choices)}; choose from {', '.join(choices)}")


def check_number(what: str, value: Any, minimum: float = -math.inf, integer: bool = False) -> None:
    """Refuse a value that is not a finite number, or is below the minimum.

    Args:
        what: the argument's name.
        value: its value.
        minimum: the smallest allowed value.
        integer: whether the value must be a whole number.

    Raises:
        UserError: one line with what is allowed.
    """
    is_number = isinstance(value, Integral if integer else Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < minimum:
        bound = "" if minimum == -math.inf else f", {minimum:g} or more"
        shown = " ".join(str(value).split())
        raise UserError(f"{what}={shown}: must be a {'whole' if integer else 'finite'} number{bound}")


def closest(name: str, choices: Iterable[str]) -> str:
    """` (did you mean …?)`: a similar choice, or the only one that begins with the name; else nothing."""
    lowered = {choice.lower(): choice for choice in choices}
    longer = [choice for choice in lowered if choice.startswith(name.lower())]
    # With difflib's cutoff of 0.6 a misspelt name finds its choice; with 0.5 fsdp finds ddp, and adadelta adam.
    found = get_close_matches(name.lower(), lowered, n=1) or (longer if len(longer) == 1 else [])
    return f" (did you mean {lowered[found[0]]}?)" if found else ""
