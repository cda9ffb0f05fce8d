"""The user's own Python: modules that register an activation or a loss, and classes named by `_target_`."""

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


def import_all(names: Iterable[str], key: str = "imports") -> None:
    """Import modules, and files that end in `.py`, unless they are imported already.

    Args:
        names: `my_package.my_module`, or `my_folder/my_file.py`.
        key: of the setting, for messages.

    Raises:
        UserError: there is none of that name, or it raises an exception.
    """
    for name in names:
        _find_in(Path.cwd())
        path = Path(name).absolute()
        try:
            if path.suffix != ".py":
                importlib.import_module(name)
                continue
            if not path.is_file():
                raise UserError(f"{key}={name}: no such file")
            _find_in(path.parent)
            found = importlib.import_module(path.stem)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # whatever a module of the user's raises
            raise UserError(f"{key}={name}: cannot be imported ({describe(error)})") from error
        if not path.samefile(getattr(found, "__file__", None) or "/"):
            raise UserError(f"{key}={name}: another module is called {path.stem}; give the file another name")


def file_and_name(gradient: str) -> tuple[Path, str] | None:
    """The file and the function that `model.gradient=FILE.py:NAME` names; None where it is a name of a choice.

    Raises:
        UserError: it is no name at all.
    """
    if not isinstance(gradient, str):
        raise UserError(f"gradient={gradient}: must be a name or FILE.py:NAME, which a checkpoint can hold")
    file, colon, name = gradient.rpartition(":")
    return (Path(file), name) if colon and file.endswith(".py") else None


def names_in(path: Path) -> list[str]:
    """What a file defines at its top level, without running it.

    Raises:
        SyntaxError, ValueError: it is not Python.
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


def rule_of(gradient: str) -> str | Rule:
    """The backward pass that `model.gradient` names: the name of a choice as it is, a function of the user's as a rule.

    Raises:
        UserError: the file cannot be imported, or has no such function.
    """
    if (own := file_and_name(gradient)) is None:
        return gradient
    path, name = own
    function = getattr(_of_file(path.absolute(), gradient), name, None)
    if not callable(function):
        raise UserError(f"model.gradient={gradient}: {path} has no function {name}")

    def hidden_delta(delta: Any, W: Any, slope: Any, layer: HiddenLayer) -> Any:
        try:
            return function(delta, W, slope, layer)
        except UserError:
            raise
        except Exception as error:  # whatever it raises
            raise UserError(f"model.gradient={gradient}: hidden layer {layer.number}: {describe(error)}") from error

    return Rule(hidden_delta)


def _of_file(path: Path, gradient: str) -> ModuleType:
    """The module of a file, by a name that no other module has: two files may be called alike."""
    name = f"{path.stem} of {path.parent}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"model.gradient={gradient}: no such file: {path}")
    _find_in(path.parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        del sys.modules[name]
        raise UserError(f"model.gradient={gradient}: cannot be imported ({describe(error)})") from error
    return module


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
    of_choice = getattr(CHOICES[key][settings["name"]], "target", "") if "_target_" not in settings else ""
    target = str(settings.get("_target_", of_choice))
    module, _, name = target.rpartition(".")
    if not module:
        raise UserError(f"{key}._target_={target}: must be a class with its module, such as torch.optim.RMSprop")
    _find_in(Path.cwd())
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:  # whatever a module of the user's raises
        raise UserError(f"{key}._target_={target}: cannot be found ({describe(error)})") from error
    if not (inspect.isclass(found) and issubclass(found, kinds)):
        allowed = " or ".join(f"{kind.__module__}.{kind.__name__}" for kind in kinds)
        members = inspect.getmembers(sys.modules[module], inspect.isclass)
        near = closest(name, [each for each, member in members if issubclass(member, kinds)])
        raise UserError(f"{key}._target_={target}: must be the name of a subclass of {allowed}{near}")
    return found


def make(arguments: Mapping[str, Any], key: str, kind: type, *positional: Any) -> Any:
    """One of the class, made by Hydra's `instantiate`.

    Args:
        arguments: by name.
        key: of the settings, for messages.
        kind: the class.
        positional: the arguments before those.

    Raises:
        UserError: it cannot be made with them.
    """
    check_arguments(kind, arguments, key, len(positional))
    target = {"_target_": f"{kind.__module__}.{kind.__qualname__}"}
    try:
        made = instantiate({**arguments, **target}, *positional, _convert_="all")
    except InstantiationException as error:
        raise UserError(f"{key}: {kind.__name__} cannot be made ({describe(error.__cause__ or error)})") from error
    if not isinstance(made, kind):
        raise UserError(f"{key}: makes no {kind.__name__}; leave out _partial_")
    return made


# Files whose lines are not the user's own.
INSTALLED = ("<", str(Path(__file__).parents[2]), *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))


def describe(error: BaseException) -> str:
    """An exception in one line, with the last line of the user's own code that it went through."""
    told = "".join(traceback.format_exception(error))  # that of a DataLoader's worker has its own traceback in it
    lines = [line for line in told.splitlines() if line]
    said = lines[-1].strip() if "Original Traceback" in str(error) else f"{type(error).__name__}: {error}"
    frames = re.findall(r'File "(.+)", line (\d+), in (.+)', told)
    started = getattr(sys.modules["__main__"], "__file__", None)
    own = [frame for frame in frames if not frame[0].startswith(INSTALLED) and frame[0] != started]
    where = f" ({Path(own[-1][0]).name}, line {own[-1][1]}, in {own[-1][2]})" if own else ""
    return " ".join(said.split()).removesuffix(":") + where


def check_arguments(kind: type, arguments: Iterable[str], key: str, positional: int = 0) -> None:
    """Refuse an argument that a class does not have, unless it takes any; names in underscores are Hydra's.

    The first `positional` ones are not the user's to give.

    Raises:
        UserError: with the closest one, and all of them.
    """
    parameters = inspect.signature(kind).parameters
    if any(each.kind == each.VAR_KEYWORD for each in parameters.values()):
        return
    known = list(parameters)[positional:]
    for name in arguments:
        if name not in known and not re.fullmatch("_.+_", name):
            has = f"{kind.__name__} has {', '.join(known)}"
            raise UserError(f"{key}.{name}: no such argument{closest(name, known)}; {has}")


def takes(kind: type, name: str) -> bool:
    """Whether a class has an argument of this name."""
    return name in inspect.signature(kind).parameters


def _find_in(folder: Path) -> None:
    """Let Python find modules in a folder, behind what is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
