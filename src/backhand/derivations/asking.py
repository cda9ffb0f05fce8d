"""Calls somebody's derivation in one reading of its arguments."""

import ast
import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backhand.derivations.binding import Binder
from backhand.derivations.layouts import Draw, Layout, by_name
from backhand.derivations.leaves import Leaf, Resolver, arrays_in, leaves, plain, returned
from backhand.derivations.loading import EndedError, RefusedError, fresh, place, said
from backhand.derivations.question import Question

# How far a call got whose loss stops, or that left no gradient; further than any line of a file.
RAN = 10**6
# What other arguments would not change.
OWN_ERRORS = (
    SystemExit,
    EOFError,
    OSError,
    ImportError,
    ArithmeticError,
    RecursionError,
    NotImplementedError,
)


@dataclass
class Outcome:
    """What one call gave.

    Attributes:
        leaves: every array and number in what was returned, and in what was given.
        loss: the loss that it returned; None where there is none.
        float32: whether it computed in float32.
    """

    leaves: list[Leaf] = field(default_factory=list)
    loss: float | None = None
    float32: bool = False


class _Discard(io.TextIOBase):
    """What is printed is no part of the answer, and may be without end."""

    def write(self, text: str) -> int:
        return len(text)


def ask(
    question: Question, draw: Draw, layout: Layout, penalty: float = 0.0, before: Draw | None = None
) -> Outcome | None:
    """Call the target once, with `before` on another draw first; None where a draw has no targets of the layout's form.

    Raises:
        RefusedError: the file raises, in one line.
    """
    if layout.targets(draw) is None:
        return None
    names = fresh(question.source)
    try:
        with contextlib.redirect_stdout(_Discard()):
            if before is not None and layout.targets(before) is not None:
                _call(question, names, before, layout, penalty)
            value, given, expression = _call(question, names, draw, layout, penalty)
    except RefusedError:
        raise
    except MemoryError as error:
        raise EndedError(f"{place(error, question.source.path)}: it takes more memory than it may") from None
    except (Exception, SystemExit) as error:
        raise RefusedError(*_told(question, error, names), isinstance(error, OWN_ERRORS)) from None
    outcome = Outcome()
    resolve = Resolver(question)
    outcome.leaves = list(leaves(value, "", expression, resolve, 0))
    own = {id(each) for each in arrays_in(value, 0)}
    for label, after in _after(given, names):
        if id(after) not in own:
            outcome.leaves += [Leaf(leaf.label, leaf.value, "given") for leaf in leaves(after, label, None, resolve, 1)]
    try:
        outcome.loss = _own_loss(question, outcome.leaves, names, draw, layout, penalty)
    except (RefusedError, EndedError):
        raise
    except (Exception, SystemExit) as error:
        raise RefusedError(f"loss={question.loss}: {_told(question, error, names)[0]}", RAN) from None
    outcome.float32 = any(leaf.value.dtype == np.float32 for leaf in outcome.leaves)
    return outcome


def _call(
    question: Question, names: dict[str, Any], draw: Draw, layout: Layout, penalty: float
) -> tuple[Any, dict[str, Any], ast.expr | None]:
    """What it returns, what it was given, and the expression that its parts are named by."""
    if question.statements is not None:
        given = dict(by_name(draw, layout))
        names.update(given)
        names.setdefault("np", np)
        value, expression = called(question.statements, names)
        return value, given, expression
    binder = Binder(question, names, draw, layout, penalty)
    return binder.call(), binder.given, returned(question.function)


def called(statements: Sequence[ast.stmt], names: dict[str, Any]) -> tuple[Any, ast.expr]:
    """The value of the last of the statements, and its expression."""
    *before, last = statements
    assert isinstance(last, ast.Expr)
    exec(compile(ast.fix_missing_locations(ast.Module(list(before), [])), "call", "exec"), names)
    return eval(compile(ast.Expression(last.value), "call", "eval"), names), last.value


def _told(question: Question, error: BaseException, names: Mapping[str, Any]) -> tuple[str, int]:
    """The error in one line, and how far it got: the line in the file that it was raised at."""
    where = place(error, question.source.path)
    line = int(where.rpartition(":")[2]) if where.rpartition(":")[2].isdigit() else 0
    hint = ""
    missing = error.name if isinstance(error, NameError) else None
    if missing in question.source.failed:
        hint = f" ({missing}: {question.source.failed[missing]})"
    elif missing in question.source.skipped:
        hint = f" (line {question.source.skipped[missing]}, which defines {missing}, is not executed)"
    if not line and question.call and isinstance(error, NameError | SyntaxError | TypeError | ValueError):
        where = f"call={question.call}"
    return f"{where}: {said(error)}{hint}", line


def _own_loss(
    question: Question, leaves: Sequence[Leaf], names: dict[str, Any], draw: Draw, layout: Layout, penalty: float
) -> float | None:
    """The loss by the user's own words, or what is returned under its name."""
    if question.loss is not None:
        if question.loss_statements is None:
            function = names.get(question.loss)
            if function is None:
                raise EndedError(f"loss={question.loss}: {question.source.path} has no function of that name")
            binder = Binder(question, names, draw, layout, penalty)
            value = function(*binder.arguments(function, question.loss))
        else:
            value, _ = called(question.loss_statements, names)
        value = value[0] if isinstance(value, tuple) else value
        return float(np.asarray(plain(value)).sum())
    numbers = [leaf for leaf in leaves if leaf.value.size == 1 and leaf.value.ndim == 0 and leaf.origin == "returned"]
    for leaf in numbers:
        last = leaf.label.rpartition(".")[2].strip("[]'\"").lower()
        if last in (
            "loss",
            "cost",
            "j",
            "objective",
            "l",
            "total_loss",
            "data_loss",
            "loss_value",
            "costs",
            "nll",
            "losses",
        ):
            return float(leaf.value)
    unnamed = [leaf for leaf in numbers if leaf.label.strip("[]").isdigit() or not leaf.label]
    if len(unnamed) == 1 and any(leaf.value.ndim for leaf in leaves):
        return float(unnamed[0].value)
    return None


def _after(given: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What was given, as it is after the call: globals may have been replaced, arrays changed in place."""
    for name, before in given.items():
        after = names.get(name, before)
        if not isinstance(after, str | int | float | bool) and after is not None:
            yield name, after
