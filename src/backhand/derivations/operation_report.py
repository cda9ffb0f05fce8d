"""What is said of an operation: the verdict, what is wrong and where, the table, and what was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backhand.derivations.operation_calls import (
    FunctionOperation,
    Operation,
    RaisedError,
    as_given,
    is_real,
    reset_random_numbers,
)
from backhand.derivations.operation_mistakes import Mistake, explain, hint, line_of, where
from backhand.derivations.operation_shapes import Scene, target_place
from backhand.derivations.operation_trials import EXACT, Trial

STRAIGHT_THROUGH = (
    "The derivative by {} is zero almost everywhere, and yours passes a gradient through: a straight-through "
    "estimator, if that is meant."
)
OF_IDENTITY = (
    "The forward pass is the identity, and yours changes the gradient of {}: a gradient reversal or a clip, if that is "
    "meant."
)
MEAN_TWICE = (
    "The gradients of {} are divided by {}, that of {} is not: right only if {} is the gradient of each sample's own "
    "loss, and the mean over the samples is taken here."
)


@dataclass
class Judgement:
    """What is said of an operation; plain data."""

    status: str  # right, wrong or unjudged
    headline: str
    rows: list[dict[str, Any]] = field(default_factory=list)  # name, shape, expected, error, cosine, said
    sentences: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    tried: str = ""
    torch_says: str | None = None


@dataclass
class Finding:
    """An operation, called in one way with one kind of arguments."""

    operation: Operation
    scene: Scene
    span: str
    trials: list[Trial]
    rank: tuple[int, int, int] = (
        0,
        0,
        0,
    )  # how unlikely the shapes are, the reading of backward's arguments, the scene

    @property
    def first_wrong(self) -> Trial | None:
        return next((trial for trial in self.trials if trial.is_wrong), None)

    @property
    def right(self) -> bool:
        return self.first_wrong is None

    def is_flat(self, name: str) -> bool:
        """Whether the derivative is zero wherever it was tried."""
        return all(trial.gradients[name].is_flat for trial in self.trials if name in trial.gradients)


def report(findings: Sequence[Finding]) -> Judgement:
    """The judgement on one right finding, or on the wrong one of which most can be named."""
    said = [say_right(each) if each.right else say_wrong(each) for each in findings]
    place = min(range(len(said)), key=lambda place: said[place][0])
    finding, judgement = findings[place], said[place][1]
    judgement.rows = judgement.rows or table(finding, {})
    judgement.remarks, judgement.tried = remarks(finding), tried(finding)
    judgement.torch_says = torch_verdict(finding)
    return judgement


def say_right(finding: Finding) -> tuple[int, Judgement]:
    """The judgement on a right operation."""
    main, place = finding.trials[0], target_place(finding.operation.parameters)
    target = None if place is None else finding.operation.parameters[place].name
    names = [name for name in main.gradients if main.found.get(name) is not None]
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
    return 0, Judgement("right", said)


def say_wrong(finding: Finding) -> tuple[int, Judgement]:
    """How much of it has no name, and the judgement on a wrong operation."""
    operation, trials = finding.operation, finding.trials
    trial = finding.first_wrong
    assert trial is not None
    if trial.error is not None:
        helped = hint(trial.error, operation)
        return int(not helped), say_raised(trial.error, helped, where(trial))
    if trial.fault or all(each is None for each in trial.found.values()):
        said = trial.fault or "backward returns None for every input"
        return 0, Judgement("wrong", f"Wrong: {said}.", sentences=[f"{said}."])
    names = list(dict.fromkeys(gradient.name for each in trials for gradient in each.wrong))
    if names and all(finding.is_flat(name) for name in names) and depends_on_input(finding):
        return 0, Judgement("unjudged", STRAIGHT_THROUGH.format(listed(names)), table(finding, {}, "not 0"))
    if names and is_identity(finding):
        return 0, Judgement("unjudged", OF_IDENTITY.format(listed(names)), table(finding, {}, "changed"))
    found = {name: explain(operation, trials, name) for name in names}
    damage = list(dict.fromkeys(text for each in trials for text in each.damage))
    sentences = []
    for name, mistake in found.items():
        said = f"{mistake.text}."
        if said not in sentences:
            sentences += [said, *lines(operation, name, mistake)]
    sentences += [f"{text}: whoever uses it next gets other numbers; work on a copy." for text in damage]
    judgement = Judgement(
        "wrong", f"Wrong: {headline(operation, found) or damage[0]}.", table(finding, found), sentences
    )
    data = next(iter(trials[0].gradients))
    divisors = {mistake.divisor for mistake in found.values()}
    if len(found) > 1 and data not in found and len(divisors) == 1 and divisors != {""} and not damage:
        # The convention of the best known course.
        judgement.status = "unjudged"
        judgement.headline = MEAN_TWICE.format(listed(names), divisors.pop(), data, operation.upstream)
    return sum(not mistake.named for mistake in found.values()), judgement


def say_raised(error: RaisedError, helped: str, at: str = "") -> Judgement:
    """The judgement on a backward that raises."""
    name = error.functions[-1] if error.functions else "backward"
    said = f"Wrong: {name} raises {error.said.partition(':')[0]}" + (f": {helped}." if helped else ".")
    sentences = [f"{at}{error}" + (f" ({helped})." if helped else ".")]
    return Judgement("wrong", said, sentences=[*sentences, *([f"yours: {error.line}"] if error.line else [])])


def headline(operation: Operation, found: Mapping[str, Mistake]) -> str:
    """The first mistake in a few words."""
    for name, mistake in found.items():
        is_sentence = mistake.short.startswith(("backward", operation.upstream or "backward"))
        return mistake.short if is_sentence else f"the gradient of {name} {mistake.short}"
    return ""


def lines(operation: Operation, name: str, mistake: Mistake) -> list[str]:
    """The user's line, and the right one where it can be told."""
    found = line_of(operation, name)
    if found is None:
        return []
    return [f"yours: {found[0]}", *([f"right: {mistake.mend(found[1])}"] if mistake.mend else [])]


def depends_on_input(finding: Finding) -> bool:
    """Whether the forward pass is not the same number everywhere: it has steps, where its derivative is zero."""
    return bool(np.ptp(np.concatenate([output.ravel() for each in finding.trials for output in each.outputs])) > 0)


def is_identity(finding: Finding) -> bool:
    """Whether the output is the input."""
    return all(
        len(trial.outputs) == len(trial.gradients) == 1 and np.array_equal(gradient.x, trial.outputs[0])
        for trial in finding.trials
        for gradient in trial.gradients.values()
    )


def table(finding: Finding, found: Mapping[str, Mistake], differs: str = "wrong") -> list[dict[str, Any]]:
    """An input a row, from the trial in which it is wrong, or else from the first one."""
    rows = []
    for name in finding.trials[0].gradients:
        having = [trial.gradients[name] for trial in finding.trials if name in trial.gradients]
        gradient = next((each for each in having if each.is_wrong), having[0])
        said = "no gradient is returned" if gradient.found is None else differs if gradient.is_wrong else "right"
        rows.append(
            {
                "name": name,
                "shape": None if gradient.found is None else list(gradient.found.shape),
                "expected": list(gradient.x.shape),
                "error": gradient.error,
                "cosine": gradient.cosine,
                "said": f"wrong: {found[name].short}".replace("wrong: is wrong", "wrong") if name in found else said,
            }
        )
    return rows


def remarks(finding: Finding) -> list[str]:
    """What else was seen."""
    said = [f"{text}: whoever uses it next gets other numbers." for text in finding.trials[0].remarks]
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
    if flavour == "numbers":
        said.append("It takes one number at a time, and no arrays.")
    return said


def tried(finding: Finding) -> str:
    """With which arguments."""
    parts = []
    for name, value in zip(finding.operation.names, finding.trials[0].values, strict=False):
        if isinstance(value, np.ndarray):
            kind = {"i": " of whole numbers", "b": " of bools"}.get(value.dtype.kind, "")
            parts.append(f"{name} {value.shape}{kind}")
        else:
            parts.append(f"{name}={value!r}")
    dtype = "float32" if finding.operation.flavour == "torch float32" else "float64"
    ones = any(1 in trial.sizes.values() for trial in finding.trials)
    notes = "".join(f"; {each}, too" for each in dict.fromkeys(trial.note for trial in finding.trials) if each)
    return f"{', '.join(parts)}; {dtype}" + ("; sizes of one, too" if ones else "") + notes


def torch_verdict(finding: Finding) -> str | None:
    """What torch's own check says of a Function, in one line."""
    operation, main = finding.operation, finding.trials[0]
    if not isinstance(operation, FunctionOperation) or operation.flavour != "torch":
        return None
    import torch

    given = [as_given(value, "torch") for value in main.values]
    for name, value, argument in zip(operation.names, main.values, given, strict=True):
        if is_real(value):
            argument.requires_grad_(main.found.get(name) is not None or not main.found)

    def call(*arguments: Any) -> Any:
        reset_random_numbers(operation.namespace)
        return operation.cls.apply(*(each.clone() if isinstance(each, torch.Tensor) else each for each in arguments))

    try:
        with operation.watched():
            torch.autograd.gradcheck(call, given)
    except RaisedError as error:
        return error.said.partition(", numerical:")[0][:160]
    return "passes"


def listed(names: Sequence[str]) -> str:
    """The names with commas and an "and"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
