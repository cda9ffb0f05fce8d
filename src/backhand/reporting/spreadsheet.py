"""CSV files whose text a spreadsheet does not run as formulas."""

from typing import Any

# A formula begins with one of these, also in the full-width form; some programs skip white space before it.
FORMULA_SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def escape_formula(value: Any) -> Any:
    """Put an apostrophe before text that would be a formula; numbers, also as text, are unchanged."""
    if not isinstance(value, str) or not _is_formula(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def unescape_formula(field: str) -> str:
    """Undo `escape_formula`."""
    return field[1:] if field.startswith("'") and _is_formula(field[1:]) else field


def _is_formula(text: str) -> bool:
    """Whether text is a formula, or an escaped one: each reading removes one apostrophe."""
    return text.lstrip("'").lstrip().startswith(FORMULA_SIGNS)
