"""Keys and passwords: what a run writes down, logs or sends has none of them in it.

A setting that is one is refused; in what is written or said there is *** in its place. A secret of `LONG` characters
counts wherever it stands; a shorter one only as the whole of a value, for a folder may well be called
`postgres-notes` where POSTGRES_PASSWORD=postgres.
"""

import logging
import os
import re
from collections.abc import Iterable
from typing import Any

from backhand.errors import UserError

VARIABLE = re.compile(r"\w*(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|_PAT|_PWD)", re.IGNORECASE)
SHORTEST = 8  # characters; what is shorter is no secret
LONG = 16  # characters; what is shorter is found by chance in a longer text
# Words, numbers and a word with a number behind it, as `postgres`, `password1` and `20260131`: no secret where they are
# short, for as a name, a seed or a column they mean something else.
COMMON = re.compile(r"[A-Za-z]*[0-9]*")
# `https://user:password@host`, or a user's name alone, which is a token at some servers.
USER_AND_AT = re.compile(r"(?<=://)[^/?#\s@]+@")
USER = re.compile(r"(?<=://)[^/?#\s@]+(?=@)")
QUERY = re.compile(r"(?<=[?&])((?:\w+[_-])?(?:key|token|secret|password|sig|signature)=)[^&#\s]+", re.IGNORECASE)


def secrets() -> dict[str, str]:
    """The environment's, by variable."""
    found = {name: value.strip() for name, value in os.environ.items() if VARIABLE.fullmatch(name)}
    return {name: value for name, value in found.items() if _is_secret(value)}


def check_nothing_confidential(settings: Iterable[tuple[str, Any]]) -> None:
    """Refuse settings that are a secret, for a run's settings are written down; the message does not tell it.

    Args:
        settings: key and value of each, interpolations resolved.

    Raises:
        UserError: the first that does.
    """
    known = secrets()
    for key, value in settings:
        if value is None or isinstance(value, bool):
            continue
        value = str(value)
        for name, secret in known.items():
            if value.strip() == secret or (len(secret) >= LONG and secret in value):
                raise UserError(f"{key}: holds the value of {name}, which would be written down with the run")
        if USER.search(value):
            raise UserError(f"{key}: holds an address with a user's name or password, which would be written down")
        if QUERY.search(value):
            raise UserError(f"{key}: holds an address with a key or token, which would be written down with the run")


def without_secrets(text: str) -> str:
    """A text with *** in place of the environment's secrets and of what addresses hold."""
    return _masked(text, _longest_first())


def masked(tree: Any) -> Any:
    """A tree of dictionaries and lists whose texts, keys too, are `without_secrets`; tuples become lists."""
    return _masked(tree, _longest_first())


class MaskedRecord(logging.LogRecord):
    """What is logged, its traceback included, `without_secrets`."""

    def getMessage(self) -> str:
        return without_secrets(super().getMessage())

    @property
    def exc_text(self) -> str | None:
        """The traceback, which a `logging.Formatter` keeps here before it writes it."""
        return self.traceback

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self.traceback = None if text is None else without_secrets(text)


def mask_logs() -> None:
    """Let all that this process logs from now on be `without_secrets`."""
    logging.setLogRecordFactory(MaskedRecord)


def leaves(tree: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """Key and value of everything in a tree of dictionaries and lists; an empty one is a value."""
    if isinstance(tree, dict | list | tuple) and tree:
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree


def _is_secret(value: str) -> bool:
    return len(value) >= LONG or (len(value) >= SHORTEST and not COMMON.fullmatch(value))


def _longest_first() -> list[str]:
    """A secret may have another one in it."""
    return sorted(secrets().values(), key=len, reverse=True)


def _masked(tree: Any, known: list[str]) -> Any:
    if isinstance(tree, dict):
        return {_masked(key, known): _masked(value, known) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_masked(each, known) for each in tree]
    if not isinstance(tree, str):
        return tree
    if tree.strip() in known:
        return "***"
    for secret in known:
        if len(secret) >= LONG:
            tree = tree.replace(secret, "***")
    return QUERY.sub(r"\1***", USER.sub("***", tree))
