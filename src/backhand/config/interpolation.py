"""Interpolations that name each other, so that a few lines become gigabytes: resolved as far as a limit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf.base import Container

from backhand.errors import UserError

# In one look at a whole configuration; that of a run has 25 values, with 800 characters.
MOST, MOST_CHARACTERS = 1_000, 100_000

_resolve = Container.resolve_parse_tree
_budget: list[int] | None = None


@contextmanager
def limited() -> Iterator[None]:
    """Let the body resolve no more than that.

    Raises:
        UserError: it would.
    """
    global _budget
    before, _budget = _budget, [MOST, MOST_CHARACTERS]
    try:
        yield
    finally:
        spent, _budget = min(_budget) < 0, before
        if spent:  # what was raised meanwhile may have been taken for a key that is not there
            raise UserError(
                f"the configuration's interpolations: come to more than {MOST} values or {MOST_CHARACTERS} characters"
            )


def _resolve_within(self: Container, *args: Any, **kwargs: Any) -> Any:
    if _budget is None:
        return _resolve(self, *args, **kwargs)
    _budget[0] -= 1
    _check()
    value = _resolve(self, *args, **kwargs)
    _budget[1] -= len(value) if isinstance(value, str) else 0
    _check()
    return value


def _check() -> None:
    if _budget is not None and min(_budget) < 0:
        raise UserError("too many")


# Every interpolation is resolved by this, wherever it is asked for.
Container.resolve_parse_tree = _resolve_within  # type: ignore[method-assign]
