"""Text in CSV files that a spreadsheet does not take for a formula."""

from typing import Any

# What a spreadsheet takes for a formula's first sign, the wide forms too; some pass over white space in front of it.
SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def cell(value: Any) -> Any:
    """The value, with an apostrophe before a text that would be a formula; numbers, also as text, stay as they are."""
    if not isinstance(value, str) or not _begins_so(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def text_of(cell: str) -> str:
    """What `cell` was given."""
    return cell[1:] if cell.startswith("'") and _begins_so(cell[1:]) else cell


def _begins_so(text: str) -> bool:
    """Whether it is a formula, or has apostrophes before one, of which reading takes one away."""
    return text.lstrip("'").lstrip().startswith(SIGNS)
