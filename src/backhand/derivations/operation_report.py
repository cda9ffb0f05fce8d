"""What is told of an operation: the verdict, what is wrong and where, the table, and what was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from backhand.derivations.answer import Answer
from backhand.derivations.operation_arrays import as_given, is_real, reset_random_numbers
from backhand.derivations.operation_calls import FunctionOperation, RaisedError
from backhand.derivations.operation_mistakes import Mistake, explain, hint, line_of, where
from backhand.derivations.operation_shapes import target_place
from backhand.derivations.operation_trials import EXACT, Finding
from backhand.derivations.telling import EVIDENCE

STRAIGHT_THROUGH = (
    "The derivative by {} is zero almost everywhere, and yours passes a gradient through: a straight-through "
    "estimator, if that is meant."
)
OF_IDENTITY = (
    "The forward pass is the identity, and yours changes the gradient of {}: a gradient reversal or a clip, if that is "
    "meant."
)
# The convention of the best known course.
MEAN_TWICE = (
    "The gradients of {} are divided by {}, that of {} is not: right only if {} is the gradient of each sample's own "
    "loss, and the mean over the samples is taken here."
)


def report(findings: Sequence[Finding]) -> Answer:
    """The answer for one right finding, or for the wrong one of which most can be named."""
    said = [(0, say_right(each)) if each.right else say_wrong(each) for each in findings]
    place = min(range(len(said)), key=lambda place: said[place][0])
    finding, answer = findings[place], said[place][1]
    answer.rows = answer.rows or table(finding, {})
    answer.context = [tried(finding)]
    answer.remarks = [*remarks(finding), *torch_verdict(finding), *([EVIDENCE] if answer.status == "right" else [])]
    return answer


def say_right(finding: Finding) -> Answer:
    """The answer for a right operation."""
    main, parameters = finding.trials[0], finding.operation.parameters
    place = target_place(parameters)
    target = None if place is None else parameters[place].name
    names = [name for name in main.gradients if main.returned.gradients.get(name) is not None]
    missing = [
        name
        for name, gradient in main.gradients.items()
        if name not in names and name != target and gradient.x.ndim and not finding.is_flat(name)
    ]
    if missing:
        said = f"Right for {listed(names)}; no gradient for {listed(missing)} is returned."
    elif all(finding.is_flat(name) for name in names):
        said = "Right: the derivative is zero almost everywhere, and so is yours."
    elif finding.operation.reading:
        said = f"Right, if {finding.operation.reading}."
    else:
        said = f"Right: the gradient of {listed(names)} agrees with differences of the forward pass."
    return Answer("right", said)


def say_wrong(finding: Finding) -> tuple[int, Answer]:
    """How much of it has no name, and the answer for a wrong operation."""
    operation, trials, trial = finding.operation, finding.trials, finding.first_wrong
    assert trial is not None
    if trial.error is not None:
        helped = hint(trial.error, operation.backward_function)
        return int(not helped), say_raised(trial.error, helped, where(trial))
    if trial.returned.fault or trial.returned_nothing:
        said = trial.returned.fault or "backward returns None for every input"
        return 0, Answer("wrong", f"Wrong: {said}.", sentences=[f"{said}."])
    names = list(dict.fromkeys(gradient.name for each in trials for gradient in each.wrong))
    if names and all(finding.is_flat(name) for name in names) and depends_on_input(finding):
        return 0, Answer("unjudged", STRAIGHT_THROUGH.format(listed(names)), rows=table(finding, {}, "not 0"))
    if names and finding.is_identity:
        return 0, Answer("unjudged", OF_IDENTITY.format(listed(names)), rows=table(finding, {}, "changed"))
    found = {name: explain(operation, trials, name) for name in names}
    damage = list(dict.fromkeys(text for each in trials for text in each.returned.damage))
    first = next((mistake.said(name) for name, mistake in found.items()), None) or damage[0]
    answer = Answer("wrong", f"Wrong: {first}.", rows=table(finding, found))
    for name, mistake in found.items():
        if (text := f"{mistake.said(name)}{mistake.more}.") in answer.sentences:
            continue
        answer.sentences.append(text)
        if (line := line_of(operation, name)) is not None:
            answer.sentences.append(f"yours: {line[0]}")
            answer.sentences += [f"right: {mistake.mend(line[1])}"] if mistake.mend else []
    answer.sentences += [f"{text}: whoever uses it next gets other numbers; work on a copy." for text in damage]
    data = next(iter(trials[0].gradients))
    divisors = {mistake.divisor for mistake in found.values()}
    if len(found) > 1 and data not in found and len(divisors) == 1 and divisors != {""} and not damage:
        answer.status = "unjudged"
        answer.headline = MEAN_TWICE.format(listed(names), divisors.pop(), data, operation.upstream)
    return sum(not mistake.named for mistake in found.values()), answer


def say_raised(error: RaisedError, helped: str, at: str = "") -> Answer:
    """The answer for a backward that raises."""
    said = f"Wrong: {error.function or 'backward'} raises {error.said.partition(':')[0]}"
    answer = Answer("wrong", said + (f": {helped}." if helped else "."))
    answer.sentences = [f"{at}{error}" + (f" ({helped})." if helped else ".")]
    answer.sentences += [f"yours: {error.line}"] if error.line else []
    return answer


def depends_on_input(finding: Finding) -> bool:
    """Whether the forward pass is not the same number everywhere: it has steps, where its derivative is zero."""
    return bool(np.ptp(np.concatenate([output.ravel() for each in finding.trials for output in each.outputs])) > 0)


def table(finding: Finding, found: Mapping[str, Mistake], differs: str = "wrong") -> list[list[str]]:
    """An input a row, from the trial in which it is wrong, or else from the first one."""
    rows = []
    for name in finding.trials[0].gradients:
        having = [trial.gradients[name] for trial in finding.trials if name in trial.gradients]
        gradient = next((each for each in having if each.is_wrong), having[0])
        shape, expected = None if gradient.found is None else gradient.found.shape, gradient.x.shape
        said = "no gradient is returned" if shape is None else differs if gradient.is_wrong else "right"
        if name in found:
            said = f"wrong: {found[name].short}".replace("wrong: is wrong", "wrong")
        rows.append(
            [
                name,
                "" if shape is None else f"{shape}" if shape == expected else f"{shape}, not {expected}",
                "" if gradient.error is None else f"{gradient.error:.1e}",
                "" if gradient.cosine is None else f"{gradient.cosine:+.4f}",
                said,
            ]
        )
    return rows


def remarks(finding: Finding) -> list[str]:
    """What else was seen."""
    said = [f"{text}: whoever uses it next gets other numbers." for text in finding.trials[0].returned.remarks]
    flavour = finding.operation.flavour
    for name, gradient in finding.trials[0].gradients.items():
        if gradient.fitted is None or gradient.found is None or gradient.is_wrong:
            continue
        if gradient.found.shape != gradient.x.shape:
            said.append(
                f"The gradient of {name} has shape {gradient.found.shape}; PyTorch sums it to {gradient.x.shape} "
                "itself. By hand it must be summed over the dimensions that were broadcast."
            )
        if (gradient.error or 0) > EXACT and flavour != "torch float32":
            said.append(
                f"The gradient of {name} differs by a relative {gradient.error:.0e}: is there a small constant in the "
                "forward pass, as in log(p + 1e-7), that backward leaves out?"
            )
    if flavour == "torch float32":
        said.append("It does not take float64; in float32 only errors above 0.4 % are seen.")
    return said


def tried(finding: Finding) -> str:
    """With which arguments."""
    parts = [
        f"{name} {value.shape}" if isinstance(value, np.ndarray) else f"{name}={value!r}"
        for name, value in zip(finding.operation.names, finding.trials[0].values, strict=False)
    ]
    dtype = "float32" if finding.operation.flavour == "torch float32" else "float64"
    ones = any(1 in trial.sizes.values() for trial in finding.trials)
    notes = "".join(f"; {each}, too" for each in dict.fromkeys(trial.note for trial in finding.trials) if each)
    return f"{', '.join(parts)}; {dtype}" + ("; sizes of one, too" if ones else "") + notes


def torch_verdict(finding: Finding) -> list[str]:
    """What torch's own check says of a Function."""
    operation, main = finding.operation, finding.trials[0]
    if not isinstance(operation, FunctionOperation) or operation.flavour != "torch":
        return []
    given = [as_given(value, "torch") for value in main.values]
    found = main.returned.gradients
    for name, value, argument in zip(operation.names, main.values, given, strict=True):
        if is_real(value):
            argument.requires_grad_(found.get(name) is not None or not found)

    def call(*arguments: Any) -> Any:
        reset_random_numbers(operation.namespace)
        return operation.cls.apply(*(each.clone() if isinstance(each, torch.Tensor) else each for each in arguments))

    said = "passes"
    try:
        with operation.watched():
            torch.autograd.gradcheck(call, given)
    except RaisedError as error:
        said = error.said.partition(", numerical:")[0]
    return [f"torch.autograd.gradcheck says: {said}"]


def listed(names: Sequence[str]) -> str:
    """The names with commas and an "and"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
