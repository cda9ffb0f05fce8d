"""The user's own Python: modules that register an activation or a loss, and classes named by `_target_`."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from backhand.config.schema import CHOICES
from backhand.errors import UserError

# Keys of a choice that are no arguments of its class.
NO_ARGUMENTS = ("name", "_target_", "interval")


def find_modules_here() -> None:
    """Let Python find modules in the current folder, behind what is installed, as `python -m` does."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)


def import_all(names: Iterable[str], key: str = "imports") -> None:
    """Import modules, and files that end in `.py`, unless they are imported already.

    Args:
        names: `my_package.my_module`, or `my_folder/my_file.py`.
        key: of the setting, for messages.

    Raises:
        UserError: there is none of that name, or it raises an exception.
    """
    for name in names:
        try:
            if name.endswith(".py"):
                _import_file(Path(name).absolute())
            else:
                importlib.import_module(name)
        except Exception as error:
            raise UserError(f"{key}={name}: cannot be imported ({type(error).__name__}: {error})") from error


def _import_file(path: Path) -> None:
    if any(getattr(module, "__file__", None) == str(path) for module in list(sys.modules.values())):
        return
    if not path.is_file():
        raise FileNotFoundError("no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise


def class_of(settings: Mapping[str, Any], key: str, *kinds: type) -> Any:
    """The class that settings name, imported and looked at.

    It is called by nobody unless it is one of `kinds`: settings may come out of a checkpoint.

    Args:
        settings: with `_target_`, or with a `name` of `CHOICES[key]`.
        key: of the settings, for messages.
        kinds: what it must be a subclass of.

    Raises:
        UserError: there is no such class, or it is of another kind.
    """
    target = str(settings.get("_target_") or getattr(CHOICES[key][settings["name"]], "target", ""))
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a module of the user's raises
        raise UserError(f"{key}._target_={target}: cannot be found ({type(error).__name__}: {error})") from error
    if not (inspect.isclass(found) and issubclass(found, kinds)):
        allowed = " or a ".join(kind.__name__ for kind in kinds)
        raise UserError(f"{key}._target_={target}: must be the name of a {allowed}")
    return found


def make(settings: Mapping[str, Any], key: str, kind: type, /, *positional: Any, **more: Any) -> Any:
    """One of the class, made by Hydra's `instantiate` with the settings as arguments.

    Raises:
        UserError: it refuses its arguments.
    """
    given = {name: value for name, value in settings.items() if name not in NO_ARGUMENTS}
    target = {"_target_": f"{kind.__module__}.{kind.__qualname__}"}
    try:
        return instantiate({**more, **given, **target}, *positional, _convert_="all")
    except InstantiationException as error:
        reason = error.__cause__ or error
        raise UserError(f"{key}: {kind.__name__} refuses its arguments ({' '.join(str(reason).split())})") from error


def takes(kind: type, name: str) -> bool:
    """Whether a class has an argument of this name."""
    return name in inspect.signature(kind).parameters
