"""Judges a single operation: its backward is compared with differences of its own forward, in all ways to call it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from backhand.derivations.answer import Answer
from backhand.derivations.loading import RefusedError
from backhand.derivations.operation_calls import Operation, RaisedError
from backhand.derivations.operation_names import GRADIENT_NAME, Constant
from backhand.derivations.operation_report import report
from backhand.derivations.operation_shapes import (
    MANY,
    NATURAL_TARGETS,
    ONE,
    OTHER_SIZES,
    SIZES,
    SPANS,
    TARGETS,
    Scene,
    data_place,
    draw_all,
    letters,
    other_defaults,
    scenes,
    target_place,
)
from backhand.derivations.operation_trials import EXACT, Finding, run_trial

MOST_SCENES = 20  # kinds of arguments, as long as nothing fits


def judge(by_flavour: Sequence[Sequence[Operation]]) -> Answer:
    """The verdict on an operation: of the ways to call it that run, a right one counts.

    Args:
        by_flavour: for each kind of arrays, an operation for each reading of backward's arguments.

    Raises:
        RefusedError: the forward pass runs with no arguments that were tried.
    """
    refusal: RefusedError | None = None
    wrong: list[Finding] = []
    for ways in filter(None, by_flavour):
        try:
            findings = examine(ways)
        except RefusedError as error:
            refusal = refusal or error
            continue
        if findings[0].right:
            return report(findings[:1])
        wrong += findings
        if not all(finding.trials[0].error for finding in findings):
            break
    if isinstance(refusal, RaisedError) and not wrong and not GRADIENT_NAME.search(refusal.function):
        raise RefusedError(f"{refusal}, with every shape of the arguments that was tried")
    if not wrong:
        raise refusal or RefusedError("the arguments of backward have no reading")
    best = min(finding.rank for finding in wrong)
    shown = [finding for finding in wrong if finding.rank == best][:4]
    for finding in shown:
        add_trials(finding)
    return report(shown)


def examine(ways: Sequence[Operation]) -> list[Finding]:
    """The findings that count: one right one, or the wrong ones.

    A loss is asked with one-hot rows, labels and real numbers for its target. Where it takes rows and labels, both must
    be right; targets of real numbers count if it has a gradient for them, or takes nothing else.
    """
    parameters = ways[0].parameters
    place, data = target_place(parameters), data_place(parameters)
    if place is None or data is None:
        return search(ways, {})
    found = with_targets(ways, place, data, SPANS)
    if not found:
        return search(ways, {})
    forms = [found[kind] for kind in NATURAL_TARGETS if kind in found] or list(found.values())
    name = parameters[data].name
    if not all(every[0].right for every in forms) and all(
        any(each.right or is_clipped(each, name) for each in every) for every in forms
    ):
        # A probability: what a clip takes away outside (0, 1) is no mistake.
        found = with_targets(ways, place, data, ("unit",))
    natural = [found[kind] for kind in NATURAL_TARGETS if kind in found]
    other = [findings for kind, findings in found.items() if kind not in NATURAL_TARGETS]
    target = parameters[place].name
    if any(findings[0].trials[0].returned.gradients.get(target) is not None for findings in other):
        natural = []
    every = [*other, *natural]
    counting = natural or other
    right = [findings for findings in counting if findings[0].right]
    if right and (not natural or len(right) == len(natural)):
        return next((findings for findings in other if findings[0].right), right[0])
    return [finding for findings in every for finding in findings if not finding.right]


def with_targets(ways: Sequence[Operation], place: int, data: int, spans: Sequence[str]) -> dict[str, list[Finding]]:
    """The findings for each kind of target that the forward pass takes."""
    found: dict[str, list[Finding]] = {}
    for kind, data_kind in TARGETS.items():
        if found and kind in ("n", "ncl"):
            break
        with contextlib.suppress(RefusedError):
            found[kind] = search(ways, {place: kind, data: data_kind}, others=False, spans=spans)
    return found


def is_clipped(finding: Finding, name: str) -> bool:
    """Whether it is wrong only outside (0, 1), where the forward pass does not depend on its input."""
    wrong = [trial.gradients[name] for trial in finding.trials if trial.is_wrong and name in trial.gradients]
    for gradient in wrong:
        outside = np.abs(gradient.x.ravel()[gradient.entries] - 0.5) > 0.5
        if gradient.fitted is None or not (outside & (gradient.right == 0))[gradient.off()].all():
            return False
    return bool(wrong)


def search(
    ways: Sequence[Operation], fixed: dict[int, Any], others: bool = True, spans: Sequence[str] = SPANS
) -> list[Finding]:
    """Judge with the likeliest shapes, and with others where those do not fit.

    Other shapes acquit only where nothing has to be summed for them; data of fewer dimensions, only where the first
    ones raise an error or a Jacobian is returned; a single column or a square, which hide much, only if nothing fits.
    """
    findings: list[Finding] = []
    hiding: list[Finding] = []
    data = data_place(ways[0].parameters)
    for number, (scene, span) in enumerate(running_scenes(ways[0], fixed, spans)):
        if number and Constant(None) in scene:
            continue
        kind = "" if data is None else scene[data]
        for reading, operation in enumerate(ways):
            finding = look(copy.copy(operation), scene, span)
            if finding is None:
                continue
            main, first = finding.trials[0], findings[0] if findings else finding
            hides = main.returned.has_unknown or (number > 0 and kind in ("d1", "dd"))
            unlikely = 2 if main.misfits or main.was_summed else 3 if number and kind == "dd" else int(hides)
            finding.rank = (unlikely, reading, number)
            is_alike = data is None or len(first.scene[data]) <= len(kind) or not operation.uses_upstream
            if not finding.right:
                findings.append(finding)
            elif hides:
                hiding.append(finding)
            elif number == 0:
                return [deeper(finding, data) if others and finding.is_identity else finding]
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
        raise RefusedError(f"{ways[0].path}: the forward pass has kinks or steps wherever it was tried")
    return findings


def deeper(finding: Finding, data: int | None) -> Finding:
    """What changes nothing on a table, such as a layer that flattens, may on arrays of three dimensions."""
    operation = copy.copy(finding.operation)
    with contextlib.suppress(RefusedError):
        scene, span = next(running_scenes(operation, {} if data is None else {data: "ncl"}, SPANS))
        return look(operation, scene, span) or finding
    return finding


def running_scenes(operation: Operation, fixed: dict[int, Any], spans: Sequence[str]) -> Iterator[tuple[Scene, str]]:
    """The kinds of arguments with which the forward pass runs, and the span of numbers that it takes.

    Raises:
        RefusedError: it runs with none; what it raised first.
    """
    first: RefusedError | None = None
    runs = False
    for scene in scenes(operation.parameters, fixed):
        for span in spans:
            try:
                outputs = [operation.flat(draw_all(scene, SIZES, seed, span)) for seed in (0, 1)]
            except RefusedError as error:
                first = first or error
                break
            if all(output.size and np.isfinite(output).all() for output in outputs):
                runs = True
                yield scene, span
                break
    if not runs:
        raise first or RefusedError(f"{operation.path}: the forward pass returned NaN for everything that was tried")


def look(operation: Operation, scene: Scene, span: str) -> Finding | None:
    """Compare the gradients, of what is right on several draws and sizes; None where differences cannot be trusted."""
    main = run_trial(operation, scene, SIZES, span, 0)
    if main is None:
        return None
    if not operation.inputs(main.values) and not main.error:
        raise RefusedError(f"{operation.path}: no argument of the forward pass is an array of real numbers")
    finding = Finding(operation, scene, span, [main])
    if finding.right:
        add_trials(finding)
    return finding


def add_trials(finding: Finding) -> None:
    """Try more values and sizes: for what is right till then, and to name what is wrong."""
    operation, scene, span, main = finding.operation, finding.scene, finding.span, finding.trials[0]
    if main.misfits or len(finding.trials) > 1:
        return
    wide = "wide" if span == "real" else span
    if len(main.gradients) == 1 and all(each.slope is not None for each in main.gradients.values()):
        many = run_trial(copy.copy(operation), scene, {**SIZES, "n": MANY}, wide, 99, elementwise=True)
        finding.trials += [many] if many else []
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
    # Far numbers are for what is exact: of a small constant in a logarithm they would make a mistake.
    is_exact = all((gradient.error or 0) < EXACT for gradient in main.gradients.values())
    draws += [(scene, SIZES, wide)] if wide != span and is_exact else []
    for seed, (its_scene, sizes, its_span) in enumerate(draws, 1):
        if its_scene is not scene and its_scene != absent and not operation.knows_defaults:
            continue
        names = zip(operation.names, its_scene, scene, strict=False)
        changed = [f"{name}={mine.value:.4g}" if mine.value else name for name, mine, old in names if mine != old]
        note = f"{'without' if its_scene is absent else 'with'} {' and '.join(changed)}" if changed else ""
        trial = run_trial(copy.copy(operation), its_scene, sizes, its_span, seed, note)
        finding.trials += [trial] if trial else []
