"""What a user reads when something is wrong: one line that says what, where, and what is allowed."""

import re
from typing import get_type_hints

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backhand.calculus.choices import closest
from backhand.config.schema import CHOICES
from backhand.errors import UserError

# Groups to which choices of one's own can be added, and where it says how.
OPEN_GROUPS = (*CHOICES, "callbacks", "logger")
EXTENDING = "; docs/extending.md says how to add your own"
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
        hint = EXTENDING if group in OPEN_GROUPS else ""
        return f"{group}={choice}: no such choice{closest(choice, options)}; choose from {', '.join(options)}{hint}"
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: not of the form key=value; a value is a word, a number, [1,2], {{a: 1}} or 'in quotes'"
        )
    if found := re.match(r"Ambiguous value for argument '(.+)'\n", str(error)):
        return f"{found[1]}: has several values; add -m to sweep over them, or write a list, as in key=[1,2]"
    if found := re.search(r"unexpected keyword argument '(\w+)'.*full_key: ([\w.]+)", str(error), re.DOTALL):
        return f"{found[2]}.{found[1]}: no such key"
    # What Hydra meets in a file it raises again in words of its own.
    file = re.match(r"In '((.+)/.+)': \w+ raised while composing", str(error))
    cause = error.__context__ if file else error.__cause__ or error
    if isinstance(cause, OmegaConfBaseException) and cause.full_key is not None:
        if file and not cause.full_key:
            return f"{file[1]}.yaml: must be keys with values, as in lr: 0.1"
        if file and cause.full_key == file[2]:  # the group itself, which is no key
            return f"{file[1]}.yaml: its first line must be # @package _global_"
        return f"{file[1]}.yaml: {_of_key(cause)}" if file else _of_key(cause)
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _of_key(error: OmegaConfBaseException) -> str:
    """What OmegaConf says of a key or its value."""
    text = str(error.msg).splitlines()[0]
    if text.startswith("Missing mandatory value") and str(error.full_key).endswith(".name"):
        return nameless(str(error.full_key).partition(".")[0])
    if re.search(r"is not in struct|not in '", text):
        return _unknown_key(error)
    if found := re.match(r"Value (.+) of type '.+' could not be converted to (\w+)", text):
        return f"{error.full_key}={found[1].strip(chr(39))}: must be {_KINDS.get(found[2], found[2])}"
    if found := re.match(r"Value (.+) is not a valid bool", text):
        return f"{error.full_key}={found[1].strip(chr(39))}: must be true or false"
    if "Unexpected type annotation: Set" in text:  # a sweep that is no text
        return "a sweep inside {} must be a text, as in hydra.sweeper.params={optimizer.lr:'range(1,3)'}"
    if re.search(r"is not Optional|^Incompatible value 'None'|NoneType is not a subclass", text):
        return f"{error.full_key}=null: needs a value"
    if re.search(r"Invalid type assigned|is not a subclass of", text):
        return f"{error.full_key}: has keys of its own, as in {error.full_key}.KEY=VALUE; or null"
    if "is not a ListConfig, list or tuple" in text:
        kind = get_type_hints(error.object_type)[error.key]
        return f"{error.full_key}: must be a list, such as {_LISTS.get(kind, '[a,b]')}"
    return f"{error.full_key}: {text}"


_LISTS = {list[int]: "[64] or [256,128]", list[float]: "[0.9,0.999]"}
_KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


def nameless(group: str) -> str:
    """What a file of the user's lacks that is a choice of a group with schemas."""
    return (
        f"{group}: the choice has no schema; a file of your own begins with defaults: [custom, _self_], or another "
        f"choice in place of custom{EXTENDING}"
    )


def _unknown_key(error: OmegaConfBaseException) -> str:
    full_key = str(error.full_key)
    group, _, key = full_key.rpartition(".")
    node = error.parent_node
    known = [str(each) for each in node] if isinstance(node, DictConfig) else []
    choices = CHOICES.get(group, {})
    if choices and isinstance(node, DictConfig) and OmegaConf.is_missing(node, "name"):
        return nameless(group)
    if owners := [f"{group}={name}" for name, kind in choices.items() if key in get_type_hints(kind)]:
        return f"{full_key}: {group}={node.name} has no such key; it belongs to {' or '.join(owners)}"
    owner = f"{group} has" if group else "the keys are"
    hint = f"; {group}=custom takes any argument: docs/extending.md" if choices else ""
    return f"{full_key}: no such key{closest(key, known)}; {owner} {', '.join(known)}{hint}"
