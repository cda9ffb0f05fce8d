"""Which of a derivation's results are wrong, and by which mistake of the catalogue.

A derivation is explained by the fewest mistakes that reproduce every one of its numbers: mistakes in the deltas, from
the output down, then in each gradient for itself. What the deltas carry into the gradients is not counted again, so
the one wrong line is named, and what only follows from it is said to follow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from backhand.calculus.chain import Layer, layers
from backhand.derivations.forwards import OtherForward, other_forwards
from backhand.derivations.mistakes import (
    COMMON_FACTOR,
    PENALISED_BIAS,
    PENALTY,
    UPDATED,
    in_gradients,
)
from backhand.derivations.search import AT_ONCE, ENOUGH, ZERO, Made, Paths, cost, mixture, proportion, search
from backhand.derivations.steps import Case, Mistake, altered, derive, quantities

# What a result may be off by and still be right, relative to its norm: float64 leaves 1e-14, and a derivation may have
# a small constant of its own against division by zero; float32 leaves 1e-6.
TOLERANCE = {"float64": 1e-6, "float32": 1e-4}
# Of a number that nothing explains, against one mistake; and of a δ that is not the one that its gradients are from.
UNEXPLAINED, IMPOSSIBLE = 1e3, 1e5
# Of a mistake in one gradient: of two that explain the same, the one in a δ is named.
LOCAL = 1 + 1e-4
# One mistake in several gradients is little more than one, but more than one above them all.
AGAIN = 0.25
# What begins the list of the mistakes that give the same numbers.
SAME = " (the same numbers here as: "

Status = Literal["right", "wrong", "convention"]


@dataclass(frozen=True)
class Finding:
    """What is to be said of one wrong line.

    Attributes:
        quantity: where the mistake is made.
        names: of the catalogue, all that give these very numbers here; the first is the one to say.
        text: the same as half a sentence.
        right, yours: the right line and the wrong one, as formulas.
        penalty: the number that is, or should be, added so many times: λ of the right line, or of a penalised bias.
    """

    quantity: str
    names: tuple[str, ...]
    text: str
    right: str = ""
    yours: str = ""
    penalty: float = 0.0


@dataclass
class Verdict:
    """One returned quantity against the right one.

    Attributes:
        name: of `quantities`.
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
        factor: what all gradients have in common, of the factors that are allowed.
        penalty: the coefficient of the regularisation that was found where it was unknown, else 0.
        common: what all gradients have in common and should not, as a factor of the allowed one; 1 where nothing is.
    """

    verdicts: dict[str, Verdict]
    findings: list[Finding] = field(default_factory=list)
    explained: bool = True
    sentences: list[str] = field(default_factory=list)
    factor: float = 1.0
    penalty: float = 0.0
    common: float = 1.0

    @property
    def right(self) -> bool:
        """Whether nothing is wrong with what was returned."""
        return all(verdict.status != "wrong" for verdict in self.verdicts.values())

    @property
    def cost(self) -> float:
        """How much is wrong, to choose between two readings of the same derivation."""
        return len(self.findings) + (0 if self.explained else 100)


@dataclass(frozen=True)
class _Question:
    """What was returned, and what is allowed.

    Attributes:
        found: what was returned, by name.
        factors: what all gradients may have in common; without one any positive number.
        penalty: how much of each weight is to be added to its gradient, by the gradient's name.
    """

    case: Case
    found: Mapping[str, Tensor]
    tolerance: float
    factors: tuple[float, ...]
    penalty: Mapping[str, float]

    @property
    def names(self) -> list[str]:
        return [name for name in quantities(self.case.depth) if name in self.found]

    def right(self) -> dict[str, Tensor]:
        """What should have been returned, but for the common factor."""
        steps = derive(self.case)
        for layer in layers(self.case.depth):
            steps[layer.dW] = steps[layer.dW] + self.penalty[layer.dW] * self.case.W(layer)
        return steps


@dataclass(frozen=True)
class _Explanation:
    """What explains some of the numbers, which it leaves unexplained, and how much is wrong."""

    made: tuple[Made, ...]
    unexplained: tuple[str, ...]
    conventions: tuple[str, ...]
    factor: float
    cost: float


# One line, for each of M paths: its mistake, as in `_Lines`; its ratio; its amount; and whether it fits at all.
_Line = tuple[Mistake | float | None, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class _Lines:
    """The ways in which one quantity may follow from its δ: the right line, and each wrong one.

    Attributes:
        mistakes: None for the right line; what it costs for a δ that is right but for a mean, which is a convention.
        ratio: (lines, M): how many times what the line gives was returned; NaN where it is not exactly that.
        amount: (lines, M): the number that is fitted to a line.
    """

    mistakes: list[Mistake | float | None]
    ratio: Tensor
    amount: Tensor

    def of(self, places: Tensor) -> "_Lines":
        return _Lines(self.mistakes, self.ratio[:, places], self.amount[:, places])


def diagnose(
    case: Case,
    found: Mapping[str, Tensor],
    tolerance: float = TOLERANCE["float64"],
    factors: Sequence[float] = (1.0,),
    penalty: float | Mapping[str, float] | None = 0.0,
) -> Diagnosis:
    """Judge what a derivation returned, and name the mistakes in it.

    Args:
        case: the network and the batch that it was given, or several draws of them.
        found: what it returned, of `quantities`, in float64 and in any shape; all draws in one tensor.
        tolerance: what a result may be off by, relative to its norm.
        factors: what all gradients may have in common: found = c · right. Without one c may be any positive number.
        penalty: the p of each weight's right gradient, right = hᵀ δ + p W, one for all or one by the gradient's name;
            None where it is unknown, and may be any positive number that all weights share.
    """
    weights = [layer.dW for layer in layers(case.depth)]
    known = dict.fromkeys(weights, 0.0)
    known |= dict.fromkeys(weights, penalty) if isinstance(penalty, int | float) else penalty or {}
    question = _Question(case, found, tolerance, tuple(factors), known)
    best, _ = _answer(question, 0)
    asked = question
    forward = None
    if best.cost >= 1 and penalty is None:
        asked, best = _any_penalty(question, best, 0)
    if best.cost >= 1:
        forwards = _forwards(question)
        if forwards and forwards[0][2].cost < 1:
            forward, _, best = forwards[0]
    if best.cost >= 1:
        without = len(best.unexplained)
        best, _ = _answer(question, AT_ONCE)
        if penalty is None and best.cost >= 1:
            asked, best = _any_penalty(question, best, AT_ONCE)
        for each, other_question, explanation in forwards if best.cost >= UNEXPLAINED else ():
            # Some gradients are explained by the forward pass alone, the others by a mistake besides.
            if not each.alone and len(explanation.unexplained) < without:
                explanation, _ = _answer(other_question, 1)
                if explanation.cost < AT_ONCE:
                    forward, best = each, explanation
                    break
    return _report(asked, best, asked.penalty[weights[0]] if penalty is None else 0.0, forward)


def _forwards(question: _Question) -> list[tuple[OtherForward, _Question, _Explanation]]:
    """Each other forward pass with the question for it and what it explains by itself, the best one first."""
    found = []
    for each in other_forwards(question.case.depth):
        case = each.case(question.case) if set(each.needs) <= set(question.found) else None
        if case is not None and all(bool(value.isfinite().all()) for value in case.forward[1]):
            other = replace(question, case=case)
            found.append((each, other, _answer(other, 0)[0]))
    return sorted(found, key=lambda each: each[2].cost)


def _any_penalty(question: _Question, best: _Explanation, at_once: int) -> tuple[_Question, _Explanation]:
    """The question and its answer with the coefficient of a penalty that explains more, if there is one."""
    case, asked = question.case, question
    tree = search(case, question.found, question.tolerance, at_once)
    coefficients: dict[str, float] = {}
    for layer, paths in zip(layers(case.depth), tree, strict=True):
        if layer.dW in question.found and question.found[layer.dW].shape == case.W(layer).shape:
            values = altered(paths, layer.dW)
            _, amount, fits = mixture(question.found[layer.dW], values, paths.repeat(case.W(layer)), question.tolerance)
            coefficients |= {f"{p:.6e}": p for p in amount[fits & (amount > 1e-6)].tolist()[:3]}
    for p in coefficients.values():
        other = _Question(
            case, question.found, question.tolerance, question.factors, dict.fromkeys(question.penalty, p)
        )
        explanation = _answer(other, at_once, tree)[0]
        if explanation.cost < best.cost - 1e-3:
            asked, best = other, explanation
    return asked, best


def _answer(question: _Question, at_once: int, tree: list[Paths] | None = None) -> tuple[_Explanation, list[Paths]]:
    """The explanation that leaves the least unexplained and has the fewest and simplest mistakes."""
    case = question.case
    tree = tree or search(case, question.found, question.tolerance, at_once)
    # Of each of the paths to the last layer, its place in the layers above.
    places = [torch.arange(len(tree[-1].made))]
    for paths in reversed(tree[1:]):
        places.append(paths.parent[places[-1]])
    lines: dict[str, _Lines] = {}
    for layer, paths, place in zip(layers(case.depth), tree, reversed(places), strict=True):
        for quantity in (layer.delta, *layer.gradients):
            if quantity in question.found:
                lines[quantity] = _lines(question, layer, quantity, paths, at_once > 0).of(place)
    return _cheapest(question, tree[-1], lines, at_once > 0), tree


def _lines(question: _Question, layer: Layer, quantity: str, paths: Paths, with_mistakes: bool) -> _Lines:
    """Every line that there may be for a quantity, for all paths; without the wrong lines that fit none."""
    if quantity == layer.delta:
        lines = _delta_lines(question, quantity, paths)
    else:
        mistakes = [each for each in in_gradients(layer) if each.step == quantity and each.applies(question.case)]
        mistakes.sort(key=lambda each: each.rank)
        lines = [_line(question, layer, quantity, paths, None)]
        if quantity == "dx":  # no gradient of a parameter: it may lack the mean that these take
            ratio = lines[0][1]
            lines += [(AGAIN, ratio / size, torch.ones_like(ratio), lines[0][3]) for size in question.case.means]
        lines += [_line(question, layer, quantity, paths, each) for each in (mistakes if with_mistakes else ())]
    names, ratios, amounts, fits = zip(*lines, strict=True)
    possible = [i for i, each in enumerate(fits) if i == 0 or bool(each.any())]
    return _Lines(
        [names[i] for i in possible],
        torch.stack([ratios[i].where(fits[i], torch.nan) for i in possible]),
        torch.stack([amounts[i] for i in possible]),
    )


def _delta_lines(question: _Question, quantity: str, paths: Paths) -> list[_Line]:
    """A δ may be larger than what its gradients are made of by the mean that they take."""
    case, found = question.case, question.found
    own = torch.tensor([quantity in each for each in paths.own])
    lines: list[_Line] = []
    for name, size in [(None, 1.0), *((AGAIN, size) for size in case.means)]:
        ratio, fits = proportion(found[quantity], paths.times(paths[quantity], size), question.tolerance)
        # One that is taken as it was returned fits, whatever its size.
        lines.append((name, ratio.where(~own, torch.inf), torch.ones_like(ratio), fits | own))
    has_gradients = any(name in found for layer in layers(case.depth) for name in layer.gradients)
    return lines if has_gradients else lines[:1]


def _line(question: _Question, layer: Layer, quantity: str, paths: Paths, mistake: Mistake | None) -> _Line:
    """The right line of a gradient, or a wrong one."""
    found, tolerance, penalty = question.found[quantity], question.tolerance, question.penalty.get(quantity, 0.0)
    one = torch.ones(len(paths.made), dtype=torch.float64)
    is_added = mistake is not None and mistake.direction is not None
    try:
        value = altered(paths, quantity, () if mistake is None or is_added else (mistake,))
    except RuntimeError:  # the shapes do not allow it
        return mistake, one, one, one < 0
    if penalty and value.shape[1:] == question.case.W(layer).shape and not (mistake and mistake.unscaled):
        value = value + penalty * question.case.W(layer)
    if mistake is not None and mistake.direction is not None:
        ratio, amount, fits = mixture(found, value, mistake.direction(paths), tolerance)
        # A penalty may also be smaller than it should be, or have the wrong sign.
        least = -torch.inf if penalty and mistake.name == PENALTY else 0.0
        return mistake, ratio, amount, fits & (amount > least) & (amount.abs() > 1e-6)
    ratio, fits = proportion(found, value, tolerance)
    if mistake is not None and mistake.unscaled:
        return mistake, torch.inf * one, one, fits & ((ratio - 1).abs() <= 2 * tolerance)
    return mistake, ratio, one, fits


def _cheapest(question: _Question, paths: Paths, lines: dict[str, _Lines], with_mistakes: bool) -> _Explanation:
    """Of all paths, and of all factors that their gradients may have in common, the best explanation."""
    M = len(paths.made)
    in_deltas = torch.tensor([mistakes + 1e-3 * rank for mistakes, rank in map(cost, paths.made)], dtype=torch.float64)
    in_deltas += UNEXPLAINED * torch.tensor([len(own) for own in paths.own]) + 1e-9 * torch.arange(M)
    counts = torch.tensor(paths.counts)
    # A deviating δ under a mistake is nonsense.
    deviating = IMPOSSIBLE * (counts > 0)
    names: dict[str, int] = {}
    in_path = [{names.setdefault(each.mistake.name, len(names)) for each in made} for made in paths.made]
    most = max(map(len, in_path))
    padded = torch.tensor([[*ids, *[-1] * (most - len(ids))] for ids in in_path]).reshape(M, most)
    chosen = (torch.inf, 0, 1.0, False)
    for number, (c, common) in enumerate(_common_factors(question, lines, M, with_mistakes)):
        total = in_deltas + 1e-6 * number + (1.003 + IMPOSSIBLE * (counts >= AT_ONCE) if common else 0)
        total = total.where(c.isfinite() & (c != 0) & (common | (c > 0)), torch.inf)
        kinds = list(padded.T)
        for quantity, each in lines.items():
            fits = _fits(each, c, question.tolerance)
            first, any_fits = fits.to(torch.uint8).argmax(0), fits.any(0)
            prices, numbers = [], []
            for mistake in each.mistakes:
                if isinstance(mistake, Mistake):
                    prices.append(LOCAL + 1e-3 * mistake.rank)
                    numbers.append(names.setdefault(mistake.name, len(names)))
                else:
                    prices.append(mistake or 0.0)
                    numbers.append(-1)
            price = torch.tensor(prices, dtype=torch.float64)[first]
            kind = torch.tensor(numbers)[first].where(any_fits, -1)
            known = torch.zeros(M, dtype=torch.bool)
            for other in kinds:
                known |= (other == kind) & (kind >= 0)
            kinds.append(kind)
            price = price.where(~known, price - 1 + AGAIN)
            is_delta = quantity.startswith("delta")
            total = total + price.where(any_fits, UNEXPLAINED + (deviating if is_delta else 0))
        i = int(total.argmin())
        if float(total[i]) < chosen[0]:
            chosen = (float(total[i]), i, float(c[i]), common)
    assert chosen[0] < torch.inf  # the right deltas leave at worst everything unexplained
    return _explanation(question, paths, lines, *chosen)


def _fits(lines: _Lines, c: Tensor, tolerance: float) -> Tensor:
    """Whether each line is c times what was returned, (lines, M)."""
    return ((lines.ratio / c - 1).abs() <= 2 * tolerance) | lines.ratio.isinf()


def _common_factors(
    question: _Question, lines: dict[str, _Lines], M: int, with_mistakes: bool
) -> list[tuple[Tensor, bool]]:
    """What all gradients of each path may have in common, (M,), the likeliest first; and whether that is a mistake."""
    allowed = sorted(question.factors or (1.0,), key=lambda c: c != 1)
    some = [(torch.full((M,), c, dtype=torch.float64), False) for c in allowed]
    if question.factors and (not with_mistakes or sum(each.numel() for each in question.found.values()) < ENOUGH):
        return some
    is_mistake = bool(question.factors)
    for each in lines.values():
        some.append((each.ratio[0], is_mistake))
        if len(each.mistakes) > 1:
            others = each.ratio[1:].where(each.ratio[1:].isfinite(), torch.nan)
            first = others.isfinite().to(torch.uint8).argmax(0)
            some.append((others.gather(0, first.unsqueeze(0)).squeeze(0), is_mistake))
    return [(c, common) for c, common in some if bool(c.isfinite().any())]


def _explanation(
    question: _Question, paths: Paths, lines: dict[str, _Lines], total: float, i: int, c: float, common: bool
) -> _Explanation:
    """One path and one common factor, put together."""
    case = question.case
    made = list(paths.made[i])
    unexplained, conventions = [], []
    for quantity, each in lines.items():
        at = each.of(torch.tensor([i]))
        fitting = [k for k, fits in enumerate(_fits(at, torch.tensor(c), question.tolerance)[:, 0].tolist()) if fits]
        first = each.mistakes[fitting[0]] if fitting else None
        if not fitting or quantity in paths.own[i]:
            unexplained.append(quantity)
        elif isinstance(first, Mistake):
            same = tuple(
                mistake
                for mistake in (each.mistakes[k] for k in fitting[1:])
                if isinstance(mistake, Mistake) and mistake.direction is None
            )
            made.append(Made(quantity, first, same, float(at.amount[fitting[0], 0])))
        elif first is not None:
            conventions.append(quantity)
    if common:
        text = "everything is {amount:.4g} times the right one"
        last = case.last
        allowed = 1.0 if 1.0 in question.factors else question.factors[0]
        times, c = c / allowed, allowed
        mistake = Mistake(COMMON_FACTOR, text, last, last.delta, factor=lambda case: times, yours="{amount}", rank=3)
        made.insert(0, Made(last.delta, mistake, (), times))
    order = quantities(case.depth)
    made.sort(key=lambda each: order.index(each.quantity))
    return _Explanation(tuple(made), tuple(unexplained), tuple(conventions), c, total)


def _finding(question: _Question, made: Made, c: float) -> Finding:
    """What is to be said of a mistake, in the size that the common factor gives it."""
    mistake, case = made.mistake, question.case
    size = c if question.factors else 1.0
    amount = made.amount * (size if mistake.name in (PENALTY, PENALISED_BIAS) else 1.0)
    if mistake.name == UPDATED and mistake.layer.above.dW not in question.found:
        amount = made.amount / size  # else it is the size of a step along the gradient that was returned
    rate = f" (learning rate {amount:.3g})" if question.factors else ""
    right, yours = mistake.formulas(case, amount)
    if mistake.name == UPDATED and not question.factors:
        yours = yours.replace(f"− {amount:.3g} ", "− η ")
    texts = [
        each.text.format(amount=amount, rate=rate, activation=_activation_name(case, each.layer))
        for each in (mistake, *made.same)
    ]
    expected = question.penalty.get(made.quantity, 0.0) * size
    name = mistake.name
    penalty = amount if name == PENALISED_BIAS else 0.0
    if name == PENALTY and expected:
        penalty = expected
        W, times = mistake.layer.W, round(1 + amount / expected, 4)
        asked = "the coefficient λ that the loss asks for"
        texts[0] = "regularisation: " + {
            0: f"λ {W} is missing, which the loss asks for",
            -1: f"λ {W} is subtracted, and the loss asks for it to be added",
            0.5: f"{W} is added with half {asked}",
            2: f"{W} is added with twice {asked}",
        }.get(times, f"{W} is added with {times:g} times {asked}")
        kinds: dict[float, str] = {0: "penalty missing", -1: "penalty subtracted"}
        name = kinds.get(times, "penalty of another size")
        sign, number = "−" if times < 0 else "+", "" if abs(times) == 1 else f"{abs(times):g} "
        right, yours = f"{right} + λ {W}", f"{right} {sign} {number}λ {W}" if times else right
    first, *others = dict.fromkeys(texts)
    also = f"{SAME}{'; '.join(others)})" if others else ""
    names = dict.fromkeys([name, *(each.name for each in made.same)])
    return Finding(made.quantity, tuple(names), first + also, right, yours, penalty)


def _activation_name(case: Case, layer: Layer) -> str:
    return case.network.output_activation if layer.is_last else case.network.g_name(layer.index)


def _report(question: _Question, explanation: _Explanation, penalty: float, forward: OtherForward | None) -> Diagnosis:
    case, found, c = question.case, question.found, explanation.factor
    right = {name: c * value for name, value in question.right().items()}
    verdicts = {}
    for name in question.names:
        value, truth = found[name], right[name]
        error = cosine = None
        if value.shape == truth.shape:
            error = float((value - truth).norm() / truth.norm().clamp(min=1e-300))
            if value.norm() > 0 and truth.norm() > 0:
                cosine = float((value * truth).sum() / value.norm() / truth.norm())
        status: Status = "right" if _same(value, truth, 3 * question.tolerance) else "wrong"
        if name in explanation.conventions and not any(
            made.quantity in _up_to(case, name) for made in explanation.made
        ):
            status = "convention"
        verdicts[name] = Verdict(name, tuple(value.shape), tuple(truth.shape), error, cosine, status)
    findings = [_finding(question, made, c) for made in explanation.made]
    if forward:
        findings = [Finding("all", (forward.name,), forward.text), *findings]
    diagnosis = Diagnosis(verdicts, findings, not explanation.unexplained, factor=c, penalty=penalty)
    diagnosis.common = next((each.amount for each in explanation.made if each.mistake.name == COMMON_FACTOR), 1.0)
    _give_causes(diagnosis, explanation, question, right)
    return diagnosis


def _behind(case: Case) -> dict[str, tuple[str, ...]]:
    """What follows from each δ."""
    names = quantities(case.depth)
    return {layer.delta: names[names.index(layer.delta) + 1 :] for layer in layers(case.depth)}


def _up_to(case: Case, delta: str) -> list[str]:
    """A δ and those above it."""
    deltas = [layer.delta for layer in layers(case.depth)]
    return deltas[: deltas.index(delta) + 1]


def _give_causes(
    diagnosis: Diagnosis, explanation: _Explanation, question: _Question, right: Mapping[str, Tensor]
) -> None:
    """Fill in each verdict's cause, and the sentences."""
    verdicts, sentences, behind = diagnosis.verdicts, diagnosis.sentences, _behind(question.case)
    wrong = [name for name, verdict in verdicts.items() if verdict.status == "wrong"]
    for name in explanation.conventions:
        verdicts[name].cause = "without the mean, which your gradients take"
    if diagnosis.findings and diagnosis.findings[0].quantity == "all":
        first, *besides = diagnosis.findings
        for name in wrong:
            verdicts[name].cause = first.names[0]
        sentences.append(f"{_listed(wrong)} {_is(wrong)} wrong: {first.text}.")
        sentences.extend(f"Besides, {each.quantity} is wrong: {each.text}." for each in besides)
        return
    local: dict[str, list[str]] = {}
    roots: dict[str, list[Finding]] = {}
    for finding in diagnosis.findings:
        if finding.quantity in behind:
            roots.setdefault(finding.quantity, []).append(finding)
        else:
            local.setdefault(finding.text, []).append(finding.quantity)
            if finding.quantity in verdicts:
                verdicts[finding.quantity].cause = finding.names[0]
    for name in explanation.unexplained:
        verdicts[name].cause = "no mistake of the catalogue"
    for root in [*roots, *(name for name in explanation.unexplained if name in behind)]:
        follows = [name for name in wrong if name in behind[root] and not verdicts[name].cause]
        for name in follows:
            verdicts[name].cause = f"follows from {root}"
        if root not in roots:
            continue
        if root in verdicts:
            verdicts[root].cause = " and ".join(finding.names[0] for finding in roots[root])
        what = "; and ".join(finding.text for finding in roots[root])
        two = "two mistakes: " if len(roots[root]) > 1 else ""
        alone = len(diagnosis.findings) == len(roots[root]) and not explanation.unexplained
        last = "; everything after it is right" if alone else ""
        if follows:
            sentences.append(f"{_listed(follows)} {_is(follows)} wrong because {root} is: {two}{what}{last}.")
        else:
            sentences.append(f"{root} is wrong: {two}{what}.")
    for text, names in local.items():
        sentences.append(f"{_listed(names)} {_is(names)} wrong: {text}.")
    for name in explanation.unexplained[:1]:
        follows = [
            each
            for each in behind.get(name, ())
            if verdicts.get(each) and verdicts[each].cause == f"follows from {name}"
        ]
        then = f" {_listed(follows)} {_is(follows)} right for that {name}." if follows else ""
        if others := explanation.unexplained[1:]:
            then += f" So {_is(others)} {_listed(others)}; everything computed from a wrong δ is wrong, too."
        place = where(question.found[name], right[name], name, question.case)
        sentences.append(
            f"{name} is wrong, and neither one mistake of the catalogue nor two give these numbers; {place}.{then}"
        )


def where(found: Tensor, right: Tensor, name: str, case: Case) -> str:
    """Where the error sits: a constant factor, rows, columns or samples, as half a sentence; of draws, in the first."""
    if found.shape != right.shape:
        draws = case.x.dim() - 2
        return f"its shape is {tuple(found.shape[draws:])}, and should be {tuple(right.shape[draws:])}"
    factor = float((found * right).sum() / right.square().sum().clamp(min=1e-300))
    if _same(found, factor * right, 1e-6):
        return f"it is {factor:.6g} times the right one" if factor else "it is zero"
    if case.x.dim() > 2:
        k = next(k for k in range(len(found)) if not _same(found[k], right[k], 1e-6))
        return f"in draw {k}, {where(found[k], right[k], name, case.draw(k))}"
    if name[:2] in ("dW", "db") and (weights := _sample_weights(found, name, case)) is not None:
        odd = [
            f"sample {index} counts {round(weight, 3):g} times"
            for index, weight in enumerate(weights)
            if abs(weight - 1) > 1e-6
        ]
        return ", ".join(odd) + " instead of once"
    off = (found - right).abs() > 1e-6 * right.abs().max()
    axes = ("sample" if name.startswith("delta") or name == "dx" else "row", "column")[-found.dim() :]
    for axis, kind in enumerate(axes):
        other = off.any(1 - axis) if off.dim() == 2 else off
        lines = other.nonzero().flatten().tolist()
        if len(lines) <= len(other) // 2:
            return f"the error sits in {kind}{'s' * (len(lines) > 1)} {', '.join(map(str, lines))} alone"
    place = (found - right).abs().flatten().argmax()
    index = torch.unravel_index(place, right.shape)
    at = ", ".join(f"{kind} {int(i)}" for kind, i in zip(axes, index, strict=True))
    return f"the error is spread over {int(off.sum())} of {off.numel()} entries, largest at {at}"


def _sample_weights(found: Tensor, name: str, case: Case) -> list[float] | None:
    """How often each sample counts, where the gradient is right but for that."""
    layer = next(layer for layer in layers(case.depth) if name in layer.gradients)
    delta = derive(case)[layer.delta]
    each = delta if name == layer.db else torch.einsum("bi,bj->bij", case.input(layer), delta).flatten(1)
    if each.shape[1] <= each.shape[0]:
        return None  # as many unknowns as numbers: anything would fit
    weights = torch.linalg.lstsq(each.T, found.flatten().unsqueeze(-1)).solution.flatten()
    return weights.tolist() if _same(found.flatten(), each.T @ weights, 1e-6) else None


def _same(found: Tensor, right: Tensor, tolerance: float) -> bool:
    return found.shape == right.shape and bool((found - right).norm() <= tolerance * right.norm() + ZERO)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
