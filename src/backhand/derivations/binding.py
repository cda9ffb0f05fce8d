"""Gives a function or a method of somebody's file what its signature asks for, by name."""

import ast
import contextlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from backhand.derivations.layouts import Draw, Layout
from backhand.derivations.leaves import has_arrays
from backhand.derivations.loading import RefusedError
from backhand.derivations.names import Meaning, meaning, size_meaning
from backhand.derivations.question import Question, keeps_default, template

# The learning rate that is given where one is asked for, and the largest nesting of what is returned.
RATE = 0.1
FORWARD = ("forward", "feedforward", "feed_forward", "predict", "propagate")


class Roles(dict):
    """A dictionary, or an object with attributes, that has what is asked of it by name, such as `W1` or `A2`."""

    def __init__(self, value: Callable[[str], Any], names: Sequence[str]) -> None:
        super().__init__({name: value(name) for name in names})
        self._value = value

    def __missing__(self, key: str) -> Any:
        self[key] = self._value(key)
        return self[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self[name] = value


class Binder:
    """Gives a function what its signature asks for, by name."""

    def __init__(self, question: Question, names: dict[str, Any], draw: Draw, layout: Layout, penalty: float) -> None:
        self.question, self.names, self.draw, self.layout, self.penalty = question, names, draw, layout, penalty
        self.given: dict[str, Any] = {}
        self.depth = question.depth

    def call(self) -> Any:
        """Call the function, or build the object and call its method."""
        name = self.question.name
        if name in self.question.source.classes or "." in name:
            return self._call_method(*(name.split(".") if "." in name else (name, self.question.method)))
        function = self.names.get(name)
        if function is None:
            why = self.question.source.failed.get(name) or "is not executed when the file is loaded"
            raise RefusedError(f"{self.question.source.path}: {name} {why}")
        if not any(
            (found := meaning(each, self.depth)) and found.kind in ("W", "weights", "parameters", "unrolled")
            for each in _parameters(function)
        ):
            self._set_globals()
        return function(*self.arguments(function, name))

    def arguments(self, function: Any, name: str) -> list[Any]:
        """The positional arguments for a function of the file.

        Raises:
            RefusedError: an argument has no known meaning and no default.
        """
        definition = self.question.source.functions.get(name)
        parameters = _parameters(function)
        spelled = list(parameters)
        found = self._meanings(spelled, inspect.isclass(function))
        values: list[Any] = []
        for each, parameter in parameters.items():
            known = found[each]
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                values += self._in_order(found)
                continue
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                continue
            optional = parameter.default is not inspect.Parameter.empty
            if known is None or keeps_default(each, optional, known):
                if not optional:
                    raise RefusedError(self._unknown(name, each, spelled), 1)
                values.append(parameter.default)
                continue
            value = self.value(known, each, definition)
            self.given[each] = value
            values.append(value)
        return values

    def _meanings(self, spelled: Sequence[str], of_class: bool) -> dict[str, Meaning | None]:
        """What each argument means; a constructor asks for sizes, and two that mean the same mean nothing."""
        found = {each: (size_meaning(each) if of_class else None) or self._meaning(each, spelled) for each in spelled}
        if not any(
            each and each.kind in ("W", "weights", "parameters", "unrolled", "cache") for each in found.values()
        ):
            # W_up, b_up, W_down, b_down: the letter tells the kind, and their order the layers, which is said.
            for kind in "Wb":
                some = [
                    each for each in spelled if found[each] is None and re.match(rf"{kind}_\w", each, re.IGNORECASE)
                ]
                if len(some) == self.depth:
                    found |= {each: Meaning(kind, layer) for layer, each in enumerate(some, 1)}
                    self.question.note(f"{', '.join(some)} are taken for {kind}1, {kind}2, …, in this order")
        layered = [(each.kind, each.layer) for each in found.values() if each and each.kind in ("W", "b", "x", "y")]
        return {
            name: None if each and layered.count((each.kind, each.layer)) > 1 else each for name, each in found.items()
        }

    def _meaning(self, name: str, among: Sequence[str]) -> Meaning | None:
        found = meaning(name, self.depth, among)
        kinds = {each: meaning(each, self.depth, among) for each in among}
        have = {each.kind for each in kinds.values() if each}
        if found and found.kind == "yhat" and "y" not in have and name.lower().startswith("out"):
            return Meaning("y")
        if found and found.kind == "yhat" and name == "p" and not have & {"W", "weights", "parameters"}:
            return Meaning("parameters")
        if found and found.kind == "y" and name in ("d", "l") and sum(k.kind == "y" for k in kinds.values() if k) > 1:
            return None
        return found

    def value(self, known: Meaning, spelled: str, definition: ast.FunctionDef | None) -> Any:
        """What an argument of this meaning is given."""
        draw, layout = self.draw, self.layout
        layer = (known.layer or 1) - 1
        B, D, *hidden, C = draw.sizes
        match known.kind:
            case "W":
                return layout.weight(draw.W[layer], draw.b[layer])
            case "b":
                b = draw.b[layer]
                return None if b is None else layout.bias_of(b)
            case "z":
                return layout.sample(draw.z[layer])
            case "a":
                return layout.sample(draw.a[layer])
            case "x":
                return layout.sample(draw.x)
            case "y":
                return layout.targets(draw)
            case "yhat":
                return layout.sample(draw.a[-1])
            case "weights":
                return self._unpacked(spelled, definition) or [
                    layout.weight(W, b) for W, b in zip(draw.W, draw.b, strict=True)
                ]
            case "biases":
                return [layout.bias_of(b) for b in draw.b if b is not None]
            case "unrolled":
                return self._unrolled()
            case "parameters" | "cache":
                return self._unpacked(spelled, definition) or self._roles(known.kind, definition)
        return {
            "samples": B,
            "rate": RATE,
            "penalty": self.penalty,
            "epochs": 1,
            "inputs": D,
            "hiddens": hidden[0] if hidden else C,
            "outputs": C,
            "sizes": [D, *hidden, C],
        }[known.kind]

    def _by_name(self, name: str) -> Any:
        known = meaning(name, self.depth, self.question.tokens())
        if known is None or known.kind in ("parameters", "cache"):
            raise KeyError(name)
        return self.value(known, name, None)

    def _unpacked(self, spelled: str, definition: ast.FunctionDef | None) -> list[Any] | None:
        """The values for `(W1, b1, W2, b2) = parameters`, where the function takes its argument apart so."""
        for node in ast.walk(definition) if definition else ():
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id == spelled:
                for target in node.targets:
                    if isinstance(target, ast.Tuple) and all(isinstance(each, ast.Name) for each in target.elts):
                        return [None if each.id == "_" else self._by_name(each.id) for each in target.elts]  # type: ignore[attr-defined]
        return None

    def _roles(self, kind: str, definition: ast.FunctionDef | None) -> Roles:
        texts = {
            node.value
            for node in ast.walk(definition or self.question.source.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        if kind == "cache":
            names = [
                text
                for text in texts
                if (found := meaning(text, self.depth, texts)) and found.kind in ("z", "a", "yhat", "x")
            ]
            return Roles(self._by_name, names)
        named: dict[tuple[str, int], str] = {}
        for text in sorted(texts):
            found = meaning(text, self.depth, texts)
            if found and found.kind in ("W", "b") and found.layer:
                named.setdefault((found.kind, found.layer), text)
        names = []
        for layer in range(1, self.depth + 1):
            names.append(named.get(("W", layer), f"W{layer}"))
            if self.draw.b[layer - 1] is not None:
                names.append(named.get(("b", layer), f"b{layer}"))
        return Roles(self._by_name, names)

    def _unrolled(self) -> Any:
        parts = []
        for W, b in zip(self.draw.W, self.draw.b, strict=True):
            numpy_layout = Layout(self.layout.samples, self.layout.weights, self.layout.bias, "values", "numpy")
            parts.append(np.ravel(numpy_layout.weight(W, b)))
            if b is not None and not self.layout.folded:
                parts.append(b)
        return self.layout.made(np.concatenate(parts))

    def _in_order(self, found: Mapping[str, Meaning | None]) -> list[Any]:
        """What `*args` is given: the rest of x, y, W_1, b_1, …, in this order."""
        bound = {(each.kind, each.layer) for each in found.values() if each}
        order = [Meaning("x"), Meaning("y")] + [Meaning(k, n) for n in range(1, self.depth + 1) for k in ("W", "b")]
        self.question.note("*args is given x, y, W1, b1, W2, b2, … in this order")
        return [self.value(each, "", None) for each in order if (each.kind, each.layer) not in bound]

    def _unknown(self, name: str, argument: str, spelled: Sequence[str]) -> str:
        return (
            f"{self.question.source.path}: {name} asks for {argument}, whose meaning its name does not tell; "
            f"say how it is called: {template(self.question, name, spelled)}"
        )

    def _set_globals(self) -> None:
        """Give the file's own weights and data, which the function reads as globals, our values."""
        for name in {*self.names, *self.question.source.skipped, *self.question.source.failed}:
            known = meaning(name, self.depth, self.names)
            value = self.names.get(name)
            if known is None or name.startswith("__") or callable(value) or isinstance(value, ModuleType):
                continue
            is_array = hasattr(value, "shape") or isinstance(value, list | dict) or value is None
            if (known.kind in ("W", "b", "x", "y", "weights", "biases", "parameters") and is_array) or (
                known.kind == "samples" and value is None
            ):
                self.names[name] = self.given[name] = self.value(known, name, None)

    def _call_method(self, class_name: str, method: str) -> Any:
        path = self.question.source.path
        kind = self.names.get(class_name)
        if not inspect.isclass(kind):
            raise RefusedError(f"{path}: has no class {class_name}")
        if not method or not hasattr(kind, method):
            raise RefusedError(
                f"{path}: {class_name} has no method {method or 'that is called backward, gradient or the like'}; "
                f"say how it is used: call='n={class_name}(…); n.…'"
            )
        built = kind(*self.arguments(kind, class_name)) if "__init__" in kind.__dict__ else kind()
        self.given.clear()
        if not self._set_attributes(built):
            raise RefusedError(
                f"{path}: where {class_name} keeps its weights cannot be told; say it: "
                f"call='n={class_name}(…); n.W1, n.b1, n.W2, n.b2 = W1, b1, W2, b2; n.{method}(x, y); vars(n)'",
                1,
            )
        bound = getattr(built, method)
        forward = next(
            (
                each
                for word in FORWARD
                for each in vars(kind)
                if each.lower().startswith(word) and callable(getattr(built, each)) and each != method
            ),
            None,
        )
        if forward is not None:  # it may leave what backward reads
            with contextlib.suppress(Exception):
                getattr(built, forward)(*self.arguments(getattr(built, forward), f"{class_name}.{forward}"))
        value = bound(*self.arguments(bound, f"{class_name}.{method}"))
        self.given["n"] = built
        return value if has_arrays(value) else vars(built)

    def _set_attributes(self, built: Any) -> bool:
        """Put our weights where the object keeps its own; False where no place for them is found."""
        found = 0
        for name, value in list(vars(built).items()):
            known = meaning(name, self.depth, vars(built))
            if known is None:
                if isinstance(value, dict):
                    found += self._fill(value)
                continue
            if known.kind in ("W", "b", "weights", "biases") and (known.kind[0] == "W" or not callable(value)):
                setattr(built, name, self.value(known, name, None))
                found += known.kind in ("W", "weights")
            elif isinstance(value, dict):
                found += self._fill(value)
            elif known.kind == "penalty" and isinstance(value, int | float):
                setattr(built, name, self.penalty)
        return found >= 1

    def _fill(self, entries: dict[Any, Any]) -> int:
        found = 0
        for key in list(entries):
            known = meaning(str(key), self.depth, map(str, entries))
            if known and known.kind in ("W", "b"):
                entries[key] = self.value(known, str(key), None)
                found += known.kind == "W"
        return found


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
