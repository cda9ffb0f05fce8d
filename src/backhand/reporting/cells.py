"""Text in CSV files that a spreadsheet does not take for a formula."""

from collections.abc import Iterable
from typing import Any

# What a spreadsheet takes for a formula's first sign.
SIGNS = ("=", "+", "-", "@", "\t", "\r")


def cell(value: Any) -> Any:
    """The value, with an apostrophe before a text that would be a formula; numbers, also as text, stay as they are."""
    if not isinstance(value, str) or not value.startswith(SIGNS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def cells(row: Iterable[Any]) -> list[Any]:
    """A row of them."""
    return [cell(value) for value in row]


def text_of(cell: str) -> str:
    """What `cell` was given."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(SIGNS) else cell
