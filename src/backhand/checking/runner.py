"""Runs a user's derivation in a process of its own: `python -m backhand.checking.runner REQUEST RESPONSE`.

Both are `.npz` archives of plain arrays with one JSON text in each, so nothing that the user's file makes is ever
unpickled. The request names the file, the object in it, and the batches to call it with; the response has what each
call returned or raised. The caller sets the time limit.
"""

import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ARGUMENTS = ("x", "y", "W_I", "b_I", "W_O", "b_O")
INPUTS = ("x", "W_I", "b_I", "W_O", "b_O")
OF_RULE = ("delta", "W", "slope", "layer")
# What a derivation may return, in the order in which it is computed.
QUANTITIES = ("delta_O", "dW_O", "db_O", "delta_I", "dW_I", "db_I", "dx")

Arrays = Mapping[str, np.ndarray]


class RefusedError(Exception):
    """Why the target cannot be judged, in one line."""


def main() -> None:
    """Answer the request."""
    with np.load(sys.argv[1], allow_pickle=False) as archive:
        arrays = dict(archive)
    request = json.loads(str(arrays.pop("request")))
    answers: list[dict[str, Any]] = []
    results: dict[str, np.ndarray] = {}
    response: dict[str, Any] = {"answers": answers}
    try:
        target, module = load(Path(request["file"]), request["name"])
        is_function = inspect.isclass(target)
        is_rule = not is_function and takes_rule_arguments(target)
        response["kind"] = "function" if is_function else "rule" if is_rule else "backward"
        if is_rule:
            response["returns"] = return_lines(target, Path(request["file"]))
        uses_torch = is_function or "torch" in sys.modules
        flavours = (["torch"] if uses_torch else []) + (["numpy"] if not is_function and uses_numpy(module) else [])
        flavours = ["torch"] if is_rule else flavours
        for flavour in flavours or ["numpy"]:
            for call in request["calls"]:
                if response["kind"] != "backward" and call["target"] != "classes":
                    continue  # it has no y, so there is one way to call it
                answer = {**call, "flavour": flavour, "returned": [], "error": None}
                answers.append(answer)
                try:
                    for batch in call["batches"]:  # the last one counts, the others are the steps before it
                        given = {
                            name: arrays[f"{batch}/{name}"] for name in request["names"] if f"{batch}/{name}" in arrays
                        }
                        given["y"] = given.get(f"y_{call['target']}", given["y_classes"])
                        ask = ask_function if is_function else ask_rule if is_rule else ask_backward
                        returned = ask(target, given, flavour, Path(request["file"]))
                    for name, value in returned.items():
                        results[f"{len(answers) - 1}/{name}"] = value
                        answer["returned"].append(name)
                except RefusedError as error:
                    answer["error"] = str(error)
    except RefusedError as error:
        response["refused"] = str(error)
    np.savez(sys.argv[2], allow_pickle=False, response=np.array(json.dumps(response)), **results)


def load(path: Path, name: str) -> tuple[Any, ModuleType]:
    """The object of that name in the file, which is run to get it.

    Raises:
        RefusedError: the file cannot be run, has no such name, or the object is none that can be checked.
    """
    own_name = f"target_{path.stem}"  # not the file's own: it may be that of a module that others import
    spec = importlib.util.spec_from_file_location(own_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[own_name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise RefusedError(f"{path}:{error.lineno}: syntax error: {error.msg}") from None
    except (Exception, SystemExit) as error:
        raise RefusedError(f"{_where(error, path)}: {_said(error)}, while the file was loaded") from None
    if not hasattr(module, name):
        own = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        close = get_close_matches(name, own, n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise RefusedError(f"{path}: has no {name}{hint}; it has {', '.join(own) or 'no function or class'}")
    target = getattr(module, name)
    if inspect.isclass(target):
        if not any(
            f"{base.__module__}.{base.__name__}" == "torch.autograd.function.Function" for base in target.__mro__
        ):
            raise RefusedError(f"{path}: {name} is a class, but no torch.autograd.Function")
        base = next(each for each in target.__mro__ if each.__module__ == "torch.autograd.function")
        own_context = getattr(target, "setup_context", None) is getattr(base, "setup_context", None)
        names = ("ctx", *INPUTS) if own_context else INPUTS
        _check_signature(path, f"{name}.forward", getattr(target, "forward", None), names)
    elif callable(target):
        _check_signature(path, name, target, OF_RULE if takes_rule_arguments(target) else ARGUMENTS)
    else:
        raise RefusedError(
            f"{path}: {name} is a {type(target).__name__}; it must be a function or a torch.autograd.Function"
        )
    return target, module


def takes_rule_arguments(target: Any) -> bool:
    """Whether it is a rule for a hidden layer's δ, as `model.gradient=FILE.py:NAME` takes it: by its first argument."""
    try:
        names = list(inspect.signature(target).parameters)
    except (TypeError, ValueError):
        return False
    return len(names) == len(OF_RULE) and names[0] == OF_RULE[0]


def return_lines(target: Any, path: Path) -> list[str]:
    """The lines of a function that return, with the file and the line's number."""
    try:
        lines, first = inspect.getsourcelines(target)
    except (OSError, TypeError):
        return []
    return [f"{path}:{first + place}: {line.strip()}" for place, line in enumerate(lines) if "return" in line.split()]


def uses_numpy(module: ModuleType) -> bool:
    """Whether the file has imported numpy under any name."""
    return any(getattr(value, "__name__", "").partition(".")[0] == "numpy" for value in vars(module).values())


def ask_backward(target: Callable[..., Any], given: Arrays, flavour: str, path: Path) -> dict[str, np.ndarray]:
    """What a plain function returns.

    Raises:
        RefusedError: it raised, or returned something else than a dict of arrays.
    """
    arguments = [_fresh(given[name], flavour) for name in ARGUMENTS]
    try:
        returned = target(*arguments)
    except (Exception, SystemExit) as error:
        raise RefusedError(f"{_where(error, path)}: {_said(error)}") from None
    name = target.__name__
    if not isinstance(returned, Mapping):
        raise RefusedError(
            f"{path}: {name} returned {_kind(returned)}; it must return a dict with keys of {', '.join(QUANTITIES)}"
        )
    if unknown := [str(key) for key in returned if key not in QUANTITIES]:
        raise RefusedError(
            f"{path}: {name} returned the unknown key {unknown[0]}; the keys are {', '.join(QUANTITIES)}"
        )
    found = {
        key: _plain(value, f"{path}: {name} returned {key}") for key, value in returned.items() if value is not None
    }
    if not found:
        raise RefusedError(f"{path}: {name} returned none of {', '.join(QUANTITIES)}")
    return found


def ask_rule(target: Callable[..., Any], given: Arrays, flavour: str, path: Path) -> dict[str, np.ndarray]:
    """The δ_I that a rule returns for δ_O, W_O and g′(z_I); and as `u`, what it returns where g′ is 1.

    Raises:
        RefusedError: it raised, or returned something that is no δ.
    """
    import torch

    from backhand.calculus.feedback import TrialLayer

    def draw(shape: Any) -> Any:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)

    found, name = {}, target.__name__
    for key, slope in (("delta_I", given["slope"]), ("u", np.ones_like(given["slope"]))):
        delta, W, g = (_fresh(each, "torch") for each in (given["delta_O"], given["W_O"], slope))
        layer = TrialLayer(0, delta, W, draw, _fresh(given["z_I"], "torch"), {"straight_through_window": 1.0})
        try:
            returned = target(delta, W, g, layer)
        except (Exception, SystemExit) as error:
            raise RefusedError(f"{_where(error, path)}: {_said(error)}") from None
        found[key] = _plain(returned, f"{path}: {name} returned δ_I")
    return found


def ask_function(target: Any, given: Arrays, flavour: str, path: Path) -> dict[str, np.ndarray]:
    """What a `torch.autograd.Function` returns from forward (`forward`), and from backward.

    The gradient that backward gets is ∂L/∂ŷ where forward returns ŷ, and δ_O where it returns z_O.

    Raises:
        RefusedError: one of the two raised, or returned something that is no gradient.
    """
    import torch

    raw: list[Any] = []

    # torch refuses a gradient of the wrong shape in words of its own; here its shape is part of the answer.
    class Watched(target):
        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> tuple[None, ...]:
            raw.append(target.backward(ctx, *gradients))
            return (None,) * len(INPUTS)

    name = target.__name__
    inputs = [_fresh(given[each], "torch").requires_grad_() for each in INPUTS]
    try:
        output = Watched.apply(*inputs)
    except (Exception, SystemExit) as error:
        raise RefusedError(f"{_where(error, path)}: {_said(error)}") from None
    first = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(first, torch.Tensor):
        raise RefusedError(f"{path}: {name}.forward returned {_kind(output)}; it must return ŷ or z_O")
    found = {"forward": _plain(first, f"{path}: {name}.forward returned ŷ")}
    is_z = _close(found["forward"], given["z_O"]) and not _close(found["forward"], given["yhat"])
    upstream = torch.from_numpy(given["delta_O"] if is_z else given["v"]).to(first.dtype)
    if upstream.shape != first.shape or not first.requires_grad:
        return found
    try:
        torch.autograd.backward(first, upstream)
    except (Exception, SystemExit) as error:
        raise RefusedError(f"{_where(error, path)}: {_said(error)}") from None
    gradients = raw[0] if isinstance(raw[0], tuple) else (raw[0],)
    if len(gradients) != len(INPUTS):
        raise RefusedError(
            f"{path}: {name}.backward returned {len(gradients)} gradients, and there are {len(INPUTS)} inputs: "
            f"{', '.join(INPUTS)}"
        )
    for each, gradient in zip(INPUTS, gradients, strict=True):
        if gradient is not None:
            found[f"d{each}"] = _plain(gradient, f"{path}: {name}.backward returned d{each}")
    if len(found) == 1:
        raise RefusedError(f"{path}: {name}.backward returned None for every input")
    return found


def _fresh(array: np.ndarray, flavour: str) -> Any:
    """A copy of its own, so that a derivation that writes into its arguments spoils nothing."""
    if flavour == "numpy":
        return array.copy()
    import torch

    return torch.from_numpy(array.copy())


def _plain(value: Any, what: str) -> np.ndarray:
    """The numbers as an array of float64 or float32.

    Raises:
        RefusedError: they are no real numbers, or not all of them are finite.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.dtype.itemsize < 4 and value.is_floating_point() else value
        value = value.numpy()
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        raise RefusedError(f"{what} as {_kind(value)}; it must be an array of numbers") from None
    if array.dtype.kind not in "fiub":
        raise RefusedError(f"{what} as {_kind(value)}; it must be an array of numbers")
    if array.dtype != np.float32:
        array = array.astype(np.float64)
    if bad := int((~np.isfinite(array)).sum()):
        first = ", ".join(map(str, np.argwhere(~np.isfinite(array))[0])) or "0"
        raise RefusedError(f"{what} with {bad} of {array.size} numbers NaN or infinite, the first at [{first}]")
    return array


def _check_signature(path: Path, label: str, function: Any, names: tuple[str, ...]) -> None:
    """Whether it can be called with so many arguments by position."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # written in C: the call will tell
    try:
        signature.bind(*names)
    except TypeError:
        raise RefusedError(f"{path}: {label} takes {signature}; it must take ({', '.join(names)})") from None


def _where(error: BaseException, path: Path) -> str:
    """The last line of the user's own file that the error came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == path.resolve()]
    return f"{path}:{frames[-1].lineno}" if frames else str(path)


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-4, atol=1e-5))


if __name__ == "__main__":
    main()
