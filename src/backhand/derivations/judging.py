"""Judges somebody's derivation of a network: the readings of its arguments are tried, and the best one is told."""

import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backhand.calculus.activations import ACTIVATIONS
from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.chain import labels
from backhand.calculus.losses import LOSSES
from backhand.derivations.asking import RAN, Outcome, ask
from backhand.derivations.cases import draw_case
from backhand.derivations.diagnosis import TOLERANCE, Diagnosis, Verdict, diagnose
from backhand.derivations.drawing import draws_of, first_draw, verify, with_classes, with_parameters
from backhand.derivations.layouts import Draw, Layout, readings
from backhand.derivations.loading import RefusedError
from backhand.derivations.matching import Key, Match, matches
from backhand.derivations.mistakes import COMMON_FACTOR
from backhand.derivations.question import Question
from backhand.derivations.scales import CLOSE, differences, fit, learning_rates, networks, slopes, usual_scales
from backhand.derivations.search import ENOUGH
from backhand.derivations.steps import Case, derive
from backhand.derivations.templates import template

SIZES = (7, 4, 5, 3)
DRAWS = 3
DRAWS_OF_ONE = 8  # where every size is 1, and a draw gives one number a gradient
# How many of the readings that run are run on every draw, and how many of these are judged. A vector of all
# parameters runs in every one.
RUNNING, READINGS = 24, 4
# How far an attempt got that left a gradient that is no number.
RETURNED = 10 * RAN
# How an activation is spelled besides its name.
SPELLED = {"relu": ("maximum", "ReLU", "clip", "clamp", "where"), "sigmoid": ("exp",)}


@dataclass(frozen=True)
class Settings:
    """The network that is named, and how it is drawn.

    Attributes:
        network, criterion, weight: as in `Case`.
        hidden: the sizes of the hidden layers.
        sizes: B, D, …, C, or None for the ordinary ones.
        seed: of the draws.
        deadline: until when further readings are tried, by `time.monotonic`.
    """

    network: Network
    criterion: Criterion
    weight: Tensor | None
    hidden: tuple[int, ...]
    sizes: tuple[int, ...] | None
    seed: int
    deadline: float


@dataclass(eq=False)
class Attempt:
    """One reading that runs, on one set of draws.

    Attributes:
        layout: the reading of what is given.
        variant: which of the readings of what is returned.
        match: of the first draw.
        case, draws: what it was given.
        found: by parameter, its gradient of all draws together (K, …).
        float32: whether it computes in float32.
        fixed: whether it cannot be run on other draws.
        exact: whether its scale is no convention: it was handed the gradient of what it returned.
        truth: by parameter, the central differences of its own loss, where it has one.
        diagnosis: what is wrong.
        scale: the loss that it is right for.
        notes: what is to be said of the reading.
        transposed: whether every weight's gradient was turned round, because all of them lie across their weights.
        single: the same for one sample, where it is right for one alone.
    """

    layout: Layout
    variant: int
    match: Match
    case: Case
    draws: list[Draw]
    found: dict[Key, Tensor] = field(default_factory=dict)
    float32: bool = False
    fixed: bool = False
    exact: bool = False
    truth: dict[Key, Tensor] | None = None
    diagnosis: Diagnosis = field(default_factory=lambda: Diagnosis({}))
    scale: str = ""
    notes: list[str] = field(default_factory=list)
    transposed: bool = False
    single: "Attempt | None" = None

    @property
    def right(self) -> bool:
        """Whether nothing is wrong with what was found."""
        return self.diagnosis.right and not self.match.shapes

    @property
    def simple(self) -> bool:
        """Whether one mistake explains everything."""
        return self.diagnosis.explained and self.diagnosis.cost <= 1 and not self.match.shapes

    @property
    def order(self) -> tuple[Any, ...]:
        """The best attempt comes first."""
        return (
            not (self.right and not self.match.missing),
            not self.right,
            not self.diagnosis.explained,
            self.diagnosis.cost + len(self.match.shapes),
            len(self.match.missing),
        )


class Judge:
    """Tries the readings of a question."""

    def __init__(self, question: Question, settings: Settings) -> None:
        self.question, self.settings = question, settings
        self.depth = len(settings.hidden) + 1
        self.stopped = RefusedError("", -1)
        self.stopped_at_first: RefusedError | None = None  # with the first sizes alone
        self.out_of_time = False
        self.cases: dict[Any, tuple[Case, list[Draw]]] = {}

    def best(self) -> tuple[Attempt, list[Attempt]]:
        """The reading that fits best, judged, and the others that run.

        Raises:
            RefusedError: no reading runs; of the one that got furthest. Or nothing explains what ran, and there was no
                time for the others.
        """
        attempts: list[Attempt] = []
        for sizes in self.all_sizes():
            attempts = sorted([*attempts, *self.readings_of(sizes)], key=lambda each: each.order)
            self.stopped_at_first = self.stopped_at_first or self.stopped
            # The others are tried until one explains it, where the ordinary sizes do not run or a product lies across.
            if attempts and (attempts[0].right or attempts[0].simple or not _lies_across(attempts[0])):
                break
        if not attempts:
            raise RefusedError(self._refusal(), self.stopped.depth)
        best, *others = attempts
        if self.settings.sizes is None and best.case.B > 1 and not best.right and _may_be_single(best):
            # What is wrong with a batch may be meant for one sample at a time.
            single = self.readings_of((1, *best.draws[0].sizes[1:]))[:1]
            if single and single[0].right and not single[0].match.missing:
                best.single = single[0]
            elif single and single[0].order < best.order:
                best, others = single[0], [best, *others]
        doubtful = not best.diagnosis.explained or _may_be_single(best)
        if self.out_of_time and not best.right and best.single is None and doubtful:
            raise RefusedError(self._refusal(), self.stopped.depth)
        return best, others

    def readings_of(self, sizes: tuple[int, ...]) -> list[Attempt]:
        """The readings that run with these sizes, judged, the best one first."""
        own_classes = LOSSES[self.settings.criterion.name].target == "classes"
        targets = (
            [["classes", "values", "classes from 1"]]
            if own_classes
            else [["values"], ["one-hot", "classes", "classes from 1"]]
        )
        judged: list[Attempt] = []
        for some in targets if sizes[-1] > 1 else [["values", "(N,)"]]:
            most = 4 * RUNNING if self.question.has_argument("unrolled") else RUNNING
            running = list(islice((each for each in self.attempts(sizes, some) if self.complete(each)), most))
            right = [
                each for each in running if not each.match.missing and not each.match.shapes and self.is_right(each)
            ]
            # Class numbers for a loss of values broadcast to nonsense: that reading can only acquit.
            decided = {each.layout for each in right}  # of one call, gradients or steps
            likely = [] if judged else sorted((e for e in running if e.layout not in decided), key=self.unlike)
            for each in [*right, *likely][:READINGS]:
                judged.append(self.judged(each))
                # One mistake that explains everything shows that it was read rightly; to search the others takes time.
                if judged[-1].simple and not right:
                    break
            if right:
                break
        return sorted(judged, key=lambda each: each.order)

    # What a derivation is given.

    def all_sizes(self) -> list[tuple[int, ...]]:
        """The sizes to try, the ordinary ones first: the same everywhere, one output, one sample, one of everything."""
        if self.settings.sizes is not None:
            return [self.settings.sizes]
        H = self.settings.hidden
        ones, fours = (1,) * len(H), (4,) * len(H)
        sizes = [(7, 4, *H, 3), (7, 4, *fours, 4), (7, 4, *H, 1), (1, 4, *H, 3), (1, 4, *H, 1), (1, 1, *ones, 1)]
        return [each for each in sizes if each[-1] > 1 or self.settings.network.output_activation != "softmax"]

    def other_sizes(self, attempt: Attempt) -> tuple[int, ...] | None:
        """Sizes on which a right derivation must be right, too; a call may have the first ones written in it."""
        B, D, *hidden, C = attempt.draws[0].sizes
        if B == 1 and all(size == 1 for size in (D, *hidden, C)):
            return None
        call = self.question.call
        more = B if B == 1 else B + 3 if SIZES[0] != B else B - 2
        if call is not None and any(character.isdigit() for character in re.sub(r"[A-Za-z_]\w*", "", call)):
            return None if B == 1 else (more, D, *hidden, C)
        return more, D + 2, *(size + 2 for size in hidden), C if C == 1 else C + 1

    def drawn(
        self, sizes: tuple[int, ...], biases: tuple[bool, ...], classes: bool, like: Case | None = None
    ) -> tuple[Case, list[Draw]]:
        """The case of these sizes, and its draws; with `classes` each row of y is a one and zeros.

        The network is the named one's, or that of the case `like`.
        """
        s = self.settings
        network, criterion, slope = s.network, s.criterion, None
        if like is not None:
            network, criterion, slope = like.network, like.criterion, like.slope
        key = (sizes, biases, classes, network, criterion, slope)
        if key not in self.cases:
            draws = DRAWS_OF_ONE if all(size == 1 for size in sizes) else DRAWS
            case = draw_case(network, criterion, s.weight, sizes, s.seed, draws=draws, biases=biases, slope=slope)
            case = with_classes(case) if classes else case
            if slope is None:
                verify(case)
            self.cases[key] = case, list(draws_of(case))
        return self.cases[key]

    def again(self, attempt: Attempt, sizes: tuple[int, ...], penalty: float = 0.0) -> Attempt | None:
        """The same reading with other sizes or with a penalty, judged; None where it does not run."""
        biases = tuple(b is not None for b in attempt.case.biases)
        classes = attempt.case.C > 1 and bool((attempt.case.rows.sum(-1) == 1).all())
        case, draws = self.drawn(sizes, biases, classes, attempt.case)
        other = Attempt(attempt.layout, attempt.variant, attempt.match, case, draws)
        return self.judged(other, penalty) if self.complete(other, penalty) else None

    def kinds(self) -> list[str]:
        """What arrays may be made of, by what the file imports."""
        uses_torch, uses_numpy = self.question.source.imports("torch"), self.question.source.imports("numpy")
        if uses_torch:
            return ["torch", *(["numpy"] if uses_numpy else []), "torch with requires_grad"]
        return ["numpy"] if uses_numpy else ["lists", "numpy"]

    # The readings.

    def attempts(self, sizes: tuple[int, ...], targets: Sequence[str]) -> list[Attempt]:
        """Every reading that runs on the first draw and leaves some gradient, without those that give the same."""
        own_classes = LOSSES[self.settings.criterion.name].target == "classes"
        # With one of everything arrays hide every slip in a shape, so only plain numbers are tried then by itself.
        numbers_alone = self.settings.sizes is None and all(size == 1 for size in sizes)
        patterns = []
        for way in self.question.ways():
            biases = self.question.biases(way)
            patterns.append((way, biases, False))
            if (self.question.statements is None and not any(biases)) or self.question.has_argument("unrolled"):
                patterns.append((way, (True,) * self.depth, True))
        found: list[Attempt] = []
        seen: dict[str, Attempt] = {}
        for way, pattern, folded in patterns:
            for reading in readings(self.kinds(), sizes, targets, folded, any(pattern)):
                layout = replace(reading, **way)
                if time.monotonic() > self.settings.deadline:
                    self.out_of_time = True
                    break
                if numbers_alone and layout.samples != "number":
                    continue
                case, draws = self.drawn(sizes, pattern, own_classes or layout.target not in ("values", "(N,)"))
                for variant, match in enumerate(self.tried(draws[0], layout, pattern)):
                    signature = _signature(match)
                    if signature not in seen:
                        seen[signature] = Attempt(layout, variant, match, case, draws)
                        found.append(seen[signature])
                    elif layout.samples == "vector":  # what a vector does for as well is written for one sample
                        seen[signature].layout = layout
        return sorted(found, key=lambda each: (bool(each.match.shapes), -each.match.complete))

    def tried(self, draw: Draw, layout: Layout, pattern: Sequence[bool]) -> list[Match]:
        """What one call leaves, in its readings; none where it stops, which is noted."""
        try:
            outcome = ask(self.question, draw, layout)
        except RefusedError as error:
            self.stop(error)
            return []
        if outcome is None:
            return []
        found = self.matched(outcome, draw, layout, pattern)
        if not found:
            what = ", ".join(leaf.label or "a number" for leaf in outcome.leaves[:6]) or "nothing with numbers in it"
            text = f"no gradient and no stepped weight was found in what it returned ({what})"
            if self.question.call is not None and outcome.leaves:
                text += "; end the call with the gradients by name: dict(dW1=…, db1=…, …)"
            self.stop(RefusedError(f"{self.question.source.path}: {text}", RAN))
        return found

    def matched(self, outcome: Outcome, draw: Draw, layout: Layout, pattern: Sequence[bool]) -> list[Match]:
        """The readings of what a call left."""
        layers = range(1, self.depth + 1)
        expected = [(kind, layer) for layer in layers for kind in "Wb" if kind == "W" or pattern[layer - 1]]
        return list(matches(outcome.leaves, draw, layout, expected, self.question.has_argument("rate")))

    def complete(self, attempt: Attempt, penalty: float = 0.0) -> bool:
        """Run the attempt on every draw; False where it stops or leaves something else on one."""
        pattern = [b is not None for b in attempt.case.biases]
        before: list[Draw] | list[None] = [None] * len(attempt.draws)
        if attempt.case.previous is not None:
            before = list(draws_of(attempt.case.previous))
        stacks: dict[Key, list[Tensor]] = {}
        for draw, previous in zip(attempt.draws, before, strict=True):
            try:
                outcome = ask(self.question, draw, attempt.layout, penalty, previous)
            except RefusedError as error:
                self.stop(error)
                return False
            several = self.matched(outcome, draw, attempt.layout, pattern) if outcome else []
            if outcome is None or len(several) <= attempt.variant:
                return False
            attempt.float32 |= outcome.float32
            for key, value in several[attempt.variant].found.items():
                stacks.setdefault(key, []).append(torch.from_numpy(np.array(value, dtype=np.float64)))
        for key, each in stacks.items():
            if len(each) == len(attempt.draws) and len({value.shape for value in each}) == 1:
                attempt.found[key] = torch.stack(each)
        for key, stack in attempt.found.items():
            if bad := int((~stack[0].isfinite()).sum()):
                label = attempt.match.labels.get(key, "")
                name = label if label.isidentifier() else self.quantity(key)  # an expression would be no name
                what = f"{name} has {bad} numbers that are NaN or infinite"
                self.stop(RefusedError(f"{self.question.source.path}: {what}", RETURNED, own=True))
                return False
        return any(kind == "W" for kind, _ in attempt.found)

    def stop(self, error: RefusedError) -> None:
        """Keep the error of the reading that got furthest; of those that got as far, the first."""
        if error.depth > self.stopped.depth:
            self.stopped = error

    def is_right(self, attempt: Attempt) -> bool:
        """Whether the gradients are the named network's up to one constant: a cheap test of a reading."""
        right = derive(attempt.case)
        pairs = [(value, right[self.quantity(key)]) for key, value in attempt.found.items() if key[0] in "Wb"]
        if any(value.shape != expected.shape for value, expected in pairs):
            return False
        ours, theirs = (torch.cat([each[which].flatten() for each in pairs]) for which in (1, 0))
        factor = (ours * theirs).sum() / ours.square().sum().clamp(min=1e-300)
        return bool((theirs - factor * ours).norm() <= TOLERANCE["float32"] * theirs.norm()) and float(factor) > 0

    def not_of_the_weights(self, attempt: Attempt) -> str:
        """Why its numbers say nothing of a derivation: they are random, or the same for all weights; or empty."""
        draw = attempt.draws[0]
        other = replace(
            draw, W=tuple(W + 0.25 for W in draw.W), b=tuple(None if b is None else b + 0.25 for b in draw.b)
        )
        moved = self._labelled(attempt, with_parameters(attempt.case, other))
        first, again, *seeded = (self._labelled(attempt, draw, seed) for seed in (None, None, 0, 0))
        if first is None or again is None or moved is None:
            return ""
        if not _same(first, again):
            # Numbers may also depend on the order of a set, as in a wrong traversal of a graph; that is no excuse.
            is_drawn = _same(*seeded) or self.question.source.mentions("default_rng")
            return "two equal calls give different random numbers; seed them, or turn that off" if is_drawn else ""
        if _same(first, moved):
            given = "the numbers that it returns are the same whatever weights it is given, so it makes its own"
            return f"{given}; write its gradients as a function of x, y and the weights"
        return ""

    def _labelled(self, attempt: Attempt, draw: Draw, seed: int | None = None) -> list[np.ndarray] | None:
        """What one call leaves under the names of the gradients; None where it stops."""
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
        try:
            outcome = ask(self.question, draw, attempt.layout)
        except RefusedError:
            return None
        labels = {*attempt.match.labels.values()}
        found = [] if outcome is None else [leaf for leaf in outcome.leaves if leaf.label in labels]
        returned = [leaf for leaf in found if leaf.origin == "returned"]
        return [leaf.value for leaf in returned or found] or None

    def other_network(self, attempt: Attempt) -> str:
        """The settings of another network that the gradients are right for; empty where there is none.

        It is told only of a derivation that computes its own forward pass, and is given none of the named network's.
        """
        if self.question.is_given_forward:
            return ""
        case, source = attempt.case, self.question.source
        others = [(each, settings) for each, settings in networks(case, source) if settings]
        if not case.y.is_floating_point():  # a loss of values takes rows
            rows = networks(replace(case, y=case.rows), source)
            same = case.network.hidden_activation
            others += [
                (each, settings) for each, settings in rows if settings and each.network.hidden_activation == same
            ]
        return next((settings for each, settings in others if self.is_right(replace(attempt, case=each))), "")

    def other_activation(self, attempt: Attempt) -> str:
        """Another hidden activation, of those that the file's text speaks of, for which the catalogue explains it."""
        case, source = attempt.case, self.question.source
        named = case.network.hidden_activation
        if self.question.is_given_forward or case.depth == 1 or not isinstance(named, str):
            return ""
        for g, each in ACTIVATIONS.items():
            if g != named and each.hidden and not each.flat and source.mentions(g, *SPELLED.get(g, ())):
                other = replace(case, network=replace(case.network, hidden_activation=g), slope=None)
                if self.judged(replace(attempt, case=other, notes=[])).diagnosis.explained:
                    return g
        return ""

    def scaled_inputs(self, attempt: Attempt) -> tuple[Case, str] | None:
        """The case with the inputs that its forward pass makes of x, such as x / 255, where it is right for these."""
        if self.question.is_given_forward or self.is_right(attempt):
            return None
        # What a 2 does is also done by mistakes, and it is in most files.
        for number in {*self.question.source.numbers()} - {0.0, 1.0, 2.0}:
            for text, scale in ((f"x / {number:g}", 1 / number), (f"{number:g} x", number)):
                case = replace(attempt.case, x=scale * attempt.case.x)
                if self.is_right(replace(attempt, case=case)):
                    return case, f"its inputs are {text}"
        return None

    def clipping(self, attempt: Attempt) -> str:
        """How the gradients are clipped, where they are the right ones but for that; empty where they are not."""
        right = derive(attempt.case)
        pairs = [(value, right[self.quantity(key)]) for key, value in attempt.found.items() if key[0] in "Wb"]
        if not pairs or any(value.shape != expected.shape for value, expected in pairs):
            return ""
        tolerance = 10 * TOLERANCE["float32" if attempt.float32 else "float64"]
        draws = len(attempt.draws)
        found, expected = (torch.cat([each[i].reshape(draws, -1) for each in pairs], 1) for i in (0, 1))
        limit = found.abs().max()
        below = (found.abs() < (1 - tolerance) * limit) & (expected.abs() > 0)
        factors = [*self.allowed(attempt, usual_scales(attempt.case)).values()]
        if not factors and bool(below.any()):  # a step at an unknown rate
            factors = [float((found / expected)[below].median())]
        for c in factors:
            wanted = c * expected
            clamped = wanted.clamp(-limit, limit)
            both = int(below.sum()) >= ENOUGH and int((~below).sum()) >= ENOUGH
            if both and bool((found - clamped).norm() <= tolerance * clamped.norm()):
                return f"each number is clipped to ±{float(limit):.4g}"
            for text, parts in (
                ("each gradient is scaled to a norm", [(value, c * other) for value, other in pairs]),
                ("all gradients together are scaled to a norm", [(found, wanted)]),
            ):
                norms = [(value.flatten(1).norm(dim=1), other.flatten(1).norm(dim=1)) for value, other in parts]
                most = torch.stack([theirs for theirs, _ in norms]).max()
                scaled = [
                    other * ((most / norm).clamp(max=1)).reshape(-1, *[1] * (other.dim() - 1))
                    for (_, other), (_, norm) in zip(parts, norms, strict=True)
                ]
                if sum(int((norm > most).sum()) for _, norm in norms) > 1 and all(
                    bool((value - other).norm() <= tolerance * other.norm())
                    for (value, _), other in zip(parts, scaled, strict=True)
                ):
                    return f"{text} of at most {float(most):.4g}"
        return ""

    def unlike(self, attempt: Attempt) -> float:
        """How little the gradients point where the right ones do; what is wrong in the right reading is still near."""
        right = derive(attempt.case)
        total = 0.0
        for key, value in attempt.found.items():
            expected = right[self.quantity(key)]
            if key[0] in "Wb" and value.shape == expected.shape and value.norm() > 0:
                total += abs(float((value * expected).sum() / value.norm() / expected.norm().clamp(min=1e-300)))
        return len(attempt.match.shapes) + len(attempt.match.missing) - total

    # The verdict.

    def judged(self, attempt: Attempt, penalty: float = 0.0) -> Attempt:
        """The attempt with its diagnosis: by its own loss where it has one, else up to the scale of the loss."""
        scales: dict[str, float] = {"": 1.0} if attempt.exact else usual_scales(attempt.case)
        unknown = not attempt.exact and (penalty > 0 or not self.question.has_argument("penalty"))
        penalties: Any = None if unknown else 0.0
        if not attempt.fixed and (own := self.own_loss(attempt, penalty)) is not None:
            attempt.truth, attempt.float32 = own
            fitted = self.fitted(attempt)
            if fitted is None:
                attempt.notes.append("its loss is not that of the network that is named, so no mistake can be named")
                attempt.diagnosis = self.by_differences(attempt)
                return attempt
            attempt.case, scale, penalties = fitted
            scales = {"": scale}
        elif scaled := self.scaled_inputs(attempt):
            attempt.case, note = scaled
            attempt.notes.append(note)
        factors = self.allowed(attempt, scales)
        found = {self.quantity(key): value for key, value in attempt.found.items()}
        tolerance = TOLERANCE["float32" if attempt.float32 else "float64"]
        best = attempt.case
        for number, slope in enumerate([attempt.case.slope] if attempt.truth else slopes(best, self.question.source)):
            case = replace(best, slope=slope)
            diagnosis = diagnose(case, found, tolerance, tuple(factors.values()), penalties)
            if number == 0 or diagnosis.right:
                attempt.diagnosis, attempt.case = diagnosis, case
            if diagnosis.right:
                break
        attempt.scale = next(iter(self.scales_of(attempt, factors)), "")
        findings, c = attempt.diagnosis.findings, attempt.diagnosis.factor
        if findings and findings[0].names[0] == COMMON_FACTOR:
            self.tell_batch_size(attempt, factors)
        if findings and all(each.names[0] == "factor 2 extra" for each in findings):
            # Which half is wrong depends on the loss that is meant.
            rest = ", ".join(name for name, each in attempt.diagnosis.verdicts.items() if each.status == "right")
            for text, factor in factors.items():
                if rest and abs(factor - 2 * c) <= 1e-5 * abs(c):
                    attempt.notes.append(f"or, if {text} is meant, a factor 2 is missing in {rest}")
                    break
        if not attempt.right and not attempt.transposed and _all_transposed(attempt):
            turned = {key: value.mT if key[0] == "W" else value for key, value in attempt.found.items()}
            other = self.judged(replace(attempt, found=turned, transposed=True), penalty)
            return other if other.right else attempt
        return attempt

    def tell_batch_size(self, attempt: Attempt, factors: Mapping[str, float]) -> None:
        """Say of a common factor that it is a number of samples of the file's own, where it is that."""
        diagnosis, B = attempt.diagnosis, attempt.case.B
        first, *others = diagnosis.findings
        common = diagnosis.common * diagnosis.factor
        for number in self.question.source.numbers():
            fits = [each for each in factors.values() if abs(each * B - common * number) <= 1e-5 * abs(each * B)]
            if number > 1 and number.is_integer() and number != B and fits:
                text = f"the gradients are divided by {number:g}, a number of the file, where B is {B}"
                diagnosis.sentences = [each.replace(first.text, text) for each in diagnosis.sentences]
                diagnosis.findings = [replace(first, text=text), *others]
                return

    def own_loss(self, attempt: Attempt, penalty: float) -> tuple[dict[Key, Tensor], bool] | None:
        """The central differences of its own loss on the first draw; None where it has none, or stops."""
        try:
            own = differences(
                attempt.case, attempt.draws[0], lambda draw: ask(self.question, draw, attempt.layout, penalty)
            )
        except RefusedError:
            return None
        return None if own is None else (own[0], own[1] or attempt.float32)

    def fitted(self, attempt: Attempt) -> tuple[Case, float, dict[str, float]] | None:
        """The network whose gradients its loss's differences are, up to a scale and penalties, and these."""
        assert attempt.truth is not None
        for case, other in networks(attempt.case, self.question.source):
            right = derive(first_draw(case))
            found = fit(attempt.truth, {key: right[self.quantity(key)] for key in attempt.truth}, attempt.draws[0])
            if found.miss < CLOSE[attempt.float32] and found.scale > 0:
                attempt.notes += [f"its loss is that of another network: {other}"] if other else []
                return case, found.scale, {self.quantity(key): value for key, value in found.penalty.items()}
        return None

    def by_differences(self, attempt: Attempt) -> Diagnosis:
        """Each gradient of the first draw against the differences of its own loss alone."""
        assert attempt.truth is not None
        pairs = {key: (attempt.found[key][0], value) for key, value in attempt.truth.items() if key in attempt.found}
        factor = 1.0
        if attempt.match.steps and not attempt.match.known_rate:
            same = [(a, b) for a, b in pairs.values() if a.shape == b.shape]
            factor = sum(float((a * b).sum()) for a, b in same)
            factor /= max(sum(float(b.square().sum()) for _, b in same), 1e-300)
        verdicts = {}
        for key, (theirs, right) in sorted(pairs.items(), key=lambda each: -each[0][1]):
            name = self.quantity(key)
            error = cosine = None
            if theirs.shape == right.shape:
                error = float((theirs - factor * right).norm() / (factor * right).norm().clamp(min=1e-300))
                cosine = float((theirs * right).sum() / (theirs.norm() * right.norm()).clamp(min=1e-300))
            near = error is not None and error < CLOSE[attempt.float32]
            shapes = (1, *theirs.shape), (1, *right.shape)  # with an axis for the draws
            verdicts[name] = Verdict(name, *shapes, error, cosine, "right" if near else "wrong")
        wrong = [name for name, verdict in verdicts.items() if verdict.status == "wrong"]
        return Diagnosis(verdicts, [], not wrong, [f"{name} is not the derivative of its loss." for name in wrong])

    def allowed(self, attempt: Attempt, scales: Mapping[str, float]) -> dict[str, float]:
        """The factors that all gradients may have in common; none stands for any (a step at an unknown rate)."""
        if attempt.match.steps:
            return dict(scales) if attempt.match.known_rate else {}
        if attempt.exact:
            return dict(scales)
        rates = learning_rates(self.question.source, self.depth)
        inside = {
            f"{text}, times {name} = {rate:g}": rate * scale
            for name, rate in rates.items()
            for text, scale in scales.items()
        }
        return {**scales, **inside}

    def scales_of(self, attempt: Attempt, factors: Mapping[str, float] | None = None) -> list[str]:
        """The losses that the gradients are right for."""
        factors = self.allowed(attempt, usual_scales(attempt.case)) if factors is None else factors
        own = attempt.diagnosis.factor
        return [text for text, factor in factors.items() if abs(factor - own) <= 1e-5 * abs(factor)]

    def quantity(self, key: Key) -> str:
        """Its name in a diagnosis."""
        kind, layer = key
        if kind == "x":
            return "dx"
        return f"{'delta' if kind == 'z' else 'd' + kind}_{labels(self.depth)[layer - 1]}"

    def _refusal(self) -> str:
        if (layers := self.question.layers) > self.depth:
            hidden = ",".join(f"H{layer}" for layer in range(1, layers))
            what = f"has {layers} layers of weights, and the network that is named has {self.depth}"
            return f"{self.question.source.path}: {what}; give the sizes of its hidden layers: model.hidden=[{hidden}]"
        if self.out_of_time:
            text = "there was no time to try every reading of its arguments; give it more, with time_limit=…"
            furthest = f"; so far: {self.stopped}" if str(self.stopped) else ""
            return f"{self.question.source.path}: {text}{furthest}"
        text = str(self.stopped)
        if self.question.call is None and not self.stopped.own and "call=" not in text:
            function = self.question.function
            spelled = [argument.arg for argument in function.args.args if argument.arg != "self"] if function else []
            text += f"; say how it is called: {template(self.question, self.question.name, spelled)}"
        return text


def _same(first: Sequence[np.ndarray] | None, second: Sequence[np.ndarray] | None) -> bool:
    return first is not None and second is not None and all(map(np.array_equal, first, second))


def _all_transposed(attempt: Attempt) -> bool:
    """Whether each weight's gradient has its weight's shape the other way round: a custom, and no slip."""
    pairs = [
        (tuple(value.shape[1:]), tuple(attempt.case.weights[layer - 1].shape[1:]))
        for (kind, layer), value in attempt.found.items()
        if kind == "W"
    ]
    return all(shape == own[::-1] for shape, own in pairs) and any(shape != own for shape, own in pairs)


def _lies_across(attempt: Attempt) -> bool:
    """Whether a weight's gradient has another shape than the weight: with the same size everywhere it may be named."""
    return any(
        name.startswith("dW") and each.shape != each.expected for name, each in attempt.diagnosis.verdicts.items()
    )


def _may_be_single(attempt: Attempt) -> bool:
    """Whether it may be meant for one sample: no bias is summed, or nothing explains a shape."""
    diagnosis = attempt.diagnosis
    unsummed = {finding.quantity for finding in diagnosis.findings if "bias not summed" in finding.names}
    biases = {name for name in diagnosis.verdicts if name.startswith("db_")}
    misshapen = any(verdict.shape != verdict.expected for verdict in diagnosis.verdicts.values())
    return misshapen and (not diagnosis.explained or (bool(biases) and biases <= unsummed))


def _signature(match: Match) -> str:
    """The same for readings that give the same numbers."""
    numbers = [f"{key}{value.shape}{np.round(value, 9).tobytes().hex()}" for key, value in sorted(match.found.items())]
    return f"{match.steps}{sorted(match.shapes)}{sorted(match.missing)}" + "".join(numbers)
