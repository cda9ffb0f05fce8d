"""Error messages: one line that says what is wrong, where, and what is allowed."""

import re
from typing import get_type_hints

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backhand.calculus.choices import closest
from backhand.config.schema import CHOICES
from backhand.errors import UserError

# Groups to which users can add choices.
OPEN_GROUPS = (*CHOICES, "callbacks", "logger")
EXTENDING = "; docs/extending.md says how to add your own"
USER_ERRORS = (UserError, HydraException, OmegaConfBaseException)
MAX_LENGTH = 2000  # characters of a line; the list of the trainer's keys has 800


def one_line(error: BaseException) -> str:
    """Format an error as one line; control characters, which could change the terminal, become `?`."""
    line = "".join(sign if sign.isprintable() else "?" for sign in " ".join(_message(error).split("\n")))
    return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 1]}…"


def _message(error: BaseException) -> str:
    """Shorten messages of Hydra and OmegaConf, and add the choices."""
    if isinstance(error, MissingConfigException) and error.options is not None and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = sorted(option for option in error.options if option != "config")
        hint = EXTENDING if group in OPEN_GROUPS else ""
        return f"{group}={choice}: no such choice{closest(choice, options)}; choose from {', '.join(options)}{hint}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: must be key=value; a value is a word, a number, [1,2], {{a: 1}} or 'in quotes'"
    if found := re.match(r"Ambiguous value for argument '(.+)'\n", str(error)):
        return f"{found[1]}: has several values; add -m to sweep over them, or write a list: key=[1,2]"
    if found := re.search(r"unexpected keyword argument '(\w+)'.*full_key: ([\w.]+)", str(error), re.DOTALL):
        return f"{found[2]}.{found[1]}: no such key"
    # Hydra wraps errors in a file in its own exception.
    file = re.match(r"In '((.+)/.+)': \w+ raised while composing", str(error))
    cause = error.__context__ if file else error.__cause__ or error
    if isinstance(cause, OmegaConfBaseException) and cause.full_key is not None:
        if file and not cause.full_key:
            return f"{file[1]}.yaml: must have keys with values, as in lr: 0.1"
        if file and cause.full_key == file[2]:  # the group itself
            return f"{file[1]}.yaml: its first line must be # @package _global_"
        return f"{file[1]}.yaml: {_key_message(cause)}" if file else _key_message(cause)
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _key_message(error: OmegaConfBaseException) -> str:
    """Shorten a message of OmegaConf about a key or its value."""
    text = str(error.msg).splitlines()[0]
    if text.startswith("Missing mandatory value") and str(error.full_key).endswith(".name"):
        return no_schema(str(error.full_key).partition(".")[0])
    if re.search(r"is not in struct|not in '", text):
        return _unknown_key(error)
    if found := re.match(r"Value (.+) of type '.+' could not be converted to (\w+)", text):
        return f"{error.full_key}={found[1].strip(chr(39))}: must be {_KINDS.get(found[2], found[2])}"
    if found := re.match(r"Value (.+) is not a valid bool", text):
        return f"{error.full_key}={found[1].strip(chr(39))}: must be true or false"
    if "Unexpected type annotation: Set" in text:  # a sweep that is not a string
        return "a sweep inside {} must be a string, as in hydra.sweeper.params={optimizer.lr:'range(1,3)'}"
    if re.search(r"is not Optional|^Incompatible value 'None'|NoneType is not a subclass", text):
        return f"{error.full_key}=null: needs a value"
    if re.search(r"Invalid type assigned|is not a subclass of", text):
        return f"{error.full_key}: must have keys, as in {error.full_key}.KEY=VALUE, or be null"
    if "is not a ListConfig, list or tuple" in text:
        kind = get_type_hints(error.object_type)[error.key]
        return f"{error.full_key}: must be a list, such as {_LISTS.get(kind, '[a,b]')}"
    return f"{error.full_key}: {text}"


_LISTS = {list[int]: "[64] or [256,128]", list[float]: "[0.9,0.999]"}
_KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


def no_schema(group: str) -> str:
    """The message for a choice of the user that does not start from one with a schema."""
    return (
        f"{group}: the choice has no schema; your own file must begin with defaults: [custom, _self_], or another "
        f"choice instead of custom{EXTENDING}"
    )


def _unknown_key(error: OmegaConfBaseException) -> str:
    full_key = str(error.full_key)
    group, _, key = full_key.rpartition(".")
    node = error.parent_node
    known = [str(each) for each in node] if isinstance(node, DictConfig) else []
    choices = CHOICES.get(group, {})
    if choices and isinstance(node, DictConfig) and OmegaConf.is_missing(node, "name"):
        return no_schema(group)
    if owners := [f"{group}={name}" for name, kind in choices.items() if key in get_type_hints(kind)]:
        return f"{full_key}: {group}={node.name} has no such key; it belongs to {' or '.join(owners)}"
    owner = f"{group} has" if group else "the keys are"
    near = _same_last_part(key, node) if not group and isinstance(node, DictConfig) else ""
    near = near or _of_initials(key, known) or closest(key, known)
    hint = f"; {group}=custom takes any argument: docs/extending.md" if choices else ""
    return f"{full_key}: no such key{near}; {owner} {', '.join(known)}{hint}"


def _same_last_part(key: str, config: DictConfig) -> str:
    """` (did you mean optimizer.lr?)` for `lr`, if only one part of the configuration has the key."""
    parts = {str(name): part for name, part in config.items_ex(resolve=False) if isinstance(part, DictConfig)}
    inside = {name: [str(each) for each in part] for name, part in parts.items() if name != "hydra"}
    found = [f"{name}.{key}" for name, keys in inside.items() if key in keys]
    found = found or [f"{name}.{each}" for name, keys in inside.items() for each in keys if _are_initials(key, each)]
    return f" (did you mean {found[0]}?)" if len(found) == 1 else ""


def _of_initials(key: str, known: list[str]) -> str:
    """` (did you mean lr?)` for `learning_rate`, or nothing."""
    found = [each for each in known if _are_initials(key, each)]
    return f" (did you mean {found[0]}?)" if len(found) == 1 else ""


def _are_initials(key: str, other: str) -> bool:
    """Whether one of two keys is the initials of the other, as `lr` of `learning_rate`."""
    short, long = sorted((key, other), key=len)
    return "_" in long and short == "".join(word[:1] for word in long.split("_"))
