"""Which of a derivation's results are wrong, and by which mistake of the catalogue.

A derivation is explained by the fewest mistakes that reproduce every one of its numbers: mistakes in δ_O, then in δ_I,
then in each gradient for itself. What the deltas carry into the gradients is not counted again, so the one wrong line
is named, and what only follows from it is said to follow.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from backhand.checking.mistakes import IN_DELTA_I, IN_DELTA_O, IN_GRADIENTS, LATE
from backhand.checking.runner import QUANTITIES
from backhand.checking.steps import DELTA_STEPS, RIGHT, Case, Draft, Mistake, altered, derive

# The quantities that follow from each delta, without those in between.
AFTER = {"delta_O": ("dW_O", "db_O"), "delta_I": ("dW_I", "db_I", "dx")}
# Mistakes in the deltas that are looked for at once.
AT_ONCE = 2
# What a result may be off by and still be right, relative to its norm: float64 leaves 1e-14, and a derivation may have
# a small constant of its own against division by zero; float32 leaves 1e-6.
TOLERANCE = {"float64": 1e-6, "float32": 1e-4}

Status = Literal["right", "wrong", "convention"]


@dataclass(frozen=True)
class Finding:
    """What is to be said of one wrong line.

    Attributes:
        quantity: where the mistake is made.
        names: of the catalogue, all that give these very numbers here; the first is the one to say.
        text: the same as half a sentence.
    """

    quantity: str
    names: tuple[str, ...]
    text: str


@dataclass
class Verdict:
    """One returned quantity against the right one.

    Attributes:
        name: of `QUANTITIES`.
        shape, expected: as returned, and as it should be.
        error: ‖returned − right‖ / ‖right‖; None where the shapes differ.
        cosine: of the angle between the two; None where the shapes differ or one of them is zero.
        status: `right`; `wrong`; `convention`, a delta without the mean that its gradients take instead.
        cause: why, in a few words.
    """

    name: str
    shape: tuple[int, ...]
    expected: tuple[int, ...]
    error: float | None
    cosine: float | None
    status: Status
    cause: str = ""


@dataclass
class Diagnosis:
    """What is known of a derivation.

    Attributes:
        verdicts: one for each quantity that was returned.
        findings: the mistakes, in the order in which they are made; empty where all is right or nothing fits.
        explained: whether the findings reproduce every number that was returned.
        sentences: the whole in words.
    """

    verdicts: dict[str, Verdict]
    findings: list[Finding] = field(default_factory=list)
    explained: bool = True
    sentences: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether nothing is wrong with what was returned."""
        return all(verdict.status != "wrong" for verdict in self.verdicts.values())

    @property
    def cost(self) -> float:
        """How much is wrong, to choose between two readings of the same derivation."""
        return len(self.findings) + (0 if self.explained else 100)


@dataclass(frozen=True)
class _Made:
    """A mistake that has been made out, with the others that give the same numbers, and the number fitted to it."""

    quantity: str
    mistake: Mistake
    same: tuple[Mistake, ...] = ()
    amount: float = 1.0

    def finding(self) -> Finding:
        names = dict.fromkeys([self.mistake.name, *(each.name for each in self.same)])
        texts = dict.fromkeys(each.text.format(amount=self.amount) for each in (self.mistake, *self.same))
        first, *others = texts
        also = f" (the same numbers here as: {'; '.join(others)})" if others else ""
        return Finding(self.quantity, tuple(names), first + also)


@dataclass(frozen=True)
class _Candidate:
    """A delta as a few mistakes would make it, with the steps that led to it."""

    delta: str
    made: tuple[_Made, ...]
    draft: Draft
    own: bool = False  # it is the delta that was returned, whatever led to it


@dataclass(frozen=True)
class _Explanation:
    """What explains some of the numbers, and which it leaves unexplained."""

    made: tuple[_Made, ...] = ()
    unexplained: tuple[str, ...] = ()
    conventions: tuple[str, ...] = ()

    def __add__(self, other: "_Explanation") -> "_Explanation":
        return _Explanation(
            self.made + other.made, self.unexplained + other.unexplained, self.conventions + other.conventions
        )

    @property
    def cost(self) -> tuple[int, float, int]:
        """Numbers left unexplained, then mistakes, then ranks.

        One mistake that is made in several gradients is little more than one, but more than one above them all.
        """
        kinds = {each.mistake.name if each.mistake in IN_GRADIENTS else each.mistake for each in self.made}
        mistakes = len(kinds) + 0.25 * (len(self.made) - len(kinds) + len(self.conventions))
        return len(self.unexplained), mistakes, sum(each.mistake.rank for each in self.made)


def diagnose(case: Case, found: Mapping[str, Tensor], tolerance: float = TOLERANCE["float64"]) -> Diagnosis:
    """Judge what a derivation returned, and name the mistakes in it.

    Args:
        case: the network and the batch that it was given.
        found: what it returned, of `QUANTITIES`, in float64 and in any shape.
        tolerance: what a result may be off by, relative to its norm.
    """
    right = derive(case)
    names = [name for name in QUANTITIES if name in found]
    if all(_same(found[name], right[name], tolerance) for name in names):
        return _report(case, found, right, _Explanation(), tolerance)
    if case.previous is not None:
        for late in LATE:
            wrong = derive(late.case(case))
            if all(_same(found[name], wrong[name], tolerance) for name in names):
                return _report(case, found, right, _Explanation(), tolerance, late.name, late.text)
    return _report(case, found, right, _explain(case, found, tolerance), tolerance)


def _explain(case: Case, found: Mapping[str, Tensor], tolerance: float) -> _Explanation:
    best: _Explanation | None = None
    for output in _candidates(Draft(case), "delta_O", IN_DELTA_O, found):
        if best is not None and (0, len(output.made), 0) >= best.cost:
            break  # they come in the order of their cost
        above = _after(output, found, tolerance)
        if above is None or (best is not None and above.cost >= best.cost):
            continue
        for hidden in _candidates(output.draft, "delta_I", IN_DELTA_I, found, AT_ONCE - len(output.made)):
            if best is not None and (above + _Explanation(hidden.made)).cost >= best.cost:
                break
            below = _after(hidden, found, tolerance)
            if below is not None and (best is None or (above + below).cost < best.cost):
                best = above + below
    assert best is not None  # the right deltas leave at worst everything unexplained
    return best


def _candidates(
    before: Draft, delta: str, catalogue: Sequence[Mistake], found: Mapping[str, Tensor], at_once: int = AT_ONCE
) -> Iterator[_Candidate]:
    """The delta as it should be, then with one mistake, then with two, each number only once; then the returned one."""

    def drafted(mistakes: Sequence[Mistake], amount: float = 1.0) -> Draft | None:
        draft = Draft(before.case, dict(before.steps))
        try:
            for step in DELTA_STEPS[delta]:
                draft.steps[step] = altered(draft, step, RIGHT[step], mistakes, amount)
        except RuntimeError:  # the shapes do not allow it
            return None
        whole = draft[delta].shape == shape and draft[delta].isfinite().all()
        return draft if whole else None

    shape = before.case.z_O.shape if delta == "delta_O" else before.case.h.shape
    right = drafted(())
    assert right is not None
    if delta == "delta_I":  # the update of W_O that one mistake is about needs its gradient
        right.steps["dW_O"] = before.steps["dW_O"]
    yield _Candidate(delta, (), right)
    seen = {_signature(right[delta])}
    applicable = sorted((each for each in catalogue if each.applies(before.case)), key=lambda each: each.rank)
    if at_once >= 1:
        singles: dict[str, list[tuple[Mistake, Draft, float]]] = {}
        for mistake in applicable:
            amount = 1.0
            if mistake.direction is not None:
                amount = _fitted_amount(right, drafted((mistake,)), delta, found)
            draft = drafted((mistake,), amount) if amount > 0 else None
            if draft is not None and (signature := _signature(draft[delta])) not in seen:
                singles.setdefault(signature, []).append((mistake, draft, amount))
        for (mistake, draft, amount), *same in singles.values():
            yield _Candidate(delta, (_Made(delta, mistake, tuple(each for each, *_ in same), amount),), draft)
        seen |= singles.keys()
    if at_once >= 2:
        steady = [mistake for mistake in applicable if mistake.direction is None]
        for pair in combinations(steady, 2):
            if pair[0].step == pair[1].step and pair[0].rule is not None and pair[1].rule is not None:
                continue  # one line cannot be wrong in two ways
            draft = drafted(pair)
            if draft is not None and (signature := _signature(draft[delta])) not in seen:
                seen.add(signature)
                yield _Candidate(delta, tuple(_Made(delta, mistake) for mistake in pair), draft)
    if delta in found and found[delta].shape == right[delta].shape:
        yield _Candidate(delta, (), Draft(before.case, {**right.steps, delta: found[delta]}), own=True)


def _after(candidate: _Candidate, found: Mapping[str, Tensor], tolerance: float) -> _Explanation | None:
    """What a delta and its gradients take to be explained by it; None where the returned delta is another one."""
    draft, delta = candidate.draft, candidate.delta
    explanation = _Explanation(candidate.made, (delta,) if candidate.own else ())
    if delta in found and not candidate.own and not _same(found[delta], draft[delta], tolerance):
        if any(name in found for names in AFTER.values() for name in names) and _is_convention(
            draft.case, found[delta], draft[delta], tolerance
        ):
            explanation += _Explanation(conventions=(delta,))
        elif candidate.made:
            return None
        else:
            explanation += _Explanation(unexplained=(delta,))
    for quantity in AFTER[delta]:
        right = RIGHT[quantity](draft)
        draft.steps[quantity] = right
        if quantity in found and not _same(found[quantity], right, tolerance):
            made = _local(draft, quantity, found[quantity], tolerance)
            explanation += _Explanation((made,)) if made else _Explanation(unexplained=(quantity,))
    return explanation


def _local(draft: Draft, quantity: str, found: Tensor, tolerance: float) -> _Made | None:
    """The mistake in this one line that gives what was found, or None."""
    fitting: list[tuple[Mistake, float]] = []
    for mistake in IN_GRADIENTS:
        if mistake.step != quantity or not mistake.applies(draft.case):
            continue
        amount = 1.0
        try:
            if mistake.direction is not None:
                amount = _projection(found, RIGHT[quantity](draft), mistake.direction(draft))
            value = altered(draft, quantity, RIGHT[quantity], (mistake,), amount)
        except RuntimeError:  # the shapes do not allow it
            continue
        if amount > 0 and _same(found, value, tolerance):
            fitting.append((mistake, amount))
    if not fitting:
        return None
    (first, amount), *others = sorted(fitting, key=lambda each: each[0].rank)
    return _Made(quantity, first, tuple(each for each, _ in others if each.direction is None), amount)


def _fitted_amount(right: Draft, moved: Draft | None, delta: str, found: Mapping[str, Tensor]) -> float:
    """How much of a direction is in what was found: everything behind the delta is linear in it."""
    if moved is None:
        return 0.0
    for quantity in (delta, *AFTER[delta]):
        if quantity in found:
            at_none, at_one = (
                draft[delta] if quantity == delta else RIGHT[quantity](draft) for draft in (right, moved)
            )
            return _projection(found[quantity], at_none, at_one - at_none)
    return 0.0


def _projection(found: Tensor, base: Tensor, direction: Tensor) -> float:
    if found.shape != base.shape or direction.shape != base.shape:
        return 0.0
    amount = float(((found - base) * direction).sum() / direction.square().sum())
    return amount if abs(amount) > 1e-6 else 0.0


def _is_convention(case: Case, found: Tensor, right: Tensor, tolerance: float) -> bool:
    """Whether a delta is right but for a mean, which may as well be taken in the gradients."""
    factors = {case.N, float(case.B), case.N * case.C, float(case.C)}
    return any(_same(found, factor * right, tolerance) for factor in factors)


def _same(found: Tensor, right: Tensor, tolerance: float) -> bool:
    return found.shape == right.shape and bool((found - right).norm() <= tolerance * right.norm() + 1e-12)


def _signature(delta: Tensor) -> str:
    """The same for the same numbers: a projection that different deltas do not share."""
    weights = torch.linspace(1, 2, delta.numel(), dtype=delta.dtype).sin()
    return f"{tuple(delta.shape)} {float(delta.flatten() @ weights):.9e}"


def _report(
    case: Case,
    found: Mapping[str, Tensor],
    right: Mapping[str, Tensor],
    explanation: _Explanation,
    tolerance: float,
    late: str = "",
    late_text: str = "",
) -> Diagnosis:
    verdicts = {}
    for name in (name for name in QUANTITIES if name in found):
        value, truth = found[name], right[name]
        error = cosine = None
        if value.shape == truth.shape:
            error = float((value - truth).norm() / truth.norm().clamp(min=1e-300))
            if value.norm() > 0 and truth.norm() > 0:
                cosine = float((value * truth).sum() / value.norm() / truth.norm())
        status: Status = "right" if _same(value, truth, tolerance) else "wrong"
        above = ("delta_O",) if name == "delta_O" else ("delta_O", "delta_I")
        if name in explanation.conventions and not any(made.quantity in above for made in explanation.made):
            status = "convention"
        verdicts[name] = Verdict(name, tuple(value.shape), tuple(truth.shape), error, cosine, status)
    findings = [made.finding() for made in explanation.made]
    if late:
        findings = [Finding("all", (late,), late_text)]
    diagnosis = Diagnosis(verdicts, findings, not explanation.unexplained)
    _give_causes(diagnosis, explanation, found, right, case)
    return diagnosis


def _give_causes(
    diagnosis: Diagnosis,
    explanation: _Explanation,
    found: Mapping[str, Tensor],
    right: Mapping[str, Tensor],
    case: Case,
) -> None:
    """Fill in each verdict's cause, and the sentences."""
    verdicts, sentences = diagnosis.verdicts, diagnosis.sentences
    wrong = [name for name, verdict in verdicts.items() if verdict.status == "wrong"]
    for name in explanation.conventions:
        verdicts[name].cause = "without the mean, which your gradients take"
    if diagnosis.findings and diagnosis.findings[0].quantity == "all":
        for name in wrong:
            verdicts[name].cause = diagnosis.findings[0].names[0]
        sentences.append(f"{_listed(wrong)} {_is(wrong)} wrong: {diagnosis.findings[0].text}.")
        return
    local: dict[str, list[str]] = {}
    roots: dict[str, list[Finding]] = {}
    for finding in diagnosis.findings:
        if finding.quantity in AFTER:
            roots.setdefault(finding.quantity, []).append(finding)
        else:
            local.setdefault(finding.text, []).append(finding.quantity)
            if finding.quantity in verdicts:
                verdicts[finding.quantity].cause = finding.names[0]
    for name in explanation.unexplained:
        verdicts[name].cause = "no mistake of the catalogue"
    for root in [*roots, *(name for name in explanation.unexplained if name in AFTER)]:
        behind = AFTER[root] + (("delta_I", *AFTER["delta_I"]) if root == "delta_O" else ())
        follows = [name for name in wrong if name in behind and not verdicts[name].cause]
        for name in follows:
            verdicts[name].cause = f"follows from {root}"
        if root not in roots:
            continue
        if root in verdicts:
            verdicts[root].cause = " and ".join(finding.names[0] for finding in roots[root])
        what = "; and ".join(finding.text for finding in roots[root])
        two = "two mistakes: " if len(roots[root]) > 1 else ""
        last = (
            ""
            if len(diagnosis.findings) > len(roots[root]) or explanation.unexplained
            else "; everything after it is right"
        )
        if follows:
            sentences.append(f"{_listed(follows)} {_is(follows)} wrong because {root} is: {two}{what}{last}.")
        else:
            sentences.append(f"{root} is wrong: {two}{what}.")
    for text, names in local.items():
        sentences.append(f"{_listed(names)} {_is(names)} wrong: {text}.")
    for name in explanation.unexplained:
        follows = [
            each
            for each in AFTER.get(name, ())
            if verdicts.get(each) and verdicts[each].cause == f"follows from {name}"
        ]
        then = f" {_listed(follows)} {_is(follows)} right for that {name}." if follows else ""
        sentences.append(
            f"{name} is wrong, and neither one mistake of the catalogue nor two give these numbers; "
            f"{where(found[name], right[name], name, case)}.{then}"
        )


def where(found: Tensor, right: Tensor, name: str, case: Case) -> str:
    """Where the error sits: a constant factor, rows, columns or samples, as half a sentence."""
    if found.shape != right.shape:
        return f"its shape is {tuple(found.shape)}, and should be {tuple(right.shape)}"
    factor = float((found * right).sum() / right.square().sum().clamp(min=1e-300))
    if _same(found, factor * right, 1e-6):
        return f"it is {factor:.6g} times the right one" if factor else "it is zero"
    if name[0] == "d" and name[1] in "Wb" and (weights := _sample_weights(found, name, case)) is not None:
        odd = [
            f"sample {index} counts {round(weight, 3):g} times"
            for index, weight in enumerate(weights)
            if abs(weight - 1) > 1e-6
        ]
        return ", ".join(odd) + " instead of once"
    off = (found - right).abs() > 1e-6 * right.abs().max()
    axes = ("sample" if name in ("delta_O", "delta_I", "dx") else "row", "column")[-found.dim() :]
    for axis, kind in enumerate(axes):
        other = off.any(1 - axis) if off.dim() == 2 else off
        lines = other.nonzero().flatten().tolist()
        if len(lines) <= len(other) // 2:
            return f"the error sits in {kind}{'s' * (len(lines) > 1)} {', '.join(map(str, lines))} alone"
    place = tuple((found - right).abs().flatten().argmax().unsqueeze(0).tolist())
    index = torch.unravel_index(torch.tensor(place[0]), right.shape)
    at = ", ".join(f"{kind} {int(i)}" for kind, i in zip(axes, index, strict=True))
    return f"the error is spread over {int(off.sum())} of {off.numel()} entries, largest at {at}"


def _sample_weights(found: Tensor, name: str, case: Case) -> list[float] | None:
    """How often each sample counts, where the gradient is right but for that."""
    right = derive(case)
    delta = right[f"delta_{name[-1]}"]
    inputs = case.h if name == "dW_O" else case.x
    each = delta if name[1] == "b" else torch.einsum("bi,bj->bij", inputs, delta).flatten(1)
    if each.shape[1] <= each.shape[0]:
        return None  # as many unknowns as numbers: anything would fit
    weights = torch.linalg.lstsq(each.T, found.flatten().unsqueeze(-1)).solution.flatten()
    return weights.tolist() if _same(found.flatten(), each.T @ weights, 1e-6) else None


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
