"""What is asked: a file, a name in it, how it is called, and what that says of the network."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from backhand.derivations.layouts import FORMS, NUMBERED
from backhand.derivations.loading import RefusedError, Source
from backhand.derivations.names import Meaning, assignments, meaning, size_meaning

# Capitals that are numbers of units where all of them are asked for; one by itself may be a target or a hidden layer.
SIZES = ("D", "H", "C")
BACKWARD = (
    "backward",
    "backprop",
    "back_prop",
    "gradient",
    "grad",
    "manual",
    "train_step",
    "step",
    "loss",
    "update",
    "train",
    "fit",
)


@dataclass
class Question:
    """What is asked: a file, a name in it, and how it is called.

    Attributes:
        source: the file.
        name: a function, a class or `Class.method`; empty where `call` says all.
        call: one line of Python, or None.
        loss: the name of a function, or an expression, that gives the loss; or None.
        depth: the layers of the network.
        notes: what is to be said of how it was called.
    """

    source: Source
    name: str
    call: str | None
    loss: str | None
    depth: int
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.statements = parsed(self.call, "call") if self.call is not None else None
        is_name = self.loss is None or all(part.isidentifier() for part in self.loss.split("."))
        self.loss_statements = None if is_name else parsed(self.loss or "", "loss")
        self.function = self.source.functions.get(self.name)
        if self.name in self.source.classes:
            self.method = self.best_method(self.name)
            self.function = self.source.functions.get(f"{self.name}.{self.method}")

    def note(self, text: str) -> None:
        """Have it said how it was called."""
        if text not in self.notes:
            self.notes.append(text)

    def best_method(self, name: str) -> str:
        """The method of a class that looks most like a backward pass; empty where none does."""
        own = [each.rpartition(".")[2] for each in self.source.functions if each.startswith(f"{name}.")]
        for word in BACKWARD:
            for each in own:
                if each.lower().startswith(word) or word in each.lower():
                    return each
        return ""

    @cached_property
    def tokens(self) -> set[str]:
        """The names and texts by which parameters may be asked for: those of the call, or of the function."""
        nodes: list[ast.AST] = list(self.statements or self.reached(self.function))
        if self.statements is None and (whole := self.source.classes.get(self.name.partition(".")[0])):
            used = {node.id for node in ast.walk(whole) if isinstance(node, ast.Name)}
            nodes = [whole, *(node for name, node in self.source.classes.items() if name in used)]
        found: set[str] = set()
        for node in nodes:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Name):
                    found.add(inner.id)
                elif isinstance(inner, ast.arg):
                    found.add(inner.arg)
                elif isinstance(inner, ast.Attribute):
                    found.add(inner.attr)
                elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    found.add(inner.value)
        return found

    @property
    def layers(self) -> int:
        """The layers that have weights by name, such as W1, W2 and W3; 0 where none is named."""
        for depth in range(9, 0, -1):
            found = [meaning(token, depth, self.tokens) for token in self.tokens]
            if {each.layer for each in found if each and each.kind == "W"} == set(range(1, depth + 1)):
                return depth
        return 0

    def reached(self, function: ast.FunctionDef | None) -> list[ast.FunctionDef]:
        """The function; where it is given all parameters in one argument, the file's functions that it calls, too."""
        found = [function] if function else []
        for each in found if self._holders else ():
            called = {node.id for node in ast.walk(each) if isinstance(node, ast.Name)} & set(self.source.functions)
            found += [
                self.source.functions[name] for name in sorted(called) if self.source.functions[name] not in found
            ]
        return found

    def meaning_of(self, name: str, among: Sequence[str], depth: int) -> Meaning | None:
        """What an argument means beside the others."""
        if name in SIZES and set(SIZES) <= set(among):
            return size_meaning(name)
        found = meaning(name, depth, among)
        kinds = [each.kind for other in among if (each := meaning(other, depth, among))]
        weights = {"W", "weights", "parameters"} & {*kinds}
        if found and found.kind == "yhat" and "y" not in kinds and name.lower().startswith("out"):
            return Meaning("y")
        if found and not weights and (found.kind == "sizes" or name == "p"):
            return Meaning("parameters")  # `layers` that a backward pass is given are no sizes
        if found and found.kind == "parameters" and self._is_reshaped(name):
            return Meaning("unrolled")
        if found and name in ("d", "l", "r", "tau", "count", "xi") and kinds.count(found.kind) > 1:
            return None
        return found

    def _is_reshaped(self, name: str) -> bool:
        """Whether the function gives slices of it a shape, as of a vector: `theta[:D * H].reshape(D, H)`."""
        for node in ast.walk(self.function) if self.function else ():
            match node:
                case (
                    ast.Call(func=ast.Attribute(value=part, attr="reshape" | "view"))
                    | ast.Call(func=ast.Attribute(attr="reshape"), args=[part, *_])
                ) if isinstance(part, ast.Subscript) and ast.unparse(part.value) == name:
                    return isinstance(part.slice, ast.Slice)
        return False

    def ways(self) -> Iterator[dict[str, Any]]:
        """The ways in which parameters may be named and held, as fields of a layout, the usual one first."""
        if self.statements is not None:
            yield {"thresholds": self.has_thresholds({})}
            return
        for names in list(assignments(self.own_names(), self.depth)) or [{}]:
            yield {"names": tuple(names.items()), "thresholds": self.has_thresholds(names)}
        for form in FORMS[1:] if self._holders else NUMBERED if "weights" in self._kinds.values() else ():
            yield {"form": form, "thresholds": self.has_thresholds({})}

    @cached_property
    def _kinds(self) -> dict[str, str]:
        """What the arguments are, those with a meaning."""
        spelled = [each.arg for each in self.function.args.args] if self.function else []
        found = {each: self.meaning_of(each, spelled, self.depth) for each in spelled}
        return {each: means.kind for each, means in found.items() if means}

    @property
    def is_given_forward(self) -> bool:
        """Whether it asks for what the forward pass computes."""
        return bool({"z", "a", "yhat", "cache"} & set(self._kinds.values()))

    @cached_property
    def _holders(self) -> list[str]:
        """The arguments that hold all parameters."""
        kinds = self._kinds
        holding = {"parameters"} if "biases" in kinds.values() else {"parameters", "weights"}
        return [each for each, kind in kinds.items() if kind in holding and each not in "wW"]

    def own_names(self) -> list[str]:
        """The names that parameters may have: arguments, attributes of the object, keys of what holds them."""
        owners, scope = self._holders, self.function
        if whole := self.source.classes.get(self.name.partition(".")[0]):
            fields = [ast.unparse(node.target) for node in whole.body if isinstance(node, ast.AnnAssign)]
            if fields:
                return fields
            owners, scope = ["self"], self.source.functions.get(f"{whole.name}.__init__")
        elif scope and not owners:
            spelled = [each.arg for each in scope.args.args]
            is_vector = "unrolled" in self._kinds.values()
            return [] if is_vector else [each for each in spelled if each not in self._data(spelled)]
        found: dict[str, None] = {}
        for node in ast.walk(scope) if scope else ():
            match node:
                case (
                    ast.Attribute(value=ast.Name(id=owner), attr=name)
                    | ast.Subscript(value=ast.Name(id=owner), slice=ast.Constant(value=str(name)))
                ) if owner in owners:
                    found[name] = None
                case ast.Assign(targets=[ast.Tuple() as taken], value=ast.Name(id=owner)) if owner in owners:
                    found |= {each.id: None for each in ast.walk(taken) if isinstance(each, ast.Name)}
        return list(found)

    def _data(self, spelled: Sequence[str]) -> list[str]:
        """The arguments for x and y; where several names may mean one, it is the longer or usual one."""
        found = {each: meaning(each, self.depth, spelled) for each in spelled if each not in "vV"}
        some = [[each for each, means in found.items() if means and means.kind == kind] for kind in "xy"]
        return [min(each, key=lambda name: len(name) == 1 and name not in "xXyYtT") for each in some if each]

    def has_thresholds(self, names: Mapping[str, Meaning]) -> bool:
        """Whether biases are subtracted from the products that they belong to, as in `x @ W - theta`."""
        biases = {name for name, means in names.items() if means.kind == "b"} | self._given_biases()
        signs: set[type[ast.operator]] = set()
        among = [node.arg for node in ast.walk(self.source.tree) if isinstance(node, ast.arg)]
        for node in ast.walk(self.source.tree):
            if isinstance(node, ast.BinOp) and is_product(node.left):
                name = ast.unparse(node.right).rpartition(".")[2]
                found = meaning(name, self.depth, among) if name.isidentifier() else None
                if name in biases or (found and found.kind in ("b", "biases")):
                    signs.add(type(node.op))
        return signs == {ast.Sub}

    def _given_biases(self) -> set[str]:
        """The names under which a call hands its biases over, as in `n.theta = b1`."""
        found: set[str] = set()
        for node in (inner for each in self.statements or () for inner in ast.walk(each)):
            pairs: list[tuple[str, ast.expr]] = []
            match node:
                case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                    pairs = [(ast.unparse(target), value) for target, value in zip(targets, values, strict=False)]
                case ast.Assign(targets=[target], value=value):
                    pairs = [(ast.unparse(target), value)]
                case ast.Call(func=ast.Name(id=called), args=values):
                    function = self.source.functions.get(called)
                    spelled = [each.arg for each in function.args.args] if function else []
                    pairs = [*zip(spelled, values, strict=False)]
                    pairs += [(each.arg or "", each.value) for each in node.keywords]
            for name, value in pairs:
                if isinstance(value, ast.Name) and re.fullmatch(r"b\d", value.id):
                    found.add(name.rpartition(".")[2])
        return found

    def biases(self, way: Mapping[str, Any]) -> tuple[bool, ...]:
        """Of each layer, whether it has a bias, by the names that are asked for in this way."""
        tokens = self.tokens
        if "form" in way and self._holders:
            return (way["form"] != "a list of weights",) * self.depth
        if way.get("names"):
            return (any(means.kind == "b" for _, means in way["names"]),) * self.depth
        if self.statements is not None:
            return tuple(f"b{layer}" in tokens for layer in range(1, self.depth + 1))
        meanings = [meaning(token, self.depth, tokens) for token in tokens]
        arguments = {argument.arg for argument in self.function.args.args} if self.function else tokens
        supplied = any(
            (found := meaning(name, self.depth, arguments)) and found.kind in ("z", "a", "yhat", "cache", "unrolled")
            for name in arguments
        )
        if supplied or any(each and each.kind == "biases" for each in meanings):
            return (True,) * self.depth
        if self.function and (self.function.args.vararg or self.function.args.kwarg):
            return (True,) * self.depth
        if self.function is None:
            return (True,) * self.depth
        return tuple(
            any(each and each.kind == "b" and each.layer == layer for each in meanings)
            for layer in range(1, self.depth + 1)
        )

    def has_argument(self, kind: str) -> bool:
        """Whether the function asks for something of this kind, such as `penalty`, and is given it."""
        if self.function is None or self.statements is not None:
            return False
        names = [argument.arg for argument in (*self.function.args.args, *self.function.args.kwonlyargs)]
        optional = set(names[len(names) - len(self.function.args.defaults) :]) if self.function.args.defaults else set()
        meanings = {name: meaning(name, self.depth, names) for name in names}
        return any(
            means is not None and means.kind == kind and not keeps_default(name, name in optional, means)
            for name, means in meanings.items()
        )

    @property
    def penalty_left_out(self) -> str:
        """The argument of a penalty that keeps its default in what is called; empty where there is none."""
        if self.has_argument("penalty"):
            return ""
        called = {self.name, f"{self.name}.__init__", f"{self.name.partition('.')[0]}.__init__"}
        if self.statements is not None:
            called = {
                name for name in self.source.functions if {*name.removesuffix(".__init__").split(".")} & self.tokens
            }
        for name in sorted(called & self.source.functions.keys()):
            arguments = self.source.functions[name].args
            names = [each.arg for each in (*arguments.args, *arguments.kwonlyargs)]
            optional = [each.arg for each in arguments.args][len(arguments.args) - len(arguments.defaults) :]
            keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            for each in (*optional, *(each.arg for each, default in keywords if default is not None)):
                means = meaning(each, self.depth, names)
                if means is not None and means.kind == "penalty" and each not in (self.call or ""):
                    return each
        return ""


@cache
def texts(scopes: tuple[ast.AST, ...]) -> frozenset[str]:
    """Every text that is written in them."""
    nodes = (node for scope in scopes for node in ast.walk(scope))
    return frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def is_product(expression: ast.AST) -> bool:
    """Whether it is a matrix product."""
    match expression:
        case ast.BinOp(op=ast.MatMult()):
            return True
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name in ("dot", "matmul", "mm", "einsum", "inner")
    return False


def parsed(text: str, key: str) -> list[ast.stmt]:
    """The statements of one line of Python, the last of which has a value.

    Raises:
        RefusedError: it is no Python, or has no value.
    """
    try:
        statements = ast.parse(text).body
    except SyntaxError as error:
        raise RefusedError(f"{key}={text}: syntax error: {error.msg}") from None
    if not statements or not isinstance(statements[-1], ast.Expr) or isinstance(statements[-1].value, ast.Constant):
        example = "loss(x, y, W1, b1, W2, b2)" if key == "loss" else "backward(x, y, W1, b1, W2, b2)"
        raise RefusedError(f"{key}={text}: must be Python that ends with a value, such as {example}, without quotes")
    return statements


def keeps_default(name: str, optional: bool, means: Meaning) -> bool:
    """Whether an argument with a default is left alone: sizes, and an alpha that may be a slope as well as a rate.

    A batch size is none of them: with a smaller one than the batch several steps would be taken for one.
    """
    kinds = ("cache", "hiddens", "inputs", "outputs", "sizes")
    return optional and (means.kind in kinds or (means.kind == "rate" and name in ("alpha", "step")))
