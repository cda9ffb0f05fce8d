"""Asks about a single operation: finds its two halves, and in which ways they may be called."""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backhand.derivations.answer import Answer
from backhand.derivations.asking import called
from backhand.derivations.loading import RefusedError, Source, fresh
from backhand.derivations.operation_arrays import as_given
from backhand.derivations.operation_calls import FunctionOperation, Operation, RaisedError, roles_of
from backhand.derivations.operation_mistakes import hint
from backhand.derivations.operation_names import BACKWARD, FORWARD, GRADIENT_AFFIX, GRADIENT_NAME, KEPT
from backhand.derivations.operation_report import say_raised
from backhand.derivations.operation_shapes import Parameter, parameters_of
from backhand.derivations.operations import judge
from backhand.derivations.question import parsed

_UPSTREAM = ("g", "dout", "grad_output", "upstream")  # its names in a call
_TORCH = ("torch", "torch float32")


def judge_single(source: Source, names: dict[str, Any], name: str, call: str | None) -> Answer:
    """Judge the operation.

    Raises:
        RefusedError: its other half is not found, or it cannot be run.
    """
    if call is not None:
        statements = parsed(call, "call")

        def evaluate(given: dict[str, Any]) -> Any:
            scope = fresh(source)
            scope.update(given)
            return called(statements, scope)[0]

        return judge_call(evaluate, source.path, call)
    target = names[name.partition(".")[0]]
    if inspect.isclass(target):
        if any(f"{each.__module__}.{each.__name__}" == "torch.autograd.function.Function" for each in target.__mro__):
            return judge_function(target, source.path)
        return judge_class(target, source.path)
    if (switch := _switch(target)) is not None:
        derivative: Any = functools.partial(target, **{switch: True})
        derivative.__name__ = target.__name__
        return judge_pair(target, derivative, source.path)
    other = _other_half(source, name)
    if other is None:
        raise RefusedError(
            f"{source.path}: {name} is one half of an operation; its derivative is a function of the file called "
            f"{name}_grad or {name}_backward, or say both: call='({name}(x), …(x))'"
        )
    f, f_grad = other
    return judge_pair(names[f], names[f_grad], source.path)


def is_operation(source: Source, target: Any, name: str) -> bool:
    """Whether a function is one half of an operation, or both halves with a switch between them."""
    if _switch(target) is not None:
        return True
    weights = re.compile(r"[wW]\d?|[tT]heta|params|parameters")
    if any(weights.match(each.name) for each in parameters_of(target)) or not (halves := _other_half(source, name)):
        return False
    # All parameters, which the forward pass of a network takes, are not those of one operation.
    forward = [each.arg for each in source.functions[halves[0]].args.args]
    return not any(re.fullmatch(r"params|parameters|[tT]hetas?", each) for each in forward)


def _switch(target: Any) -> str | None:
    """The argument of `sigmoid(x, deriv=False)` that asks for the derivative."""
    given = parameters_of(target)
    return next((name for name, default, _ in given if default is False and GRADIENT_NAME.match(name)), None)


def _other_half(source: Source, name: str) -> tuple[str, str] | None:
    """The function and its derivative, by their names."""
    functions = [each for each in source.functions if "." not in each and each != name]
    stem = GRADIENT_AFFIX.sub("", name)
    if stem != name:
        for each in functions:
            if each in (stem, f"{stem}_forward", f"{stem}_fwd"):
                return each, name
    for each in functions:
        if GRADIENT_AFFIX.sub("", each) in (name, re.sub(r"_?(?:forward|fwd)$", "", name)):
            return name, each
    return None


def judge_function(cls: Any, path: Path) -> Answer:
    """Judge a `torch.autograd.Function`, with ctx in forward or with setup_context.

    Raises:
        RefusedError: its forward pass runs with no arguments that were tried.
    """
    return judge([[FunctionOperation(cls, path, flavour)] for flavour in _TORCH])


def judge_class(cls: Any, path: Path) -> Answer:
    """Judge a class with a forward and a backward method.

    Raises:
        RefusedError: it has no two such methods, or no arguments were found with which they run.
    """
    own = {name for base in cls.__mro__ for name in vars(base)}  # `type` is called, too, but is none
    forward = next((name for name in FORWARD if name in own), None)
    others = (name for name in vars(cls) if GRADIENT_NAME.search(name) and not name.startswith("__"))
    backward = next((name for name in BACKWARD if name in own), None) or next(others, None)
    if forward is None or backward is None:
        missing = "forward" if forward is None else "backward"
        raise RefusedError(f"{path}: {cls.__name__} has no {missing} method (or function and gradient)")

    def start(given: Sequence[Any]) -> tuple[Any, Any, Any]:
        instance = cls(*given)
        return getattr(instance, forward), getattr(instance, backward), instance

    parameters = [] if cls.__init__ is object.__init__ else parameters_of(cls, of_constructor=True)
    is_static = isinstance(inspect.getattr_static(cls, forward), staticmethod)
    parameters += parameters_of(getattr(cls, forward), 0 if is_static else 1)
    method = getattr(cls, backward)
    code = getattr(getattr(cls, forward), "__code__", None)
    own_names = {each.name for each in parameters}
    kept = [name for name in (code.co_names if code else ()) if KEPT.fullmatch(name) and name not in own_names]
    roles = roles_of(method, parameters, True, kept[:2])
    return judge(
        [
            [Operation(path, parameters, flavour, start, method, each) for each in roles]
            for flavour in ("numpy", *_TORCH)
        ]
    )


def judge_pair(f: Any, f_grad: Any, path: Path) -> Answer:
    """Judge two functions: of the input, or the output, or with the upstream gradient or a cache as well.

    Raises:
        RefusedError: no arguments were found with which f runs.
    """
    parameters = parameters_of(f)
    return judge(_ways(f, f_grad, path, parameters, f_grad, roles_of(f_grad, parameters, False)))


def judge_call(evaluate: Callable[[dict[str, Any]], Any], path: Path, text: str) -> Answer:
    """Judge a call that returns the value and the gradient for x, and for an upstream gradient if it uses one.

    Args:
        evaluate: called with a dict of x, and of g, dout, grad_output and upstream, which are one array.
        path: the user's file.
        text: the call, which tells whether the upstream gradient is used.

    Raises:
        RefusedError: it runs with no x that was tried.
    """
    names = re.findall(rf"\b(?:{'|'.join(_UPSTREAM)})\b", text)

    def call(x: Any, g: Any) -> Any:
        found = evaluate({"x": x, **dict.fromkeys(_UPSTREAM, g)})
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise RefusedError(f"{path}: the call must return two things, the value and the gradient")
        return found

    def value(x: Any) -> Any:
        """The value; an upstream gradient of its shape is not known before."""
        own, flavour = np.shape(x), "torch" if hasattr(x, "detach") else "numpy"
        errors = []
        for shape in dict.fromkeys([(), own, own[:1], own[1:]]):
            try:
                return call(x, as_given(np.ones(shape), flavour))[0]
            except Exception as error:
                errors.append(error)
        raise errors[-1]

    def gradient(x: Any, g: Any = None) -> Any:
        return call(x, g)[1]

    roles = (0, "upstream") if names else (0,)
    try:
        return judge(_ways(value, gradient, path, [Parameter("x")], None, [roles], *names[:1]))
    except RaisedError as error:
        return say_raised(error, hint(error, None))


def _ways(
    f: Any, f_grad: Any, path: Path, parameters: list[Parameter], backward: Any, roles: list[Any], *upstream: str
) -> list[list[Operation]]:
    """The ways to call two functions: with arrays, and with one number at a time."""
    numbers = np.vectorize(f, otypes=[float]), np.vectorize(f_grad, otypes=[float])
    starts: dict[str, Any] = dict.fromkeys(("numpy", *_TORCH), lambda _: (f, f_grad, None))
    starts["numbers"] = lambda _: (*numbers, None)
    return [
        [Operation(path, parameters, flavour, start, backward, each, *upstream) for each in roles]
        for flavour, start in starts.items()
    ]
