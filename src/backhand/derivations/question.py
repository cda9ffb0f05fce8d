"""What is asked: a file, a name in it, how it is called, and what that says of the network."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from backhand.derivations.loading import RefusedError, Source
from backhand.derivations.names import Meaning, meaning

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
        self.statements = parsed(self.call, "call") if self.call else None
        self.function = self.source.functions.get(self.name)
        if self.name in self.source.classes:
            self.method = self._best_method(self.name)
            self.function = self.source.functions.get(f"{self.name}.{self.method}")

    def note(self, text: str) -> None:
        """Have it said how it was called."""
        if text not in self.notes:
            self.notes.append(text)

    def _best_method(self, name: str) -> str:
        own = [each.rpartition(".")[2] for each in self.source.functions if each.startswith(f"{name}.")]
        for word in BACKWARD:
            for each in own:
                if each.lower().startswith(word) or word in each.lower():
                    return each
        return ""

    def tokens(self) -> set[str]:
        """The names and texts by which parameters may be asked for: those of the call, or of the function."""
        nodes: list[ast.AST] = list(self.statements or ([self.function] if self.function else []))
        if self.statements is None and "." in self.name + getattr(self, "method", ""):
            nodes = [self.source.classes[self.name.partition(".")[0]]]
        elif self.statements is None and self.name in self.source.classes:
            nodes = [self.source.classes[self.name]]
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

    def biases(self) -> tuple[bool, ...]:
        """Of each layer, whether it has a bias, by the names that are asked for."""
        tokens = self.tokens()
        if self.statements is not None:
            return tuple(f"b{layer}" in tokens for layer in range(1, self.depth + 1))
        meanings = [meaning(token, self.depth, tokens) for token in tokens]
        arguments = {argument.arg for argument in self.function.args.args} if self.function else tokens
        supplied = any(
            (found := meaning(name, self.depth, arguments)) and found.kind in ("z", "a", "yhat", "cache", "unrolled")
            for name in arguments
        )
        by_letter = self.function is not None and any(re.match(r"[bB]_\w", name) for name in arguments)
        if supplied or by_letter or any(each and each.kind == "biases" for each in meanings):
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


def parsed(text: str, key: str) -> list[ast.stmt]:
    """The statements of one line of Python, the last of which has a value.

    Raises:
        RefusedError: it is no Python, or has no value.
    """
    try:
        statements = ast.parse(text).body
    except SyntaxError as error:
        raise RefusedError(f"{key}={text}: syntax error: {error.msg}") from None
    if not statements or not isinstance(statements[-1], ast.Expr):
        raise RefusedError(f"{key}={text}: must end with a value, such as backward(x, y, W1, b1, W2, b2)")
    return statements


def keeps_default(name: str, optional: bool, means: Meaning) -> bool:
    """Whether an argument with a default is left alone: sizes, and an alpha that may be a slope as well as a rate."""
    kinds = ("samples", "cache", "hiddens", "inputs", "outputs", "sizes")
    return optional and (means.kind in kinds or (means.kind == "rate" and name in ("alpha", "step")))


def template(question: Question, name: str, spelled: Sequence[str]) -> str:
    """A `call=` line to adapt, with what is known of the arguments in its place."""
    function = question.source.functions.get(name)
    if function is not None and function.args.vararg:
        spelled = ["x", "y", *(f"{kind}{layer}" for layer in range(1, question.depth + 1) for kind in "Wb")]
    arguments: list[str] = []
    for each in spelled:
        known = meaning(each, question.depth, spelled)
        told = "…"
        if known and known.kind in ("W", "b", "x", "y"):
            told = f"{known.kind}{known.layer or ''}"
        arguments.append("…" if told in arguments else told)
    return f"call='{name}({', '.join(arguments)})'"
