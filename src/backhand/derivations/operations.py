"""Judges a single operation that somebody brings: its backward is compared with differences of its own forward."""

from __future__ import annotations

import copy
import inspect
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backhand.derivations.operation_calls import (
    BACKWARD,
    FORWARD,
    GRADIENT_NAME,
    CannotJudgeError,
    FunctionOperation,
    Operation,
    PlainOperation,
    RaisedError,
    as_given,
    roles_of,
)
from backhand.derivations.operation_mistakes import hint
from backhand.derivations.operation_report import Finding, Judgement, is_identity, report, say_raised
from backhand.derivations.operation_shapes import (
    NATURAL_TARGETS,
    ONE,
    OTHER_SIZES,
    SIZES,
    SPANS,
    TARGETS,
    Constant,
    Parameter,
    Scene,
    data_place,
    draw_all,
    letters,
    other_defaults,
    parameters_of,
    scenes,
    target_place,
)
from backhand.derivations.operation_trials import EXACT, Trial, run_trial, scan

__all__ = ["CannotJudgeError", "Judgement", "judge_call", "judge_class", "judge_function", "judge_pair"]

MOST_SCENES = 20  # kinds of arguments, as long as nothing fits
TIME = 0.35  # seconds after which no further sizes are tried


def judge_function(cls: Any, path: Path) -> Judgement:
    """Judge a `torch.autograd.Function`, with ctx in forward or with setup_context.

    Raises:
        CannotJudgeError: its forward pass runs with no arguments that were tried.
    """
    return judge([[FunctionOperation(cls, path, flavour)] for flavour in ("torch", "torch float32")])


def judge_class(target: Any, path: Path) -> Judgement:
    """Judge a class, or an instance of one, with a forward and a backward method.

    Raises:
        CannotJudgeError: it has no two such methods, or no arguments were found with which they run.
    """
    cls = target if inspect.isclass(target) else type(target)
    forward = first_method(cls, FORWARD)
    backward = first_method(cls, BACKWARD) or next(
        (each for each in vars(cls) if GRADIENT_NAME.search(each) and not each.startswith("__")), None
    )
    if forward is None or backward is None:
        missing = "forward" if forward is None else "backward"
        raise CannotJudgeError(f"{path}: {cls.__name__} has no {missing} method (or function and gradient)")

    def start(given: Sequence[Any]) -> tuple[Any, Any, Any]:
        instance = target(*given) if cls is target else copy.deepcopy(target)
        return getattr(instance, forward), getattr(instance, backward), instance

    has_constructor = cls is target and cls.__init__ is not object.__init__
    constructor = parameters_of(cls, 0, of_constructor=True) if has_constructor else []
    skip = 0 if isinstance(inspect.getattr_static(cls, forward), staticmethod) else 1
    parameters = constructor + parameters_of(getattr(cls, forward), skip)
    return judge(plain_operations(start, path, parameters, getattr(cls, backward), True))


def first_method(cls: type, names: Sequence[str]) -> str | None:
    """The first of the names that is a method of its own or of a base class; `type` is called, too, but is none."""
    return next((name for name in names if any(name in vars(base) for base in cls.__mro__)), None)


def judge_pair(f: Any, f_grad: Any, path: Path) -> Judgement:
    """Judge two functions: of the input, or the output, or with the upstream gradient or a cache as well.

    Raises:
        CannotJudgeError: no arguments were found with which f runs.
    """
    parameters = parameters_of(f)
    ways = plain_operations(lambda _: (f, f_grad, None), path, parameters, f_grad, False)
    single = one_by_one(f), one_by_one(f_grad), None
    roles = roles_of(f_grad, parameters, False)
    ways.append([PlainOperation(lambda _: single, path, parameters, "numbers", f_grad, each) for each in roles])
    return judge(ways)


def judge_call(evaluate: Callable[[dict[str, Any]], Any], path: Path, text: str | None = None) -> Judgement:
    """Judge a call that returns the value and the gradient for x, and for an upstream gradient if it uses one.

    Args:
        evaluate: called with a dict of x, and of g, dout, grad_output and upstream, which are one array.
        path: the user's file.
        text: the call, which tells whether the upstream gradient is used; without it, results tell.

    Raises:
        CannotJudgeError: it runs with no x that was tried.
    """
    names = re.findall(r"\b(?:g|dout|grad_output|upstream)\b", text or "")
    roles = [(0, "upstream")] if names else [(0,)] if text is not None else [(0,), (0, "upstream")]
    shape: tuple[int, ...] = ()

    def call(x: Any, g: Any) -> tuple[Any, Any]:
        found = evaluate({"x": x, **dict.fromkeys(("g", "dout", "grad_output", "upstream"), g)})
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise CannotJudgeError(f"{path}: the call must return two things, the value and the gradient")
        return found[0], found[1]

    def value(x: Any) -> Any:
        """The value; an upstream gradient of its shape is not known before."""
        nonlocal shape
        own = tuple(getattr(x, "shape", ()))
        shapes = dict.fromkeys([shape, own, (), own[:1], own[1:]])
        for number, shape in enumerate(shapes, 1):
            try:
                return call(x, as_given(np.ones(shape), "torch" if hasattr(x, "detach") else "numpy"))[0]
            except Exception:
                if number == len(shapes):
                    raise
        raise AssertionError

    def gradient(x: Any, grad_output: Any = None) -> Any:
        return call(x, grad_output)[1]

    def operation(flavour: str, its_roles: tuple[Any, ...]) -> Operation:
        pair = value, gradient
        if flavour == "numbers":
            pair = one_by_one(lambda x: call(x, 1.0)[0]), one_by_one(gradient)
        found = PlainOperation(lambda _: (*pair, None), path, [Parameter("x")], flavour, gradient, its_roles)
        found.upstream, found.reading, found.backward_function = (names or ["the incoming gradient"])[0], "", None
        return found

    try:
        return judge([[operation(flavour, each) for each in roles] for flavour in flavours("numbers")])
    except RaisedError as error:
        return say_raised(error, hint(error, None))


def plain_operations(
    start: Callable[[Any], tuple[Any, Any, Any]],
    path: Path,
    parameters: list[Parameter],
    backward: Any,
    is_method: bool,
) -> list[list[PlainOperation]]:
    """The ways to call it: for numpy and torch, each with what backward's arguments may be."""
    roles = roles_of(backward, parameters, is_method)
    return [
        [PlainOperation(start, path, parameters, flavour, backward, each) for each in roles] for flavour in flavours()
    ]


def one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of plain numbers, for arrays."""
    return np.vectorize(function, otypes=[float])


def flavours(*more: str) -> list[str]:
    """What arguments may be made of; torch only where the user's file has imported it."""
    return ["numpy", *(("torch", "torch float32") if "torch" in sys.modules else ()), *more]


def judge(by_flavour: Sequence[Sequence[Operation]]) -> Judgement:
    """The verdict on an operation: of the ways to call it that run, a right one counts."""
    error: RaisedError | CannotJudgeError | None = None
    wrong: list[Finding] = []
    for operations in by_flavour:
        try:
            findings = examine(operations)
        except (RaisedError, CannotJudgeError) as raised:
            error = error or raised
            continue
        if findings[0].right:
            return report(findings[:1])
        wrong += findings
        if not all(finding.trials[0].error for finding in findings):
            break
    if wrong:
        best = min(finding.rank for finding in wrong)
        shown = [finding for finding in wrong if finding.rank == best][:4]
        for finding in shown:
            add_trials(finding)
        return report(shown)
    if isinstance(error, RaisedError) and not any(map(GRADIENT_NAME.search, error.functions[-1:])):
        raise CannotJudgeError(f"{error}, with every shape of the arguments that was tried")
    raise error or CannotJudgeError("there is nothing to call")


def examine(operations: Sequence[Operation]) -> list[Finding]:
    """The findings that count: one right one, or the wrong ones."""
    parameters = operations[0].parameters
    place, data = target_place(parameters), data_place(parameters)
    if place is None or data is None:
        return search(operations, {})
    found: dict[str, list[Finding]] = {}
    error: Exception | None = None
    for kind, data_kind in TARGETS.items():
        if found and kind in ("n", "ncl"):
            break
        try:
            found[kind] = search(operations, {place: kind, data: data_kind}, others=False)
        except (RaisedError, CannotJudgeError) as raised_here:
            error = error or raised_here
    if not found:
        return search(operations, {})
    forms = [found[kind] for kind in found if kind in NATURAL_TARGETS or not set(found) & set(NATURAL_TARGETS)]
    if not all(every[0].right for every in forms) and all(
        any(each.right or is_clipped(each, parameters[data].name) for each in every) for every in forms
    ):
        # A probability: what a clip takes away outside (0, 1) is no mistake.
        fixed = [{place: kind, data: TARGETS[kind]} for kind in found]
        found = {
            kind: search(operations, each, others=False, spans=("unit",))
            for kind, each in zip(found, fixed, strict=True)
        }
    name = parameters[place].name
    other = [findings for kind, findings in found.items() if kind not in NATURAL_TARGETS]
    natural = [found[kind] for kind in NATURAL_TARGETS if kind in found]
    has_gradient = any(findings[0].trials[0].found.get(name) is not None for findings in other)
    if has_gradient or not natural:
        natural = []  # an operand that is called y, or a target of real numbers
    wrong = [finding for findings in natural for finding in findings if not finding.right]
    right = [findings for findings in (other or natural) if findings[0].right]
    if wrong or (not natural and not right):
        return [finding for findings in (*other, *natural) for finding in findings if not finding.right]
    return right[0] if right else natural[0]


def deeper(finding: Finding, data: int | None) -> list[Finding]:
    """What changes nothing on a table, such as a layer that flattens, may on arrays of three dimensions."""
    operation = copy.copy(finding.operation)
    try:
        scene, span = next(running_scenes(operation, {} if data is None else {data: "ncl"}, SPANS))
        found = look(operation, scene, span)
    except (RaisedError, CannotJudgeError):
        return [finding]
    return [finding if found is None else found]


def is_clipped(finding: Finding, name: str) -> bool:
    """Whether it is wrong only outside (0, 1), where the forward pass does not depend on its input."""
    wrong = [trial.gradients[name] for trial in finding.trials if trial.is_wrong and name in trial.gradients]
    return bool(wrong) and all(
        gradient.fitted is not None
        and bool(
            ((np.abs(gradient.x.ravel()[gradient.entries] - 0.5) > 0.5) & (gradient.right == 0))[gradient.off()].all()
        )
        for gradient in wrong
    )


def search(
    operations: Sequence[Operation], fixed: dict[int, Any], others: bool = True, spans: Sequence[str] = SPANS
) -> list[Finding]:
    """Judge with the likeliest shapes, and with others where those do not fit.

    Other shapes acquit only where nothing has to be summed for them; data of fewer dimensions, only where the first
    ones raise an error or a Jacobian is returned; a single column or a square, which hide much, only if nothing fits.
    """
    findings: list[Finding] = []
    hiding: list[Finding] = []
    data = data_place(operations[0].parameters)
    for number, (scene, span) in enumerate(running_scenes(operations[0], fixed, spans)):
        if number and Constant(None) in scene:
            continue
        for reading, operation in enumerate(operations):
            finding = look(copy.copy(operation), scene, span)
            if finding is None:
                continue
            main, first = finding.trials[0], findings[0] if findings else finding
            kind = "" if data is None else scene[data]
            is_alike = data is None or len(first.scene[data]) <= len(kind) or not operation.uses_upstream
            hides = main.has_unknown or (number > 0 and kind in ("d1", "dd"))
            unlikely = 2 if main.misfits or main.was_summed else 3 if number and kind == "dd" else int(hides)
            finding.rank = (unlikely, reading, number)
            if not finding.right:
                findings.append(finding)
            elif hides:
                hiding.append(finding)
            elif number == 0:
                return deeper(finding, data) if others and is_identity(finding) else [finding]
            elif (
                not main.was_summed
                and main.gradients.keys() >= first.trials[0].gradients.keys()
                and (is_alike or first.trials[0].error)
            ):
                return [finding]
        fits = any(finding.rank[0] == 0 and finding.rank[2] == 0 for finding in findings)
        if (findings or hiding) and (not others or number == MOST_SCENES or fits):
            break
    alike = [each for each in findings if data is None or each.scene[data] == findings[0].scene[data]]
    if hiding and all(finding.rank[0] for finding in alike):
        return hiding[:1]
    if not findings:
        raise CannotJudgeError(f"{operations[0].path}: the forward pass has kinks or steps wherever it was tried")
    return findings


def running_scenes(operation: Operation, fixed: dict[int, Any], spans: Sequence[str]) -> Iterator[tuple[Scene, str]]:
    """The kinds of arguments with which the forward pass runs, and the span of numbers that it takes.

    Raises:
        RaisedError: it runs with none; what it raised first.
    """
    first: RaisedError | CannotJudgeError | None = None
    runs = False
    for scene in scenes(operation.parameters, fixed):
        for span in spans:
            try:
                outputs = [operation.flat(draw_all(scene, SIZES, seed, span)) for seed in (0, 1)]
            except (RaisedError, CannotJudgeError) as error:
                first = first or error
                break
            if all(output.size and np.isfinite(output).all() for output in outputs):
                runs = True
                yield scene, span
                break
    if not runs:
        raise first or CannotJudgeError(
            f"{operation.path}: the forward pass returned NaN for everything that was tried"
        )


def look(operation: Operation, scene: Scene, span: str) -> Finding | None:
    """Compare the gradients, of what is right on several draws and sizes; None where differences cannot be trusted."""
    main = run_trial(operation, scene, SIZES, span, 0)
    if not operation.inputs(main.values) and not main.error:
        raise CannotJudgeError(f"{operation.path}: no argument of the forward pass is an array of real numbers")
    if not main.usable or not (main.gradients or main.error):
        return None
    finding = Finding(operation, scene, span, [main])
    if finding.right:
        add_trials(finding)
    return finding


def add_trials(finding: Finding) -> None:
    """Try more values and sizes: for what is right till then, and to name what is wrong."""
    start = time.monotonic()
    operation, scene, span, main = finding.operation, finding.scene, finding.span, finding.trials[0]
    if main.misfits or len(finding.trials) > 1:
        return
    real = list(operation.inputs(main.values).items())
    if len(real) == 1 and real[0][0] in main.gradients and main.gradients[real[0][0]].slope is not None:
        scanned = scan(operation, main, *real[0], span)
        finding.trials += [scanned] if scanned is not None else []
    parameters = operation.parameters
    absent = tuple(
        Constant(None) if each.default is None and isinstance(kind, str) else kind
        for kind, each in zip(scene, parameters, strict=True)
    )
    ones = [letter for letter in letters(scene) if letter in ONE]
    draws = [(scene, {**SIZES, letter: 1}, span) for letter in ones]
    draws += [(scene, {**SIZES, **dict.fromkeys(ones, 1)}, span)] if len(ones) > 1 else []
    draws += [(each, SIZES, span) for each in (other_defaults(scene, parameters), absent) if each != scene]
    draws += [(scene, OTHER_SIZES, span), (scene, SIZES, span)]
    draws += [(scene, SIZES, "wide")] if span == "real" and is_exact(main) else []
    for seed, (its_scene, sizes, its_span) in enumerate(draws, 1):
        if time.monotonic() - start > TIME and sizes is SIZES and its_scene is scene:
            break  # only more of the same is left
        if its_scene is not scene and its_scene != absent and not operation.knows_defaults:
            continue
        trial = run_trial(copy.copy(operation), its_scene, sizes, its_span, seed)
        names = zip(operation.names, its_scene, scene, strict=False)
        changed = [f"{name}={mine.value:.4g}" if mine.value else name for name, mine, old in names if mine != old]
        trial.note = f"{'without' if its_scene is absent else 'with'} {' and '.join(changed)}" if changed else ""
        if trial.usable:
            finding.trials.append(trial)


def is_exact(trial: Trial) -> bool:
    """Whether nothing differs by more than rounding."""
    return all((gradient.error or 0) < EXACT for gradient in trial.gradients.values())
