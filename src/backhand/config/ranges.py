"""Types with ranges for the keys of the configuration, and their check."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from typing import Annotated, Any, TypeGuard, get_args, get_type_hints

from omegaconf import MISSING
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from backhand.calculus.choices import check_choice
from backhand.errors import UserError

SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
MAX_SIZE = 2**31 - 1  # of a tensor dimension; larger ones do not fit into memory


@dataclass(frozen=True)
class Rule(AfterValidator):
    """A validator, and in words what it allows."""

    allowed: str


def rule(fits: Callable[[Any], bool], allowed: str) -> Rule:
    """A validator; `allowed` is the end of its message "must be …"."""

    def check(value: Any) -> Any:
        if not fits(value):
            raise UserError(f"must be {allowed}")
        return value

    return Rule(check, allowed)


def one_of(*names: str) -> Rule:
    """A validator for one of these names."""

    def check(value: Any) -> Any:
        check_choice("", str(value), names)
        return value

    return Rule(check, ", ".join(names))


def allowed(hint: Any) -> list[str]:
    """What an annotation allows, in words: `["≥ 0", "< 1"]` for `BelowOne`."""
    found = []
    for part in get_args(hint):
        if isinstance(part, Rule):
            found.append(part.allowed)
        elif isinstance(part, FieldInfo):
            limits = [(sign, getattr(each, name, None)) for each in part.metadata for name, sign in SIGNS.items()]
            found += [f"{sign} {limit}" for sign, limit in limits if limit is not None]
        else:
            found += allowed(part)
    return found


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is an integer, not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number_of_batches(value: object) -> bool:
    """Whether a value is a number of batches or a fraction of all batches."""
    return (isinstance(value, float) and 0 <= value <= 1) or (is_whole(value) and value >= 0)


def is_duration(value: object) -> bool:
    """Whether a value has the form of `DURATION`."""
    if isinstance(value, dict):
        try:
            return timedelta(**value) > timedelta(0)
        except (TypeError, ValueError, OverflowError):
            return False
    return isinstance(value, str) and re.fullmatch(r"\d{1,6}:\d\d:\d\d:\d\d", value) is not None


def is_interval(value: object) -> bool:
    """Whether a value is a valid time between validations."""
    is_share = isinstance(value, float) and 0 < value <= 1
    return is_share or is_duration(value) or (is_whole(value) and value >= 1)


def are_devices(value: Any) -> bool:
    """Whether Lightning accepts a value as `devices`."""
    if isinstance(value, list):
        return len(value) > 0 and len(set(map(str, value))) == len(value) and all(is_whole(n) and n >= 0 for n in value)
    if isinstance(value, str):  # "2", "0,1", "-1", as Lightning reads them
        return value == "auto" or re.fullmatch(r"-1|[1-9]\d{0,5}|\d{1,6}(,\d{1,6})*,?", value) is not None
    return is_whole(value) and (value == -1 or value >= 1)


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Limit = Annotated[int, rule(lambda value: value == -1 or value >= 1, "1 or more, or -1 for no limit")]
Batches = Annotated[
    Any,
    rule(
        lambda value: value is None or is_number_of_batches(value),
        "a number of batches, a fraction between 0.0 and 1.0, or null",
    ),
]
DURATION = "a time as DD:HH:MM:SS, or such as {hours: 1, minutes: 30}"
WandbName = Annotated[
    str,
    rule(
        lambda name: 0 < len(name) <= 128 and not set(name) & set("/\\#?%:"),
        "a name of 1 to 128 characters, none of them / \\ # % : or a question mark",
    ),
]


def check_ranges(config: Any, path: str = "") -> None:
    """Check all values against the ranges in their annotations.

    Args:
        config: a dataclass; values may be dataclasses.
        path: the key of `config` with a dot, for messages.

    Raises:
        UserError: a value is out of range.
    """
    kind: Any = type(config)
    for name, adapter in _adapters(kind).items():
        value = getattr(config, name)
        if is_dataclass(value):
            check_ranges(value, f"{path}{name}.")
        elif value != MISSING:
            try:
                adapter.validate_python(value)
            except ValidationError as error:
                raise UserError(f"{path}{name}={value}: {_message(error)}") from None


@functools.cache
def _adapters(kind: Any) -> dict[str, TypeAdapter[Any]]:
    """The validator of each field; creating one takes 0.1 ms."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: TypeAdapter(hints[field.name]) for field in fields(kind)}


def _message(error: ValidationError) -> str:
    """Format pydantic's reason like our other messages."""
    first = error.errors()[0]
    own = first.get("ctx", {}).get("error")
    if own is not None:
        return str(own).partition(": ")[2] if str(own).startswith("=") else str(own)
    text = first["msg"].replace("Input should be", "must be")
    for theirs, ours in WORDS.items():
        text = text.replace(theirs, ours)
    return text


WORDS = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
    "a valid integer": "a whole number",
    "a valid string": "a name",
}
