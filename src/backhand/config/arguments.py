"""`key=value` arguments for scripts that do not use Hydra."""

import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from backhand.calculus.choices import closest
from backhand.config.errors import one_line
from backhand.config.ranges import check_ranges
from backhand.errors import UserError

T = TypeVar("T")


def parse(kind: type[T], arguments: Sequence[str], usage: str) -> T:
    """Parse arguments into a dataclass; fields may be dataclasses (`model.loss=mse`).

    `--help` prints `usage` and exits.

    Raises:
        UserError: an argument is not key=value, a key is unknown, missing or given twice, or a value is wrong.
    """
    if {"--help", "-h"} & set(arguments):
        print(usage.strip())
        sys.exit(0)
    known = keys(kind)
    seen: set[str] = set()
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if not equals:
            raise UserError(f"{argument}: must be key=value; the keys are {', '.join(known)}")
        if key not in known:
            raise UserError(f"{key}: no such key{closest(key, known)}; the keys are {', '.join(known)}")
        if key in seen:
            raise UserError(f"{key}: is given twice")
        seen.add(key)
        try:
            OmegaConf.from_dotlist([argument])
        except YAMLError:
            raise UserError(f"{argument}: cannot be read; a bracket or a quote may not be closed") from None
    try:
        settings = OmegaConf.merge(OmegaConf.structured(kind), OmegaConf.from_dotlist(list(arguments)))
        if missing := OmegaConf.missing_keys(settings):
            raise UserError(f"{', '.join(sorted(missing))}: must be given; see --help")
        arguments_given = cast(T, OmegaConf.to_object(settings))
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from None
    check_ranges(arguments_given)
    return arguments_given


def keys(kind: Any) -> list[str]:
    """The keys of a dataclass; nested keys have a dot: `model.loss`."""
    found: list[str] = []
    hints = get_type_hints(kind)
    for field in fields(kind):
        inner = hints[field.name]
        found += [f"{field.name}.{key}" for key in keys(inner)] if is_dataclass(inner) else [field.name]
    return found
