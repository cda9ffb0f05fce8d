"""Gives a function or a method of somebody's file what its signature asks for, by name."""

import ast
import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from backhand.derivations.layouts import FORMS, NUMBERED, Draw, Layout
from backhand.derivations.leaves import has_arrays
from backhand.derivations.loading import RefusedError
from backhand.derivations.names import Meaning, layers_named, meaning, size_meaning, sizes_named
from backhand.derivations.question import Question, keeps_default, texts
from backhand.derivations.templates import template

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
        self.depth = len(draw.W)
        self.known = dict(layout.names)

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
            is_size = known and known.kind == "a" and type(parameter.default) is int
            if is_size and name in self.question.source.functions and "." not in name and not _has_weights(found):
                raise RefusedError(
                    f"{self.question.source.path}: {name} takes {each}={parameter.default}, a number of units, and no "
                    "weights, so it makes its own, which cannot be compared; write its gradients as a function of "
                    "x, y, W1, b1, W2, b2 and name that, or give one in call=…",
                    1,
                )
            parts = self._unpacked(each, definition) if not optional else None
            if parts is None and (known is None or keeps_default(each, optional, known)):
                if not optional:
                    raise RefusedError(self._unknown(name, each, spelled), 1)
                values.append(parameter.default)
                continue
            value = self.value(known, each, definition) if parts is None and known else parts
            self.given[each] = value
            values.append(value)
        return values

    def _meanings(self, spelled: Sequence[str], of_class: bool) -> dict[str, Meaning | None]:
        """What each argument means; a constructor asks for sizes, and two that mean the same mean nothing."""
        sizes = sizes_named(spelled) if of_class else {}
        sizes |= {each: size for each in spelled if of_class and (size := size_meaning(each))}
        found = {each: sizes.get(each) or self._meaning(each, spelled) for each in spelled}
        layered = [(each.kind, each.layer) for each in found.values() if each and each.kind in ("W", "b", "x", "y")]
        return {
            name: None if each and layered.count((each.kind, each.layer)) > 1 else each for name, each in found.items()
        }

    def _meaning(self, name: str, among: Sequence[str]) -> Meaning | None:
        return self.known.get(name) or self.question.meaning_of(name, among, self.depth)

    def value(self, known: Meaning, spelled: str, definition: ast.FunctionDef | None) -> Any:
        """What an argument of this meaning is given."""
        draw, layout = self.draw, self.layout
        layer = (known.layer or 1) - 1
        B, D, *hidden, C = draw.sizes
        match known.kind:
            case "parameters" if layout.form != FORMS[0]:
                return self._held(definition)
            case "weights" if layout.form not in (FORMS[0], *NUMBERED):
                return self._held(definition)
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
                return self._numbered([layout.weight(W, b) for W, b in zip(draw.W, draw.b, strict=True)])
            case "biases":
                return self._numbered([layout.bias_of(b) for b in draw.b if b is not None])
            case "unrolled":
                return self._unrolled()
            case "parameters" | "cache":
                return self._roles(known.kind, definition)
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
        known = self._meaning(name, [*self.question.tokens])
        if known is None or known.kind in ("parameters", "cache"):
            raise KeyError(name)
        return self.value(known, name, None)

    def _unpacked(self, spelled: str, definition: ast.FunctionDef | None) -> list[Any] | None:
        """The values for `(W1, b1), (W2, b2) = parameters` or `x, y = batch`, where the function takes it apart so."""

        def values(target: ast.expr) -> Any:
            if isinstance(target, ast.Tuple | ast.List):
                return [values(each) for each in target.elts]
            return None if ast.unparse(target) == "_" else self._by_name(ast.unparse(target))

        for node in ast.walk(definition) if definition else ():
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id == spelled:
                for target in node.targets:
                    if isinstance(target, ast.Tuple | ast.List):
                        with contextlib.suppress(KeyError):
                            return values(target)
        return None

    def _held(self, definition: ast.FunctionDef | None) -> Any:
        """All parameters in the form of the layout."""
        values = [[self.value(Meaning("W", layer), "", None), self.value(Meaning("b", layer), "", None)]
                  for layer in range(1, self.depth + 1)]  # fmt: skip
        match self.layout.form:
            case "a list of (W, b)":
                return values
            case "a flat list":
                return [each for pair in values for each in pair]
            case "a list of weights":
                return [W for W, _ in values]
        layers = [self._of_layer(layer)._roles("parameters", None) for layer in range(self.depth)]
        if self.layout.form == "layers by name":
            named = layers_named(self.question.own_names(), self.depth)
            return Roles(lambda name: layers[named[name] - 1], sorted(named, key=lambda name: named[name]))
        return self._numbered(layers)

    def _numbered(self, layers: list[Any]) -> Any:
        """What the layers have, as a list or by their numbers."""
        form = self.layout.form
        return dict(enumerate(layers, form == NUMBERED[0])) if form in NUMBERED else layers

    def _of_layer(self, layer: int) -> "Binder":
        """A binder for one layer by itself, whose `W` and `b` need no number."""
        draw = self.draw
        below, z, a = draw.a[layer - 1] if layer else draw.x, draw.z[layer], draw.a[layer]
        one = Draw(below, a, None, (draw.W[layer],), (draw.b[layer],), (z,), (a,))
        return Binder(self.question, self.names, one, self.layout, self.penalty)

    def _instance(self) -> Any:
        """An object of a class of the file's own that has the parameters; None where there is none."""
        for name in self.question.source.classes:
            with contextlib.suppress(Exception):  # it asks for something else
                kind = self.names[name]
                built = kind(*self.arguments(kind, name))
                if self._set_attributes(built):
                    return built
        return None

    def _roles(self, kind: str, definition: ast.FunctionDef | None) -> Any:
        written = texts((*self.question.reached(definition),) or (self.question.source.tree,))
        if kind == "cache":
            names = [
                text
                for text in written
                if (found := meaning(text, self.depth, written)) and found.kind in ("z", "a", "yhat", "x")
            ]
            return Roles(self._by_name, names)
        named: dict[tuple[str, int], str] = {}
        for text in sorted(written):
            found = self._meaning(text, [*written])
            if found and found.kind in ("W", "b") and found.layer:
                named.setdefault((found.kind, found.layer), text)
        if not named and (built := self._instance()) is not None:
            return built
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
                f"say how it is used: {template(self.question, class_name, ())}"
            )
        is_built = "__init__" in kind.__dict__ or issubclass(kind, tuple)
        built = kind(*self.arguments(kind, class_name)) if is_built else kind()
        self.given.clear()
        if not self._set_attributes(built):
            raise RefusedError(
                f"{path}: where {class_name} keeps its weights cannot be told; say it: "
                f"{template(self.question, f'{class_name}.{method}', ())}",
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
        fields = (
            [each.name for each in dataclasses.fields(built) if each.init] if dataclasses.is_dataclass(built) else []
        )
        fields += getattr(built, "_fields", ())
        if any(known.kind == "W" for name in fields if (known := self._meaning(name, fields))):
            return True  # it was built of them
        found = 0
        for name, value in list(vars(built).items()):
            known = self._meaning(name, [*vars(built)])
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
        return found >= 1 or self._set_layers(built)

    def _set_layers(self, built: Any) -> bool:
        """The same for an object whose layers are objects or dictionaries of their own."""
        holders: dict[str, Any] = {}
        for name, value in vars(built).items():
            value = list(value.values()) if isinstance(value, dict) else value
            several = value if isinstance(value, list | tuple) else [value]
            for place, each in enumerate(several):
                entries = each if isinstance(each, dict) else getattr(each, "__dict__", {})
                if any((known := meaning(str(key), 1)) and known.kind == "W" for key in entries):
                    holders[f"{name}{place}" if len(several) > 1 else name] = each
        if len(holders) != self.depth or self.depth == 1:
            return False
        named = layers_named(holders, self.depth) or {name: layer for layer, name in enumerate(holders, 1)}
        for name, each in holders.items():
            binder = self._of_layer(named[name] - 1)
            if not (binder._fill(each) if isinstance(each, dict) else binder._set_attributes(each)):
                return False
        return True

    def _fill(self, entries: dict[Any, Any]) -> int:
        found = 0
        for key in list(entries):
            known = self._meaning(str(key), [*map(str, entries)])
            if known and known.kind in ("W", "b"):
                entries[key] = self.value(known, str(key), None)
                found += known.kind == "W"
        return found


def _has_weights(found: Mapping[str, Meaning | None]) -> bool:
    return any(means.kind in ("W", "weights", "parameters", "unrolled") for means in found.values() if means)


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
