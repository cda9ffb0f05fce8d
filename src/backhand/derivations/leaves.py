"""Every array that a derivation leaves behind, with the name of its place: `grads['W1']`, `n.layers[0].dW`."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from backhand.derivations.loading import MODULE
from backhand.derivations.names import gradient
from backhand.derivations.question import Question

NESTING = 5


@dataclass(eq=False)
class Leaf:
    """One array that the derivation left: `label` says where, as `grads['W1']` or `n.layers[0].dW`."""

    label: str
    value: np.ndarray
    origin: str = "returned"  # or given: an argument, or a global, as it is after the call


class Resolver:
    """Follows the expression of a value to the names of its parts: `f(x)[1]` to what f returns, a name to its value."""

    def __init__(self, question: Question) -> None:
        self.question = question

    def parts(self, expression: ast.expr | None, count: int) -> list[ast.expr | None]:
        """The expressions of a tuple's or a list's elements, where they can be told."""
        found = self._tuple(expression, 0)
        return [*found] if found is not None and len(found) == count else [None] * count

    def has_parts(self, expression: ast.expr | None, count: int) -> bool:
        """Whether the elements are written one by one."""
        found = self._tuple(expression, 0)
        return found is not None and len(found) == count

    def _behind(self, expression: ast.expr | None, depth: int) -> ast.expr | None:
        if depth > NESTING:
            return None
        if isinstance(expression, ast.Call):
            name = (
                expression.func.attr
                if isinstance(expression.func, ast.Attribute)
                else getattr(expression.func, "id", "")
            )
            functions = self.question.source.functions
            method = next((each for each in functions if each.endswith(f".{name}")), "")
            return returned(functions.get(name) or functions.get(method))
        if isinstance(expression, ast.Subscript):
            parts = self._tuple(expression.value, depth + 1)
            index = expression.slice
            if parts is not None and isinstance(index, ast.Constant) and isinstance(index.value, int):
                return parts[index.value] if -len(parts) <= index.value < len(parts) else None
        if isinstance(expression, ast.Name):
            for node in self._scopes():
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Assign) and any(
                        isinstance(target, ast.Name) and target.id == expression.id for target in inner.targets
                    ):
                        return inner.value
        return None

    def _scopes(self) -> list[ast.AST]:
        return [*(self.question.statements or ()), *([self.question.function] if self.question.function else [])]

    def _tuple(self, expression: ast.expr | None, depth: int) -> list[ast.expr | None] | None:
        if expression is None or depth > NESTING:
            return None
        if isinstance(expression, ast.Tuple | ast.List):
            return None if any(isinstance(each, ast.Starred) for each in expression.elts) else list(expression.elts)
        if isinstance(expression, ast.Subscript) and isinstance(expression.slice, ast.Slice):
            parts = self._tuple(expression.value, depth + 1)
            lower, upper = expression.slice.lower, expression.slice.upper
            bounds = slice(*(ast.literal_eval(each) if each else None for each in (lower, upper)))
            return None if parts is None else parts[bounds]
        behind = self._behind(expression, depth)
        return self._tuple(behind, depth + 1) if behind is not expression else None


def returned(function: ast.FunctionDef | None) -> ast.expr | None:
    """The expression that a function returns at its end."""
    if function is None:
        return None
    returns = [node for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]
    return max(returns, key=lambda node: node.lineno).value if returns else None


def _label(expression: ast.expr | None) -> str:
    """How an element is called: its own name, or that of what it is computed from, where that leaves it what it is."""
    match expression:
        case ast.Name() | ast.Attribute() | ast.Subscript():
            return ast.unparse(expression)
        case ast.BinOp(left=left, op=ast.Div() | ast.Sub()):
            return _label(left)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _label(right) if isinstance(left, ast.Constant) else _label(left)
        case ast.Call(
            func=ast.Attribute(value=value, attr="copy" | "ravel" | "reshape" | "flatten" | "clone" | "detach")
        ):
            return _label(value)
    return ""


def leaves(value: Any, label: str, expression: ast.expr | None, resolve: Resolver, nesting: int) -> Iterator[Leaf]:
    """Every array and number in a value."""
    if (
        nesting > NESTING
        or value is None
        or isinstance(value, str | bytes | bool | ModuleType)
        or (callable(value) and not hasattr(value, "shape") and not is_own(value))
    ):
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            bare = gradient(str(key), resolve.question.depth)  # of `W` the place may tell the layer
            named = label.strip("[]0123456789") or (
                label and bare and bare.layer is None
            )  # not only a place in a tuple
            yield from leaves(inner, f"{label}[{str(key)!r}]" if named else str(key), None, resolve, nesting + 1)
    elif isinstance(value, list | tuple) and (
        isinstance(value, tuple) or resolve.has_parts(expression, len(value)) or not _is_array(value)
    ):
        fields = getattr(value, "_fields", None)
        parts = resolve.parts(expression, len(value))
        for place_, (inner, part) in enumerate(zip(value, parts, strict=True)):
            name = fields[place_] if fields else _label(part)
            own = name or f"{label}[{place_}]"
            yield from leaves(inner, own, part, resolve, nesting + 1)
    elif hasattr(value, "shape") or isinstance(value, int | float | list | tuple | np.number):
        numbers = plain(value)
        if numbers is not None:
            yield Leaf(label, numbers)
        for attribute in ("grad", "g"):
            if not hasattr(value, "detach") or (attribute == "grad" and not (value.is_leaf or value.retains_grad)):
                continue
            inner = getattr(value, attribute, None)
            if inner is not None and hasattr(inner, "shape"):
                yield Leaf(f"{label}.{attribute}", plain(inner))  # type: ignore[arg-type]
    elif hasattr(value, "__dict__") or hasattr(value, "__slots__"):
        attributes = (
            vars(value)
            if hasattr(value, "__dict__")
            else {each: getattr(value, each, None) for each in value.__slots__}
        )
        for name, inner in attributes.items():
            yield from leaves(inner, f"{label}.{name}" if label else name, None, resolve, nesting + 1)


def _is_array(value: Any) -> bool:
    """Whether a list is an array of plain numbers."""
    if any(True for _ in arrays_in(value, 0)):
        return False
    try:
        array = np.array(value)
    except (ValueError, TypeError):  # ragged
        return False
    return array.dtype.kind in "fiu"


def plain(value: Any) -> np.ndarray | None:
    """The numbers as an array of float64 or float32; None where they are no real numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() and value.dtype.itemsize < 4 else value
        value = value.numpy()
    try:
        array = np.array(value)
    except (ValueError, TypeError):
        return None
    if array.dtype.kind == "O" and array.size:
        try:
            array = np.array(value, dtype=np.float64)
        except (ValueError, TypeError):
            return None
    if array.dtype.kind not in "fiub":
        return None
    return array if array.dtype == np.float32 else array.astype(np.float64)


def is_own(value: Any) -> bool:
    """Whether it is an object of a class of the target's own; it may be callable, and no function."""
    return type(value).__module__.startswith(MODULE)


def has_arrays(value: Any) -> bool:
    """Whether there is an array with an axis in it."""
    return any(getattr(each, "ndim", 0) for each in arrays_in(value, 0))


def arrays_in(value: Any, nesting: int = 0) -> Iterator[Any]:
    """The arrays in a value, whatever dictionaries and lists they are in."""
    if hasattr(value, "shape"):
        yield value
    elif nesting <= NESTING and isinstance(value, Mapping):
        for inner in value.values():
            yield from arrays_in(inner, nesting + 1)
    elif nesting <= NESTING and isinstance(value, list | tuple):
        for inner in value:
            yield from arrays_in(inner, nesting + 1)
    elif nesting <= NESTING and is_own(value) and hasattr(value, "__dict__"):
        yield from arrays_in(vars(value), nesting + 1)
