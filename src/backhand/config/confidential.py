"""Keep keys and passwords out of what a run stores, logs or sends.

A setting that holds a secret is refused; in all output *** replaces it. A secret of `MIN_LENGTH_INSIDE` characters is
found anywhere in a text; a shorter one only if it is the whole value, because a folder may be called `postgres-notes`
while POSTGRES_PASSWORD=postgres.
"""

import logging
import os
import re
from collections.abc import Iterable
from typing import Any

from backhand.errors import UserError

VARIABLE = re.compile(r"\w*(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|_PAT|_PWD)", re.IGNORECASE)
MIN_LENGTH = 8  # characters; shorter values are not secrets
MIN_LENGTH_INSIDE = 16  # characters; shorter ones occur in longer texts by chance
# Words, numbers and words with a number (`postgres`, `20260131`, `password1`). If they are short they are not secrets,
# because names, seeds and columns look the same.
COMMON = re.compile(r"[A-Za-z]*[0-9]*")
# `https://user:password@host`, or only a user name, which is a token on some servers.
USER_AND_AT = re.compile(r"(?<=://)[^/?#\s@]+@")
USER = re.compile(r"(?<=://)[^/?#\s@]+(?=@)")
QUERY = re.compile(r"(?<=[?&])((?:\w+[_-])?(?:key|token|secret|password|sig|signature)=)[^&#\s]+", re.IGNORECASE)


def secrets() -> dict[str, str]:
    """The secrets in the environment, by variable."""
    found = {name: value.strip() for name, value in os.environ.items() if VARIABLE.fullmatch(name)}
    return {name: value for name, value in found.items() if _is_secret(value)}


def check_nothing_confidential(settings: Iterable[tuple[str, Any]]) -> None:
    """Refuse settings that hold a secret, because a run stores its settings; the message does not show it.

    Args:
        settings: keys and values, interpolations resolved.

    Raises:
        UserError: a setting holds a secret.
    """
    known = secrets()
    for key, value in settings:
        if value is None or isinstance(value, bool):
            continue
        value = str(value)
        for name, secret in known.items():
            if value.strip() == secret or (len(secret) >= MIN_LENGTH_INSIDE and secret in value):
                raise UserError(f"{key}: holds the value of {name}, which the run would store")
        if USER.search(value):
            raise UserError(f"{key}: holds a URL with a user name or password, which the run would store")
        if QUERY.search(value):
            raise UserError(f"{key}: holds a URL with a key or token, which the run would store")


def without_secrets(text: str) -> str:
    """Replace the secrets of the environment and the credentials in URLs by ***."""
    return _masked(text, _longest_first())


def masked(tree: Any) -> Any:
    """Apply `without_secrets` to all keys and values of nested dictionaries and lists; tuples become lists."""
    return _masked(tree, _longest_first())


class MaskedRecord(logging.LogRecord):
    """A log record whose message and traceback are `without_secrets`."""

    def getMessage(self) -> str:
        return without_secrets(super().getMessage())

    @property
    def exc_text(self) -> str | None:
        """The traceback; `logging.Formatter` stores it here before it writes it."""
        return self.traceback

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self.traceback = None if text is None else without_secrets(text)


def mask_logs() -> None:
    """Apply `without_secrets` to all further log messages of this process."""
    logging.setLogRecordFactory(MaskedRecord)


def leaves(tree: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the dotted key and the value of every leaf; an empty dictionary or list is a leaf."""
    if isinstance(tree, dict | list | tuple) and tree:
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree


def _is_secret(value: str) -> bool:
    return len(value) >= MIN_LENGTH_INSIDE or (len(value) >= MIN_LENGTH and not COMMON.fullmatch(value))


def _longest_first() -> list[str]:
    """The longest first, because a secret may contain another one."""
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
        if len(secret) >= MIN_LENGTH_INSIDE:
            tree = tree.replace(secret, "***")
    return QUERY.sub(r"\1***", USER.sub("***", tree))
