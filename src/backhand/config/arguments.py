"""`key=value` arguments for the scripts that do not compose the training configuration."""

import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backhand.calculus.choices import closest
from backhand.config.errors import UserError, one_line

T = TypeVar("T")


def parse(kind: type[T], arguments: Sequence[str], usage: str) -> T:
    """The arguments as an instance of a dataclass; `--help` prints `usage` and ends the program.

    Raises:
        UserError: an argument that is not key=value, an unknown key, a wrong type, or a key without a default left out.
    """
    if {"--help", "-h"} & set(arguments):
        print(usage.strip())
        sys.exit(0)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if not equals:
            raise UserError(f"{argument}: not of the form key=value; the keys are {', '.join(known)}")
        if key not in known:
            raise UserError(f"{key}: no such key{closest(key, known)}; the keys are {', '.join(known)}")
    given = OmegaConf.create(dict(argument.split("=", 1) for argument in arguments))
    try:
        settings = OmegaConf.merge(OmegaConf.structured(kind), given)
        if missing := OmegaConf.missing_keys(settings):
            raise UserError(f"{', '.join(sorted(missing))}: must be given; see --help")
        return cast(T, OmegaConf.to_object(settings))
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from None
