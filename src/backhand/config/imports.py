"""Import the user's code: modules that register activations or losses, gradient rules, and `_target_` classes."""

import ast
import importlib.util
import inspect
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from backhand.calculus.choices import closest
from backhand.calculus.feedback import HiddenLayer, Rule
from backhand.config.schema import CHOICES
from backhand.errors import UserError


def import_modules(names: Iterable[str], key: str = "imports") -> None:
    """Import modules and `.py` files.

    Args:
        names: names such as `my_package.my_module` or `my_folder/my_file.py`.
        key: the key of the setting, for messages.

    Raises:
        UserError: a module does not exist, or raises an exception.
    """
    for name in names:
        _add_to_sys_path(Path.cwd())
        path = Path(name).absolute()
        try:
            if path.suffix != ".py":
                importlib.import_module(name)
                continue
            if not path.is_file():
                raise UserError(f"{key}={name}: no such file")
            _add_to_sys_path(path.parent)
            found = importlib.import_module(path.stem)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # the user's code can raise anything
            raise UserError(f"{key}={name}: cannot be imported ({describe(error)})") from error
        if not path.samefile(getattr(found, "__file__", None) or "/"):
            raise UserError(f"{key}={name}: there is another module named {path.stem}; rename the file")


def split_gradient(gradient: str) -> tuple[Path, str] | None:
    """Split `model.gradient=FILE.py:NAME` into file and function; None for the name of a choice.

    Raises:
        UserError: `gradient` is not a string.
    """
    if not isinstance(gradient, str):
        raise UserError(f"gradient={gradient}: must be a name or FILE.py:NAME, so that a checkpoint can store it")
    file, colon, name = gradient.rpartition(":")
    return (Path(file), name) if colon and file.endswith(".py") else None


def top_level_names(path: Path) -> list[str]:
    """The names that a file defines at its top level, without running it.

    Raises:
        SyntaxError, ValueError: the file is not Python.
    """
    found: list[str] = []
    for statement in ast.parse(path.read_bytes()).body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.append(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found += [each.asname or each.name for each in names]
            case ast.Assign(targets=targets):
                found += [each.id for each in targets if isinstance(each, ast.Name)]
    return found


def load_rule(gradient: str) -> str | Rule:
    """Load the function that `model.gradient` names as a rule; the name of a choice is returned as it is.

    Raises:
        UserError: the file cannot be imported, or has no such function.
    """
    if (own := split_gradient(gradient)) is None:
        return gradient
    path, name = own
    function = getattr(_load_file(path.absolute(), gradient), name, None)
    if not callable(function):
        raise UserError(f"model.gradient={gradient}: {path} has no function {name}")

    def hidden_delta(delta: Any, W: Any, slope: Any, layer: HiddenLayer) -> Any:
        try:
            return function(delta, W, slope, layer)
        except UserError:
            raise
        except Exception as error:  # the user's code can raise anything
            raise UserError(f"{layer.where}: {describe(error)}") from error

    return Rule(hidden_delta, name=gradient, setting="model.gradient")


def _load_file(path: Path, gradient: str) -> ModuleType:
    """Import a file under a unique name, because two files may have the same name."""
    name = f"{path.stem} of {path.parent}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"model.gradient={gradient}: no such file: {path}")
    _add_to_sys_path(path.parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        del sys.modules[name]
        raise UserError(f"model.gradient={gradient}: cannot be imported ({describe(error)})") from error
    return module


def import_class(settings: Mapping[str, Any], key: str, *kinds: type) -> Any:
    """Import the class that settings name, and check its base class, because settings may come from a checkpoint.

    Args:
        settings: settings with `_target_`, or with a `name` of `CHOICES[key]`.
        key: the key of the settings, for messages.
        kinds: the allowed base classes.

    Raises:
        UserError: there is no such class, or it has another base class.
    """
    of_choice = getattr(CHOICES[key][settings["name"]], "target", "") if "_target_" not in settings else ""
    target = str(settings.get("_target_", of_choice))
    module, _, name = target.rpartition(".")
    if not module:
        raise UserError(f"{key}._target_={target}: must be module and class, such as torch.optim.RMSprop")
    _add_to_sys_path(Path.cwd())
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        raise UserError(f"{key}._target_={target}: cannot be imported ({describe(error)})") from error
    if not (inspect.isclass(found) and issubclass(found, kinds)):
        allowed = " or ".join(f"{kind.__module__}.{kind.__name__}" for kind in kinds)
        members = inspect.getmembers(sys.modules[module], inspect.isclass)
        near = closest(name, [each for each, member in members if issubclass(member, kinds)])
        raise UserError(f"{key}._target_={target}: must be the name of a subclass of {allowed}{near}")
    return found


def create(arguments: Mapping[str, Any], key: str, kind: type, *positional: Any) -> Any:
    """Create an instance with Hydra's `instantiate`.

    Args:
        arguments: the keyword arguments.
        key: the key of the settings, for messages.
        kind: the class.
        positional: the positional arguments.

    Raises:
        UserError: the class does not accept the arguments.
    """
    check_arguments(kind, arguments, key, len(positional))
    target = {"_target_": f"{kind.__module__}.{kind.__qualname__}"}
    try:
        instance = instantiate({**arguments, **target}, *positional, _convert_="all")
    except InstantiationException as error:
        raise UserError(f"{key}: {kind.__name__} cannot be created ({describe(error.__cause__ or error)})") from error
    if not isinstance(instance, kind):
        raise UserError(f"{key}: does not create a {kind.__name__}; leave out _partial_")
    return instance


# Files that are not the user's.
INSTALLED = ("<", str(Path(__file__).parents[2]), *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))


def describe(error: BaseException) -> str:
    """Format an exception as one line, with the last line of the user's code in its traceback."""
    formatted = "".join(traceback.format_exception(error))  # from a DataLoader worker the message includes a traceback
    lines = [line for line in formatted.splitlines() if line]
    message = lines[-1].strip() if "Original Traceback" in str(error) else f"{type(error).__name__}: {error}"
    frames = re.findall(r'File "(.+)", line (\d+), in (.+)', formatted)
    started = getattr(sys.modules["__main__"], "__file__", None)
    own = [frame for frame in frames if not frame[0].startswith(INSTALLED) and frame[0] != started]
    where = f" ({Path(own[-1][0]).name}, line {own[-1][1]}, in {own[-1][2]})" if own else ""
    return " ".join(message.split()).removesuffix(":") + where


def check_arguments(kind: type, arguments: Iterable[str], key: str, positional: int = 0) -> None:
    """Refuse arguments that a class does not accept; names such as `_partial_` are Hydra's.

    The first `positional` arguments are not for the user.

    Raises:
        UserError: the class has no such argument.
    """
    parameters = inspect.signature(kind).parameters
    if any(each.kind == each.VAR_KEYWORD for each in parameters.values()):
        return
    known = list(parameters)[positional:]
    for name in arguments:
        if name not in known and not re.fullmatch("_.+_", name):
            has = f"{kind.__name__} has {', '.join(known)}"
            raise UserError(f"{key}.{name}: no such argument{closest(name, known)}; {has}")


def accepts(kind: type, name: str) -> bool:
    """Whether a class has an argument with this name."""
    return name in inspect.signature(kind).parameters


def _add_to_sys_path(folder: Path) -> None:
    """Let Python find modules in a folder, after installed ones."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
