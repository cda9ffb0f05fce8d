"""Keys and passwords: what a run writes down, logs or sends has none of them in it."""

import os
import re
from collections.abc import Iterable
from typing import Any

from backhand.errors import UserError

VARIABLE = re.compile(r"\w*(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|_PAT|_PWD)", re.IGNORECASE)
SHORTEST = 8  # characters; what is shorter is found by chance everywhere
# `https://user:password@host`, or a user's name alone, which is a token at some servers.
USER_AND_AT = re.compile(r"(?<=://)[^/?#\s@]+@")
USER = re.compile(r"(?<=://)[^/?#\s@]+(?=@)")
QUERY = re.compile(r"(?<=[?&])((?:\w+[_-])?(?:key|token|secret|password|sig|signature)=)[^&#\s]+", re.IGNORECASE)


def secrets() -> dict[str, str]:
    """The environment's, by variable."""
    return {
        name: value for name, value in os.environ.items() if VARIABLE.fullmatch(name) and len(value.strip()) >= SHORTEST
    }


def check_nothing_confidential(settings: Iterable[tuple[str, Any]]) -> None:
    """Refuse settings that hold a secret, for a run's settings are written down; the message does not hold it.

    Args:
        settings: key and value of each, interpolations resolved.

    Raises:
        UserError: the first that does.
    """
    known = {value.strip(): name for name, value in secrets().items()}
    for key, value in settings:
        if value is None or isinstance(value, bool):
            continue
        value = str(value)
        for secret, name in known.items():
            if secret in value:
                raise UserError(f"{key}: holds the value of {name}, which would be written down with the run")
        if USER.search(value):
            raise UserError(f"{key}: holds an address with a user's name or password, which would be written down")
        if QUERY.search(value):
            raise UserError(f"{key}: holds an address with a key or token, which would be written down with the run")


def without_secrets(text: str) -> str:
    """A message with *** in place of the environment's secrets and of what addresses hold."""
    for value in sorted(secrets().values(), key=len, reverse=True):
        text = text.replace(value.strip(), "***")
    return QUERY.sub(r"\1***", USER.sub("***", text))


def leaves(tree: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """Key and value of everything in a tree of dictionaries and lists; an empty one is a value."""
    if isinstance(tree, dict | list | tuple) and tree:
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree
