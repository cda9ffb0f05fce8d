"""What may be chosen by name, and what is said about a name that does not exist. It imports no torch."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from backhand.errors import UserError

GRADIENTS = ("hand", "autograd")


def check_choice(what: str, name: str, choices: Collection[str]) -> None:
    """Refuse a name that is not among the choices.

    Raises:
        UserError: one line with the name, the closest choice, and all of them.
    """
    if name not in choices:
        raise UserError(f"{what}={name}: no such choice{closest(name, choices)}; choose from {', '.join(choices)}")


def closest(name: str, choices: Iterable[str]) -> str:
    """` (did you mean …?)`, or nothing where no choice is close."""
    lowered = {choice.lower(): choice for choice in choices}
    found = get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return f" (did you mean {lowered[found[0]]}?)" if found else ""
