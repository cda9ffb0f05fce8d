"""What a user reads when something is wrong: one line that says what, where, and what is allowed."""

import re
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from backhand.calculus.choices import closest
from backhand.config.schema import TrainConfig
from backhand.errors import UserError

USER_ERRORS = (UserError, HydraException, OmegaConfBaseException)
LONGEST = 2000  # characters of a line; the list of the trainer's keys has 800


def one_line(error: BaseException) -> str:
    """What is wrong, as one line with the choices; what would move the terminal's cursor or colour it is a `?`."""
    line = "".join(sign if sign.isprintable() else "?" for sign in " ".join(_said(error).split("\n")))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _said(error: BaseException) -> str:
    """What Hydra and OmegaConf say over several lines, shorter and with the choices."""
    if isinstance(error, MissingConfigException) and error.options is not None and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = sorted(option for option in error.options if option != "config")
        return f"{group}={choice}: no such choice{closest(choice, options)}; choose from {', '.join(options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not of the form key=value ({' '.join(str(error).split())})"
    if found := re.match(r"Ambiguous value for argument '(.+)'\n", str(error)):
        return f"{found[1]}: has several values; add -m to sweep over them, or write a list, as in key=[1,2]"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, OmegaConfBaseException) and cause.full_key is not None:
        text = str(cause.msg).splitlines()[0]
        if re.search(r"is not in struct|not in '", text):
            return _unknown_key(str(cause.full_key))
        if found := re.match(r"Value (.+) of type '.+' could not be converted to (\w+)", text):
            return f"{cause.full_key}={found[1].strip(chr(39))}: must be {_KINDS.get(found[2], found[2])}"
        if found := re.match(r"Value (.+) is not a valid bool", text):
            return f"{cause.full_key}={found[1].strip(chr(39))}: must be true or false"
        if "is not a ListConfig, list or tuple" in text:
            return f"{cause.full_key}: must be a list, such as [64] or [256,128]"
        if "is not Optional" in text or text.startswith("Incompatible value 'None'"):
            return f"{cause.full_key}=null: needs a value"
        if "does not support deletion" in text:
            return f"{cause.full_key}: cannot be left out with ~; give it another value"
        return f"{cause.full_key}: {text}"
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


_KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


def _unknown_key(full_key: str) -> str:
    parent, _, key = full_key.rpartition(".")
    node: Any = TrainConfig
    for part in filter(None, parent.split(".")):
        node = _inner(get_type_hints(node).get(part)) if is_dataclass(node) else None
    if not is_dataclass(node):
        return f"{full_key}: no such key"
    known = [field.name for field in fields(node)]
    owner = f"{parent} has" if parent else "the keys are"
    return f"{full_key}: no such key{closest(key, known)}; {owner} {', '.join(known)}"


def _inner(hint: Any) -> Any:
    """The dataclass in `X | None`."""
    return next((part for part in get_args(hint) if is_dataclass(part)), hint)
