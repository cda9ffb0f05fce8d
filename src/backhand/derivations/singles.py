"""Asks about a single operation: finds its two halves, and puts the verdict into the form of a network's."""

import functools
import inspect
import re
from typing import Any

from backhand.derivations import operations
from backhand.derivations.answer import Answer
from backhand.derivations.asking import called
from backhand.derivations.loading import RefusedError, Source, fresh
from backhand.derivations.question import parsed
from backhand.derivations.telling import EVIDENCE, TABLE

# What the name of a derivative has more than that of its function.
_GRADIENT = re.compile(
    r"_?(?:grad(?:ient)?|prime|deriv(?:ative|ated)?|backward|bwd|back|vjp|der|diff|d)$|^(?:grad|d|deriv|der|backward|prime)_?",
    re.I,
)

_SWITCH = re.compile(r"deriv|derivative|prime|grad|gradient|backward", re.IGNORECASE)


def judge_single(source: Source, names: dict[str, Any], name: str, call: str | None) -> Answer:
    """Judge the operation.

    Raises:
        RefusedError: its other half is not found, or it cannot be run.
    """
    try:
        judgement = _judged(source, names, name, call)
    except operations.CannotJudgeError as error:
        raise RefusedError(str(error)) from None
    answer = Answer(
        judgement.status,  # type: ignore[arg-type]
        judgement.headline,
        [judgement.tried] if judgement.tried else [],
    )
    for row in judgement.rows:
        shape, expected = tuple(row["shape"]) if row["shape"] is not None else "", tuple(row["expected"])
        answer.rows.append(
            [
                row["name"],
                f"{shape}" + (f", not {expected}" if shape not in ("", expected) else ""),
                "" if row["error"] is None else f"{row['error']:.1e}",
                "" if row["cosine"] is None else f"{row['cosine']:+.4f}",
                row["said"],
            ]
        )
    answer.sentences = list(judgement.sentences)
    answer.remarks = list(judgement.remarks)
    if judgement.torch_says:
        answer.remarks.append(f"torch.autograd.gradcheck says: {judgement.torch_says}")
    answer.remarks.append(EVIDENCE if judgement.status == "right" else TABLE)
    return answer


def _judged(source: Source, names: dict[str, Any], name: str, call: str | None) -> operations.Judgement:
    if call is not None:
        statements = parsed(call, "call")

        def evaluate(given: dict[str, Any]) -> Any:
            scope = fresh(source)
            scope.update(given)
            return called(statements, scope)[0]

        return operations.judge_call(evaluate, source.path, call)
    target = names[name.partition(".")[0]]
    if inspect.isclass(target):
        if any(f"{each.__module__}.{each.__name__}" == "torch.autograd.function.Function" for each in target.__mro__):
            return operations.judge_function(target, source.path)
        return operations.judge_class(target, source.path)
    if (switch := _switch(target)) is not None:
        derivative: Any = functools.partial(target, **{switch: True})
        derivative.__name__ = target.__name__
        return operations.judge_pair(target, derivative, source.path)
    other = _other_half(source, name)
    if other is None:
        raise RefusedError(
            f"{source.path}: {name} is one half of an operation; its derivative is a function of the file called "
            f"{name}_grad or {name}_backward, or say both: call='({name}(x), …(x))'"
        )
    f, f_grad = other
    return operations.judge_pair(names[f], names[f_grad], source.path)


def is_operation(source: Source, target: Any, name: str) -> bool:
    """Whether a function is one half of an operation, or both halves with a switch between them."""
    if _switch(target) is not None:
        return True
    has_weights = any(re.match(r"[wW]\d?|[tT]heta|params|parameters", each) for each in _parameters(target))
    return not has_weights and _other_half(source, name) is not None


def _switch(target: Any) -> str | None:
    """The argument of `sigmoid(x, deriv=False)` that asks for the derivative."""
    return next(
        (each for each, default in _parameters(target).items() if _SWITCH.match(each) and default is False), None
    )


def _parameters(target: Any) -> dict[str, Any]:
    try:
        return {name: each.default for name, each in inspect.signature(target).parameters.items()}
    except (TypeError, ValueError):
        return {}


def _other_half(source: Source, name: str) -> tuple[str, str] | None:
    """The function and its derivative, by their names."""
    functions = [each for each in source.functions if "." not in each]
    stem = _GRADIENT.sub("", name)
    if stem != name:
        for each in functions:
            if each != name and (each == stem or each in (f"{stem}_forward", f"{stem}_fwd")):
                return each, name
    for each in functions:
        if each != name and _GRADIENT.sub("", each) in (name, re.sub(r"_?(?:forward|fwd)$", "", name)):
            return name, each
    return None
