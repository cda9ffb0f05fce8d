"""What is told of a judged derivation: the verdict first, then the table, then why."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from backhand.calculus.chain import layers
from backhand.derivations.answer import Answer
from backhand.derivations.diagnosis import SAME, Diagnosis, Finding, Verdict
from backhand.derivations.judging import Attempt, Judge
from backhand.derivations.matching import Key
from backhand.derivations.mistakes import COMMON_FACTOR
from backhand.derivations.names import meaning
from backhand.derivations.steps import derive, with_mean
from backhand.derivations.wording import Words

PENALTY = 0.1
OVER_CLASSES = (
    "A mean over the C outputs is unusual for this loss: does y.shape[1] stand where y.shape[0], the samples, belongs?"
)
LONGEST_NAME = 24  # of what somebody calls a quantity: a longer one is an expression
NEAR = 0.01  # the error of a gradient that is that of a loss with another small number in it
MOMENTUM = ("momentum", "beta", "beta1", "mu", "velocity", "nesterov", "v")
NOT_JUDGED = "Not judged: "
EVIDENCE = "It is evidence at random points, not a proof."


def tell(judge: Judge, best: Attempt, others: Sequence[Attempt] = ()) -> Answer:
    """The answer for the best attempt."""
    labels = {judge.quantity(key): label for key, label in best.match.labels.items()}
    words = Words(judge.question, best.case, best.layout, labels, best.match.steps)
    problem, remarks = _elsewhere(judge, best) if best.right and not best.fixed else ("", [])
    if best.truth is not None and abs(best.diagnosis.factor - 1) > 1e-5:
        _say_of_its_loss(best, "" if problem else next(iter(judge.scales_of(best)), ""))
    shapes = _shapes(judge, best)
    answer = Answer("wrong", "", _context(judge, best))  # `_elsewhere` sets the diagnosis of where it is wrong
    answer.rows = [_row(name, verdict, words, shapes) for name, verdict in best.diagnosis.verdicts.items()]
    if best.right and not problem:
        _tell_right(answer, judge, best)
    else:
        _tell_wrong(answer, judge, best, words, shapes, problem)
    ran_with = {each.draws[0].sizes for each in (best, *others)} if judge.settings.sizes is None else set()
    _restrict(answer, judge, best, ran_with)
    answer.remarks += _remarks(judge, best) + remarks
    answer.remarks += [] if problem else _disagreeing(best, others)
    only_one = bool(ran_with) and all(sizes[0] == 1 for sizes in ran_with)
    if only_one and best.layout.samples != "number" and str(judge.stopped):
        answer.remarks.append(f"It was judged with one sample; with more it stops: {judge.stopped}")
        if answer.status == "right" and best.layout.samples != "vector":
            sizes = _list(best.draws[0].sizes)
            answer.status = "unjudged"
            answer.headline = (
                f"Right for one sample, but it does not run with several: if one is meant, say sizes=[{sizes}]."
            )
    if answer.headline.startswith(NOT_JUDGED):
        answer.context, answer.rows, answer.sentences = [], [], []
    return answer


def _missing(judge: Judge, best: Attempt) -> str:
    return ", ".join(judge.quantity(key) for key in best.match.missing)


def _tell_right(answer: Answer, judge: Judge, best: Attempt) -> None:
    """Say that what was found is right."""
    missing = _missing(judge, best)
    answer.status = "unjudged" if missing else "right"
    answer.headline = (
        f"Right as far as it goes: {', '.join(best.diagnosis.verdicts)}. Not judged, because not found: {missing}."
        if missing
        else f"Right{_scale(best)}."
    )
    answer.remarks.append(EVIDENCE)
    if not best.case.mean_over_outputs and ("1/C" in best.scale or "1/(B C)" in best.scale):
        answer.remarks.append(OVER_CLASSES)


def _tell_wrong(
    answer: Answer, judge: Judge, best: Attempt, words: Words, shapes: Mapping[str, str], problem: str
) -> None:
    """Say what is wrong and why, or that it cannot be judged after all.

    Args:
        answer: is given its headline and sentences.
        judge: that judged it.
        best: the attempt.
        words: somebody's own.
        shapes: what is wrong with the shape of a gradient, by its name.
        problem: what `_elsewhere` found; empty where it is wrong here.
    """
    diagnosis = best.diagnosis
    first = diagnosis.findings[0] if diagnosis.findings else None
    if problem:
        answer.headline = f"Wrong: {problem}"
    elif first is not None:
        where = "" if first.quantity == "all" else f"{_named(first.quantity, words)}: "
        more = len(diagnosis.findings) + len(shapes) - 1
        answer.headline = f"Wrong: {where}{first.text}" + (f"; and {more} more" if more else "") + "."
    elif shapes:
        answer.headline = f"Wrong: {next(iter(shapes.values()))}."
    else:
        wrong = [_named(name, words) for name, verdict in diagnosis.verdicts.items() if verdict.status == "wrong"]
        answer.headline = f"Wrong: {', '.join(wrong)}; no mistake of the catalogue fits."
    once = first.text.partition(SAME)[0] if first else ""  # the headline has what gives the same numbers
    said = [text.replace(first.text, once) if first and not problem else text for text in diagnosis.sentences]
    answer.sentences = [text.replace("delta_", "δ_") for text in said]
    answer.sentences += [f"{text}." for text in shapes.values()]
    right = [name for name, verdict in diagnosis.verdicts.items() if verdict.status == "right"]
    for finding in diagnosis.findings:
        answer.sentences += _lines(finding, words, right)
        if finding.penalty and finding.quantity.startswith("dW"):
            answer.sentences.append(f"       λ = {_in_arguments(judge, best, finding.penalty)}")
    if not diagnosis.explained and not problem and not best.fixed:
        answer.sentences += _smallest(judge, best)
    if missing := _missing(judge, best):
        answer.remarks.append(f"Expected and not found: {missing}.")
    if not problem and (doubt := _doubt(judge, best)):
        answer.status, answer.headline = "unjudged", f"{NOT_JUDGED}{doubt}"


def _say_of_its_loss(best: Attempt, scale: str) -> None:
    """Have each finding be true of the file's own loss, which is the named one's in another scale.

    Args:
        best: the attempt.
        scale: of `usual_scales`, the loss; empty where it is none of them.
    """
    known = re.match(r"L = (?:1/(\(B C\)|[BC]) )?(½ |2 |)Σ", scale)
    mean, number = known.groups("") if known else ("", "another")
    ours = with_mean(" / N", best.case.criterion.loss.mean_over)
    texts = {
        "factor 2 missing": (not number, "a factor 2 is missing"),
        "mean over the batch missing": ("B" in mean, "there is a factor B too many"),
        "sum over the outputs, not the mean": ("C" in mean, "there is a factor C too many"),
        "sum over samples and outputs, not the mean": (mean == "(B C)", "there is a factor B C too many"),
    }
    diagnosis = best.diagnosis
    for place, finding in enumerate(diagnosis.findings):
        is_true, other = texts.get(finding.names[0], (True, ""))
        text = finding.text if is_true else other
        lines = [finding.right, finding.yours]
        if lines[0].startswith("∂L/∂ŷ = "):
            can_be_told = number == "" or (number == "½ " and all("2 (ŷ" in each for each in lines))
            if not can_be_told or not all(each.endswith(ours) for each in lines):
                lines = ["", ""]
            lines = [each.removesuffix(ours) + (f" / {mean}" if each and mean else "") for each in lines]
            lines = [re.sub(r"(· )?2 \(ŷ", "(ŷ", each, count=1) if number else each for each in lines]
        diagnosis.sentences = [each.replace(finding.text, text) for each in diagnosis.sentences]
        diagnosis.findings[place] = replace(finding, text=text, right=lines[0], yours=lines[1])


def _restrict(answer: Answer, judge: Judge, best: Attempt, ran_with: set[tuple[int, ...]]) -> None:
    """Say for which sizes and layout alone the verdict holds; a right one is none then.

    Args:
        answer: is restricted.
        judge: that judged it.
        best: the attempt.
        ran_with: the sizes with which it ran; empty where the user gave them.
    """
    _, *rest = best.draws[0].sizes
    stopped = judge.stopped_at_first
    if ran_with and stopped and all(len(set(sizes[1:])) == 1 < sizes[1] for sizes in ran_with):
        stops = f"it stops with unequal sizes: {stopped}"
        if answer.status == "right":
            answer.status = "unjudged"
            answer.headline = f"Right where all layers have {rest[0]} units; {stops}"
        elif best.diagnosis.explained:
            answer.remarks.append(f"It was judged with {rest[0]} units in all layers; {stops}")
        else:
            answer.status = "unjudged"
            place, _, error = str(stopped).partition(": ")
            answer.headline = (
                f"{NOT_JUDGED}{place} stops with layers of unequal sizes: {error}; is a transpose missing, or one too "
                f"many? Where all layers have {rest[0]} units it runs, but nothing explains its numbers."
            )
    if best.transposed and best.right:
        handed = judge.question.call is not None and (".T" in judge.question.call or "transpose" in judge.question.call)
        if answer.status == "right" and not handed:
            answer.status = "unjudged"
            answer.headline = f"Right but for the layout: each weight's gradient lies across its weight{_scale(best)}."
        answer.remarks.append(
            "Each weight's gradient has the shape of its weight the other way round: a step needs it transposed."
        )
    if best.single is not None:
        sizes = _list(best.single.draws[0].sizes)
        batch = _list(best.draws[0].sizes)
        answer.remarks.append(
            f"Say which is meant: sizes=[{sizes}] for one sample at a time, sizes=[{batch}] for a batch."
        )
        answer.status = "unjudged"
        answer.headline = (
            f"Right for one sample at a time; for a batch {answer.headline[0].lower()}{answer.headline[1:]}"
        )


def _remarks(judge: Judge, best: Attempt) -> list[str]:
    """What else is to be known of the way in which it was judged."""
    remarks = [_sentence(note) for note in best.notes]
    if best.case.slope is not None:
        remarks.append(
            f"Its leaky ReLU has a slope of its own, {best.case.slope:g}; model.hidden_activation=leaky_relu has 0.01. "
            "It was judged with its own."
        )
    added = best.diagnosis.penalty * best.diagnosis.factor
    if added and not any(each.penalty for each in best.diagnosis.findings if each.quantity.startswith("dW")):
        remarks.append(f"A penalty is in it: {added:.6g} times the weight is added to each weight's gradient.")
    remarks += [_sentence(note) for note in judge.question.notes]
    if name := judge.question.penalty_left_out:
        remarks.append(
            f"{name} was left at its default; with {name}={PENALTY:g} in the call the penalty is judged, too."
        )
    if best.right and judge.question.has_argument("weights"):
        remarks.append(f"It was asked with model.hidden={_hidden(best)}; other depths are not judged.")
    if judge.question.has_argument("epochs"):
        remarks.append("It was run for one epoch; what it keeps from one epoch to the next is not judged.")
    return remarks


def _context(judge: Judge, best: Attempt) -> list[str]:
    network, case = best.case.network, best.case
    g = network.hidden_activation
    hidden = f"g {g if isinstance(g, str) else ', '.join(g)}, " if judge.depth > 1 else ""
    sizes = (case.B, case.x.shape[-1], *(W.shape[-1] for W in case.weights))
    letters = ("B", "D", "H", "C") if judge.depth == 2 else ("B", "D", *(f"H_{i}" for i in range(1, judge.depth)), "C")
    said = ", ".join(f"{letter}={size}" for letter, size in zip(letters, sizes, strict=True))
    steps = "; weights that were stepped, so the gradient is (old − new) / rate" if best.match.steps else ""
    loss = "; compared with central differences of its own loss" if best.truth is not None else ""
    draws = "1 draw" if len(best.draws) == 1 else f"{len(best.draws)} draws"
    return [
        f"{hidden}f {network.output_activation}, L {case.criterion.name}; {said}; {draws}",
        f"{_layout(best)}{steps}{loss}",
    ]


def _layout(attempt: Attempt) -> str:
    """The reading of what is given in words, without what the network does not have."""
    has_biases = any(b is not None for b in attempt.case.biases)
    return attempt.layout.said() if has_biases else attempt.layout.said().replace(f", biases {attempt.layout.bias}", "")


def _scale(best: Attempt) -> str:
    if best.truth is not None:
        return ", by central differences of its own loss"
    if best.match.steps and not best.match.known_rate:
        return ", if the learning rate is left open: the gradients have the right direction"
    added = best.diagnosis.penalty * best.diagnosis.factor
    penalty = f" + {added / 2:.4g} Σ W²" if added else ""
    return f", for {best.scale}{penalty}" if best.scale else ""


def _named(quantity: str, words: Words) -> str:
    ours = quantity.replace("delta_", "δ_")
    theirs = words.names.get(ours) or words.labels.get(quantity)
    return f"{ours} ({theirs})" if theirs and theirs != ours and len(theirs) <= LONGEST_NAME else ours


def _row(name: str, verdict: Verdict, words: Words, shapes: Mapping[str, str]) -> list[str]:
    shape = str(verdict.shape[1:]) + (f", not {verdict.expected[1:]}" if verdict.shape != verdict.expected else "")
    said = "wrong" if verdict.status == "wrong" or name in shapes else "right"
    cause = verdict.cause.replace("delta_", "δ_") or ("shape" if name in shapes else "")
    return [
        _named(name, words),
        shape,
        "" if verdict.error is None else f"{verdict.error:.1e}",
        "" if verdict.cosine is None else f"{verdict.cosine:+.4f}",
        said + (f": {cause}" if cause else ""),
    ]


def _shapes(judge: Judge, best: Attempt) -> dict[str, str]:
    said = {}
    for key, (theirs, right) in best.match.shapes.items():
        name = judge.quantity(key)
        n = right[0]
        hint = "keepdims=True is missing" if right == (n, 1) else "an axis too many is kept"
        said[name] = f"{name} has the shape {theirs} and its bias {right}, so that b − {name} has ({n}, {n}): {hint}"
    return said


def _lines(finding: Finding, words: Words, right_ones: Sequence[str]) -> list[str]:
    """The right line and theirs."""
    if not finding.right:
        return []
    right, yours = map(words.formula, words.averaged(finding.right, finding.yours, right_ones))
    shapes = words.shapes(finding.right)
    lines = [f"right: {right}" + (f"    [{shapes}]" if shapes else ""), f"yours: {yours}"] if right != yours else []
    if own := words.line(finding.quantity):
        lines.append(f"       {own}")
    return lines


def _elsewhere(judge: Judge, best: Attempt) -> tuple[str, list[str]]:
    """Where else it is wrong: with other sizes, or with a penalty; and what is to be remarked."""
    first = best.draws[0].sizes
    sizes = judge.other_sizes(best)
    other = judge.again(best, sizes) if sizes is not None else None
    if other is not None and not other.right and (limit := judge.clipping(other)):
        return "", [f"Above a limit it clips its gradients: {limit}. Those that it clips are not judged."]
    if other is not None and not other.right:
        best.diagnosis = other.diagnosis
        why = (other.diagnosis.sentences or ["the gradients are wrong"])[0]
        return f"it is right for the sizes {_list(first)}, but for {_list(other.draws[0].sizes)} {why}", []
    by_convention = not best.truth and not best.match.steps
    if other is not None and by_convention and not set(judge.scales_of(best)) & set(judge.scales_of(other)):
        said = f"{best.scale} for the sizes {_list(first)}, and of {other.scale} for {_list(other.draws[0].sizes)}"
        return f"its scale changes with the sizes: it is that of {said}.", []
    if judge.question.has_argument("penalty"):
        other = judge.again(best, first, PENALTY)
        if other is not None and not other.right and (amount := _l1(best, other)):
            return "", [f"With regularisation of {PENALTY:g} it has an L1 penalty: {amount:.3g} sign(W) is added."]
        if other is not None and not other.right:
            best.diagnosis = _with_arguments(judge, other)
            texts = [finding.text for finding in best.diagnosis.findings] or best.diagnosis.sentences
            return f"without regularisation it is right; with {PENALTY:g} {(texts or ['it is wrong'])[0]}.", []
        if other is not None:
            penalty = other.diagnosis.penalty * other.diagnosis.factor
            added = f": {penalty:.4g} W is added" if penalty else ""
            return "", [f"With regularisation of {PENALTY:g} it is right, too{added}."]
    return "", []


def _l1(without: Attempt, with_penalty: Attempt) -> float:
    """What an L1 penalty adds to each weight's gradient where its weight is positive; 0 where there is none."""
    amounts = []
    for (kind, layer), found in with_penalty.found.items():
        added = found - without.found[kind, layer] if (kind, layer) in without.found else found
        if kind == "W":
            amounts.append((added / with_penalty.case.weights[layer - 1].sign()).flatten())
        elif kind == "b" and bool((added.abs() > 1e-9).any()):
            return 0.0
    ratios = torch.cat(amounts)
    return float(ratios.mean()) if bool(((ratios - ratios.mean()).abs() <= 1e-6 * ratios.mean().abs()).all()) else 0.0


def _in_arguments(judge: Judge, attempt: Attempt, value: float) -> str:
    """A penalty's coefficient, by the argument that it is made of where it is that: `2 reg = 0.2`."""
    function = judge.question.function if judge.question.has_argument("penalty") else None
    names = [each.arg for each in (*function.args.args, *function.args.kwonlyargs)] if function else []
    kinds = {name: meaning(name, judge.depth, names) for name in names}
    name = next((each for each, means in kinds.items() if means is not None and means.kind == "penalty"), "")
    for text, factor in (("{}", 1.0), ("2 {}", 2.0), ("½ {}", 0.5), ("{}/B", 1 / attempt.case.B)):
        if name and abs(value - factor * PENALTY) <= 1e-4 * abs(value):
            return f"{text.format(name)} = {value:.3g}"
    return f"{value:.3g}"


def _with_arguments(judge: Judge, attempt: Attempt) -> Diagnosis:
    """The diagnosis with the coefficients of penalised biases by the argument that they are made of."""
    diagnosis = attempt.diagnosis
    for place, finding in enumerate(diagnosis.findings):
        number = f"{finding.penalty:.3g}"
        said = _in_arguments(judge, attempt, finding.penalty)
        if finding.quantity.startswith("db") and finding.penalty and said != number:
            text = finding.text.replace(f"times {number}", f"times {said}")
            yours = finding.yours.replace(f"{number} b_", f"{said.partition(' = ')[0]} b_")
            diagnosis.sentences = [each.replace(finding.text, text) for each in diagnosis.sentences]
            diagnosis.findings[place] = replace(finding, text=text, yours=yours)
    return diagnosis


def _doubt(judge: Judge, best: Attempt) -> str:
    """Why a wrong answer that nothing explains may come from a reading that is not meant; empty where it cannot."""
    common = [each.names[0] for each in best.diagnosis.findings] == [COMMON_FACTOR]
    if common and best.match.steps and judge.question.source.mentions(*MOMENTUM):
        return "the steps are right but for their size, as the first one of a momentum is; return the gradients."
    if best.diagnosis.explained or best.fixed:
        return ""
    if reason := judge.not_of_the_weights(best):
        return f"{reason}."
    if best.truth is not None:
        errors = [each.error for each in best.diagnosis.verdicts.values()]
        if judge.is_right(best) and all(error is not None and error < NEAR for error in errors):
            what = f"it is right for {best.case.criterion.name}, and its own loss is a little different"
            return f"{what}, as with an ε in a logarithm or a small penalty; without that it can be told."
        return ""
    weights = {name: each for name, each in best.diagnosis.verdicts.items() if name.startswith("dW")}
    misshapen = [name for name, each in weights.items() if each.shape != each.expected]
    if absent := [judge.quantity(key) for key in best.match.missing if key[0] == "W"]:
        return f"{', '.join(absent)} was not found, and nothing explains the rest; say how it is called, with call=."
    swapped = sorted(each.shape for each in weights.values()) == sorted(each.expected for each in weights.values())
    if misshapen and not swapped:  # two under each other's names are a mistake of the person's
        what = f"{', '.join(misshapen)} has another shape than its weight"
        return f"{what}, and nothing explains it; say how it is called, with call=."
    _, *rest = best.draws[0].sizes
    small = (B for B in range(1, min(4, best.case.B)) if (other := judge.again(best, (B, *rest))) and other.right)
    if best.match.steps and _has_right_signs(judge, best):
        same = "the steps have the signs of the right gradients and other sizes"
        return f"{same}, as those of RMSprop or Adam; return the gradients."
    if limit := judge.clipping(best):
        return f"right but for clipping: {limit}; return the gradients before that."
    if settings := judge.other_network(best):
        return f"it is right for another network: {settings}; say which is meant."
    if g := judge.other_activation(best):
        named, asked = best.case.network.hidden_activation, f"model.hidden_activation={g}"
        return f"as g = {named} nothing explains it, but with {asked} a known mistake does; ask again with that option."
    if best.match.steps and (B := next(small, 0)):
        samples = "one sample" if B == 1 else f"{B} samples"
        return f"it is right for {samples}, and with {best.case.B} it may take several steps; say sizes=[{B}, …]."
    return ""


def _has_right_signs(judge: Judge, best: Attempt) -> bool:
    """Whether each entry of each step has the sign of the right gradient's: a step of gradients that were rescaled."""
    right = derive(best.case)
    pairs = [(found, right[judge.quantity(key)]) for key, found in best.found.items() if key[0] in "Wb"]
    return all(found.shape == ours.shape and found.sign().equal(ours.sign()) for found, ours in pairs)


def _smallest(judge: Judge, best: Attempt) -> list[str]:
    """The smallest batch on which it is wrong, with numbers: of one sample, the first δ that is wrong."""
    if best.truth is not None and best.match.steps and not best.match.known_rate:
        return []  # a step along the differences of its loss, of unknown size
    _, *rest = best.draws[0].sizes
    for B in range(1, min(3, best.case.B) + 1):
        other = judge.again(best, (B, *rest))
        if other is None or other.right:
            continue
        expected = _expected(judge, other)
        if B == 1 and (said := _first_delta(judge, other, expected)):
            return [f"Even with one sample: {said}"]
        for key, ours in expected.items():
            name = judge.quantity(key)
            if key not in other.found or other.diagnosis.verdicts[name].status != "wrong":
                continue
            theirs = other.found[key][0]
            if theirs.shape != ours.shape or (theirs - ours).norm() <= 1e-6 * ours.norm():
                continue
            place = torch.unravel_index((theirs - ours).abs().argmax(), ours.shape)
            at, samples = _list([int(index) for index in place]), "one sample" if B == 1 else f"{B} samples"
            numbers = f"is {float(theirs[place]):.6g}, and should be {float(ours[place]):.6g}"
            return [f"Even with {samples}: {name}[{at}] {numbers}."]
        break
    return []


def _expected(judge: Judge, attempt: Attempt) -> dict[Key, Tensor]:
    """The right gradients of the first draw: the differences of its own loss where it has one."""
    if attempt.truth is not None:
        return attempt.truth
    right = derive(attempt.case)
    keys = [key for key in attempt.found if key[0] in "Wb"]
    return {key: attempt.diagnosis.factor * right[judge.quantity(key)][0] for key in keys}


def _first_delta(judge: Judge, one: Attempt, expected: Mapping[Key, Tensor]) -> str:
    """From the output down the first δ that is wrong, of one sample: the gradient of a weight is inputᵀ δ then."""
    above = None  # the right δ of the layer above
    for layer in layers(judge.depth):
        key, h = ("W", layer.index + 1), one.case.input(layer)[0]
        if key not in one.found or key not in expected or one.found[key][0].shape != expected[key].shape:
            return ""
        theirs, ours = (h @ dW / h.square().sum() for dW in (one.found[key][0], expected[key]))
        for delta, dW in ((theirs, one.found[key][0]), (ours, expected[key])):
            if (h.mT @ delta - dW).norm() > 1e-4 * dW.norm():
                return ""  # no product of the input with anything
        if (theirs - ours).norm() <= 1e-4 * ours.norm():
            above = ours
            continue
        said = f"{layer.symbol} is {_numbers(theirs[0])}, and should be {_numbers(ours[0])}."
        if above is not None:
            upstream = above @ one.case.W(layer.above)[0].mT
            product = f"{layer.above.symbol} {layer.above.W}ᵀ"
            said += f" That is {product} times {_numbers((theirs / upstream)[0])}, "
            said += f"where {layer.g}′({layer.z}) belongs: {_numbers((ours / upstream)[0])}."
        return said
    return ""


def _numbers(values: Tensor) -> str:
    """The first few of them."""
    rounded = [0.0 if abs(value) < 1e-9 else value for value in values[:6].tolist()]  # what differences leave of zero
    return f"({', '.join(f'{value:.4g}' for value in rounded)}{', …' if len(values) > 6 else ''})"


def _hidden(best: Attempt) -> str:
    return f"[{','.join(str(size) for size in best.draws[0].sizes[2:-1])}]"


def _sentence(note: str) -> str:
    """A sentence of half a one; a name that it begins with stays as it is written."""
    word = note.partition(" ")[0].rstrip(",")
    return f"{note}." if len(word) < 2 or not word.isalpha() else f"{note[0].upper()}{note[1:]}."


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _disagreeing(best: Attempt, others: Sequence[Attempt]) -> list[str]:
    """Another layout that runs as well and comes to another verdict; none where its own loss says: right."""
    said: list[str] = []
    if best.right and best.truth is not None:
        return said
    for other in others:
        same = _layout(other) == _layout(best)
        if other.match.complete >= best.match.complete and other.right != best.right and not same:
            verdict = "right" if other.right else "wrong"
            said.append(f"Read another way ({_layout(other)}) it runs as well, and is {verdict}.")
    return said[:1]
