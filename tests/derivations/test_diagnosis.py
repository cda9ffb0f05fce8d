"""The mistake finder against derivations that were written, and spoiled, by somebody else's hand."""

from dataclasses import replace
from functools import cache
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.calculus.settings import FITTING, HIDDEN_ACTIVATIONS, LOSSES
from tests.derivations.spoiled import EDITS, LOSS, OF_SCALE, SQUARE, G, build, deep_edits

from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.chain import layers
from backhand.derivations.cases import SIZES, different, draw_case
from backhand.derivations.diagnosis import Diagnosis, diagnose
from backhand.derivations.mistakes import catalogue, in_delta
from backhand.derivations.steps import Case, derive, quantities

ROOT = Path(__file__).resolve().parents[2]
# Those with a derivative: behind a flat one δ ends, and nothing is left to spoil.
SLOPED = [g for g in HIDDEN_ACTIVATIONS if g in G]
# A few of every kind for the quick run; the slow one takes them all.
SOME = [
    ("tanh", "softmax", "cross_entropy"),
    ("relu", "identity", "mse"),
    ("gelu", "sigmoid", "binary_cross_entropy"),
    ("sigmoid", "tanh", "huber"),
]


def called(function, batch: Case) -> dict:
    """What the function returns for a batch, or for each of several draws."""
    if batch.x.dim() > 2:
        each = [called(function, batch.draw(k)) for k in range(len(batch.x))]
        return {name: np.stack([found[name] for found in each]) for name in each[0]}
    parameters = [each for pair in zip(batch.weights, batch.biases, strict=True) for each in pair if each is not None]
    return function(*(t.numpy().copy() for t in (batch.x, batch.rows, *parameters)))


def judged(case: Case, function, scale: float = 1.0, **allowed) -> Diagnosis:
    found = judged_numbers(case, function)
    return diagnose(
        case, {name: scale * torch.from_numpy(np.asarray(value)) for name, value in found.items()}, **allowed
    )


@cache
def cases(g: str, f: str, loss: str) -> dict[bool, Case]:
    """One with sizes that all differ, one with D = H = C."""
    network, criterion = Network(g, f), Criterion(loss)
    return {square: draw_case(network, criterion, sizes=SQUARE if square else SIZES) for square in (False, True)}


def changes_the_result(case: Case, right, wrong) -> bool:
    first, second = (judged_numbers(case, function).values() for function in (right, wrong))
    return any(
        np.shape(a) != np.shape(b) or np.linalg.norm(a - b) > 1e-6 * np.linalg.norm(a)
        for a, b in zip(first, second, strict=True)
    )


def judged_numbers(case: Case, function) -> dict[str, np.ndarray]:
    called(function, case.previous)
    return called(function, case)


def named(diagnosis: Diagnosis, quantity: str, text: str) -> bool:
    """Whether one mistake is named, in the right place and in these words; those with the same numbers count, too."""
    if len(diagnosis.findings) != 1 or not diagnosis.explained:
        return False
    finding = diagnosis.findings[0]
    return text in finding.text and finding.quantity in (quantity, "all")


def applies(old: str, new: str, f: str, loss: str) -> bool:
    """Whether there can be such an edit: cross-entropy is no mean over the outputs, and not every f′ is one of ŷ."""
    return not (new == f"{old} * C" and loss == "cross_entropy") and not (
        "f_of" in new and f not in ("sigmoid", "tanh")
    )


def score(combinations_: list[tuple[str, str, str]], everything: bool) -> tuple[dict[str, list[int]], list[str]]:
    """For each mistake, how many spoiled derivations were judged and how many named rightly; and what was missed."""
    counts: dict[str, list[int]] = {}
    missed = []
    for g, f, loss in combinations_:
        case_of = cases(g, f, loss)
        right = build(g, f, loss, everything=everything)
        for name, old, new, quantity, text, square in EDITS:
            if not applies(old, new, f, loss):
                continue
            wrong = build(g, f, loss, (old, new), everything=everything)
            if not changes_the_result(case_of[square], right, wrong):
                continue
            tried = counts.setdefault(name, [0, 0])
            tried[0] += 1
            diagnosis = judged(case_of[square], wrong)
            if named(diagnosis, quantity, text):
                tried[1] += 1
            else:
                missed.append(f"{g}, {f}, {loss}: {name}: {[finding.text for finding in diagnosis.findings]}")
    return counts, missed


def table(counts: dict[str, list[int]]) -> str:
    """The counts as they stand in the docs."""
    lines = ["| mistake | derivations | named |", "|---|---|---|"]
    lines += [f"| {name} | {tried} | {right} |" for name, (tried, right) in counts.items()]
    total = [sum(each) for each in zip(*counts.values(), strict=True)]
    return "\n".join([*lines, f"| all | {total[0]} | {total[1]} |"]) + "\n"


@pytest.mark.parametrize(
    "everything",
    [pytest.param(True, id="with deltas", marks=pytest.mark.stress), pytest.param(False, id="gradients alone")],
)
@pytest.mark.parametrize("combination", SOME, ids=" ".join)
def test_each_mistake_is_named(combination, everything):
    counts, missed = score([combination], everything)
    assert sum(tried for tried, _ in counts.values()) >= 25
    assert not missed


@pytest.mark.stress
def test_at_least_95_percent_of_all_mistakes_are_named_and_the_docs_say_how_many():
    # Every pair of output and loss behind two hidden activations, which take turns, so that each is behind ten pairs.
    turns = [(SLOPED[(i + k) % len(SLOPED)], *pair) for k in (0, 5) for i, pair in enumerate(FITTING)]
    counts, missed = score(turns, everything=False)
    total = sum(tried for tried, _ in counts.values())
    assert total >= 20 * len(turns)
    assert len(missed) <= 0.05 * total, missed[:20]
    assert table(counts) in (ROOT / "docs" / "gradcheck.md").read_text(), table(counts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "g", [g if g in ("tanh", "relu", "silu") else pytest.param(g, marks=pytest.mark.stress) for g in SLOPED]
)
def test_a_right_derivation_is_never_accused(g):
    for f, loss in FITTING:
        for square, everything in product((False, True), (False, True)):
            diagnosis = judged(cases(g, f, loss)[square], build(g, f, loss, everything=everything))
            assert diagnosis.right, (f, loss)
            assert not diagnosis.findings
            assert not diagnosis.sentences


@pytest.mark.parametrize(("g", "f", "loss"), SOME)
def test_a_mean_taken_in_the_gradients_is_no_mistake(g, f, loss):
    changes = [
        ("dloss(yhat, y)", "dloss(yhat, y) * B"),
        ("h.T @ delta_O", "h.T @ delta_O / B"),
        ("delta_O.sum(0)", "delta_O.mean(0)"),
        ("x.T @ delta_I", "x.T @ delta_I / B"),
        ("delta_I.sum(0)", "delta_I.mean(0)"),
    ]
    diagnosis = judged(cases(g, f, loss)[False], build(g, f, loss, *changes))
    assert diagnosis.right
    assert {name for name, verdict in diagnosis.verdicts.items() if verdict.status == "convention"} == {
        "delta_O",
        "delta_I",
    }
    # Without a gradient that takes it, the mean is missing.
    alone = diagnose(cases(g, f, loss)[False], {"delta_O": derive(cases(g, f, loss)[False])["delta_O"] * 7})
    assert alone.findings[0].names[0] == "mean over the batch missing"
    # And who forgets it in one line alone is told of that line.
    del changes[-1]
    diagnosis = judged(cases(g, f, loss)[False], build(g, f, loss, *changes))
    assert [(finding.quantity, finding.names[0]) for finding in diagnosis.findings] == [
        ("db_I", "mean over the batch missing")
    ]
    assert diagnosis.verdicts["delta_O"].status == "convention"


@pytest.mark.stress
@pytest.mark.parametrize("everything", [True, False], ids=["with deltas", "gradients alone"])
def test_two_mistakes_at_once_are_both_named(everything):
    g, f, loss = "sigmoid", "tanh", "mse"
    case = cases(g, f, loss)[False]
    edits = [edit for edit in EDITS if not edit[5] and "updated" not in edit[0] and "stale" not in edit[0]]
    tried = right = 0
    for a, b in combinations(edits, 2):
        if a[1] == b[1] or a[1] in b[1] or b[1] in a[1] or b[1] in a[2]:
            continue
        try:
            diagnosis = judged(case, build(g, f, loss, (a[1], a[2]), (b[1], b[2]), everything=everything))
        except ValueError:  # the shapes of the two do not fit each other
            continue
        texts = " ".join(finding.text for finding in diagnosis.findings)
        tried += 1
        right += diagnosis.explained and (len(diagnosis.findings) == 1 or (a[4] in texts and b[4] in texts))
    assert tried > 150
    assert right >= 0.95 * tried


@pytest.mark.parametrize(
    ("changes", "quantities_", "texts"),
    [
        (
            [("chain(v, z_O)", "v"), ("u * dg(z_I)", "u * dg(h)"), ("delta_I.sum(0)", "delta_I.mean(0)")],
            ["delta_O", "delta_I", "db_I"],
            ["f′(z_O) is missing", "g′ is taken at h", "averaged"],
        ),
        (
            [
                ("chain(v, z_O)", "v"),
                ("delta_O @ W_O.T", "delta_O @ (W_O - 0.1 * dW_O).T"),
                ("dg(z_I)", "dg(z_I) ** 2"),
            ],
            [],
            [],
        ),
        (
            [("delta_O @ W_O.T", "delta_O @ (W_O - 0.1 * dW_O).T"), ("dg(z_I)", "dg(z_I) ** 2")],
            ["delta_I", "delta_I"],
            ["W_O has already been updated", "g′(z_I) is there twice"],
        ),
        (
            [("h.T @ delta_O", "z_I.T @ delta_O"), ("delta_O @ W_O.T", "delta_O @ dW_O.T")],
            ["dW_O", "delta_I"],
            ["z_I is used instead of h", "dW_O is used instead of W_O"],
        ),
    ],
    ids=["two deltas and a gradient", "three in the deltas", "two in one delta", "of a gradient that is wrong itself"],
)
def test_two_mistakes_in_the_deltas_are_named_and_three_are_not_guessed(changes, quantities_, texts):
    g, f, loss = "sigmoid", "tanh", "mse"
    diagnosis = judged(cases(g, f, loss)[False], build(g, f, loss, *changes, everything=False))
    assert diagnosis.explained == bool(texts)
    found = [(each.quantity, each.text) for each in diagnosis.findings if texts]
    assert [quantity for quantity, _ in found] == quantities_
    assert all(text in said for text, (_, said) in zip(texts, found, strict=True))


def test_each_draw_has_its_own_mean_over_the_weights_of_its_samples():
    weight = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    case = draw_case(Network("tanh", "softmax"), Criterion("cross_entropy"), weight, draws=3)
    case = replace(case, y=case.y.clamp(max=torch.tensor([[2], [1], [0]])))
    right = derive(case)
    assert len(set(case.N.tolist())) > 1
    gradients = ("dW_O", "db_O", "dW_I", "db_I")
    assert diagnose(case, {name: right[name] for name in gradients}).right
    summed = {name: torch.stack([n * each for n, each in zip(case.N, right[name], strict=True)]) for name in gradients}
    assert diagnose(case, summed).findings[0].names[0] == "mean over the batch missing"


def test_what_only_follows_is_said_to_follow():
    g, f, loss = "sigmoid", "tanh", "mse"
    diagnosis = judged(cases(g, f, loss)[False], build(g, f, loss, ("chain(v, z_O)", "v")))
    assert diagnosis.sentences == [
        "dW_O, db_O, dW_I and db_I are wrong because delta_O is: the factor f′(z_O) is missing; "
        "everything after it is right."
    ] or diagnosis.sentences[0].endswith("the factor f′(z_O) is missing; everything after it is right.")
    assert diagnosis.verdicts["dW_I"].cause == "follows from delta_O"
    assert diagnosis.verdicts["delta_O"].cause == "derivative left out"


def test_a_mistake_of_no_catalogue_is_not_given_a_name():
    g, f, loss = "sigmoid", "tanh", "mse"
    case = cases(g, f, loss)[False]
    for line, quantity, place in (
        ("h.T @ (delta_O * np.array([[1], [1], [0], [1], [1], [1], [1]]))", "dW_O", "sample 2 counts 0 times"),
        ("h.T @ delta_O * np.array([1, 1, 3])", "dW_O", "column 2 alone"),
        ("0.37 * h.T @ delta_O", "dW_O", "0.37 times the right one"),
        ("h.T @ delta_O + np.cos(W_O * 7)", "dW_O", "spread over 15 of 15 entries"),
    ):
        diagnosis = judged(case, build(g, f, loss, ("h.T @ delta_O", line)))
        assert not diagnosis.explained
        assert not diagnosis.findings
        (sentence,) = diagnosis.sentences
        assert sentence.startswith(f"{quantity} is wrong, and neither one mistake")
        assert place in sentence
        assert [name for name, verdict in diagnosis.verdicts.items() if verdict.status == "wrong"] == [quantity]


def test_what_follows_rightly_from_an_unknown_delta_is_said_to():
    g, f, loss = "sigmoid", "tanh", "mse"
    wrong = build(g, f, loss, ("chain(v, z_O)", "chain(v, z_O) + 0.1 * np.cos(7 * z_O)"))
    diagnosis = judged(cases(g, f, loss)[False], wrong)
    assert not diagnosis.explained
    assert "right for that delta_O" in diagnosis.sentences[0]
    assert diagnosis.verdicts["dW_I"].cause == "follows from delta_O"


def test_a_whole_gradient_that_is_a_step_late_is_recognised():
    g, f, loss = "tanh", "softmax", "cross_entropy"
    case = cases(g, f, loss)[False]
    diagnosis = diagnose(case, {name: derive(case.previous)[name] for name in ("dW_I", "db_I", "dW_O", "db_O")})
    assert diagnosis.findings[0].names == ("gradient of the previous step",)


@pytest.mark.parametrize(
    ("loss", "parameters", "name"),
    [
        ("cross_entropy", {"label_smoothing": 0.1}, "label_smoothing forgotten"),
        ("cross_entropy", {"class_weight": [1.0, 2.0, 4.0]}, "class_weight forgotten"),
        ("binary_cross_entropy", {"pos_weight": [3.0, 3.0, 3.0]}, "pos_weight forgotten"),
        ("huber", {"huber_delta": 0.3}, "huber_delta forgotten"),
    ],
)
def test_a_forgotten_parameter_of_the_loss_is_named(loss, parameters, name):
    f = LOSSES[loss].matched
    weight = next((torch.tensor(v, dtype=torch.float64) for v in parameters.values() if isinstance(v, list)), None)
    numbers = tuple((k, v) for k, v in parameters.items() if not isinstance(v, list))
    case = draw_case(Network("tanh", f), Criterion(loss, numbers), weight)
    assert f in ("identity", "sigmoid", "softmax")
    assert loss in LOSS
    diagnosis = judged(case, build("tanh", f, loss))
    assert len(diagnosis.findings) == 1
    assert name in diagnosis.findings[0].names


@pytest.mark.slow
@pytest.mark.parametrize(
    "everywhere",
    [pytest.param(False, id="in one network"), pytest.param(True, id="in each", marks=pytest.mark.stress)],
)
def test_every_entry_of_the_catalogue_is_found_where_it_changes_a_number(everywhere):
    # The catalogue against itself: no entry hides another one, and none is out of reach.
    reached = set()
    for g, f, loss in [*SOME, ("relu", "relu", "poisson_nll"), ("elu", "selu", "l1"), ("tanh", "softmax", "mse")]:
        for case in cases(g, f, loss).values():
            right = derive(case)
            for mistake in catalogue(2):
                if not mistake.applies(case) or ((mistake.name, mistake.step) in reached and not everywhere):
                    continue
                try:
                    wrong = derive(case, (mistake,), amount=0.1)
                except RuntimeError:  # the shapes do not allow it
                    continue
                changed = any(
                    wrong[name].shape != right[name].shape or not torch.allclose(wrong[name], right[name], rtol=1e-6)
                    for name in quantities(2)
                )
                if not changed or not all(wrong[name].isfinite().all() for name in quantities(2)):
                    continue
                diagnosis = diagnose(case, {name: wrong[name] for name in quantities(2)})
                assert len(diagnosis.findings) == 1, (g, f, loss, mistake.name, diagnosis.findings)
                assert mistake.name in diagnosis.findings[0].names
                reached.add((mistake.name, mistake.step))
    for mistake in catalogue(2):
        conditional = mistake.name.endswith(("forgotten", "by the weights"))  # has a test of its own
        assert conditional or (mistake.name, mistake.step) in reached, mistake.name


@pytest.mark.slow
@pytest.mark.parametrize(("g", "f", "loss"), [pytest.param(*SOME[0], marks=pytest.mark.smoke), *SOME[1:]])
def test_each_mistake_in_each_of_three_layers_is_named(g, f, loss):
    case = draw_case(Network(g, f), Criterion(loss), sizes=(7, 4, 5, 6, 3))
    right = build(g, f, loss, deep=True)
    assert judged(case, right).right
    tried, missed = 0, []
    for old, new, quantity, text in deep_edits():
        wrong = build(g, f, loss, (old, new), deep=True)
        if changes_the_result(case, right, wrong):
            tried += 1
            diagnosis = judged(case, wrong)
            if not named(diagnosis, quantity, text):
                missed.append((new, [finding.text for finding in diagnosis.findings]))
    assert tried >= 25
    assert not missed


def test_a_mistake_in_every_layer_is_named_in_each():
    # As a loop makes it: the same wrong line for all hidden layers.
    case = draw_case(Network("tanh", "softmax"), Criterion("cross_entropy"), sizes=(7, 4, 5, 6, 8, 3))
    for name in ("derivative left out", "derivative at the output", "weight already updated"):
        loop = [each for each in catalogue(4) if each.name == name and not each.layer.is_last and each.step[:2] != "dW"]
        loop = [each for each in loop if not each.step.startswith("db")]
        wrong = derive(case, loop, amount=0.1)
        diagnosis = diagnose(
            case, {quantity: wrong[quantity] for quantity in quantities(4) if quantity[:2] in ("dW", "db")}
        )
        assert [(each.quantity, each.names[0]) for each in diagnosis.findings] == [
            (f"delta_{i}", name) for i in (3, 2, 1)
        ]
        assert diagnosis.explained


def test_a_network_without_a_hidden_layer_and_one_of_one_unit():
    case = draw_case(Network("tanh", "softmax"), Criterion("cross_entropy"), sizes=(7, 4, 3))
    right = derive(case)
    delta = case.yhat - case.rows
    assert diagnose(case, {"dW_O": case.x.mT @ delta / 7, "db_O": delta.sum(0) / 7, "dx": right["dx"]}).right
    diagnosis = diagnose(case, {"dW_O": case.x.mT @ delta / 7, "db_O": delta.sum(0) / 49})
    assert [(each.quantity, each.names[0]) for each in diagnosis.findings] == [("db_O", "averaged")]


@pytest.mark.parametrize(
    "draws", [pytest.param(None, id="one draw", marks=pytest.mark.slow), pytest.param(3, id="draws")]
)
def test_each_mistake_is_named_without_biases_and_in_several_draws(draws):
    g, f, loss = "sigmoid", "tanh", "mse"
    for biases in (False, True):
        case = draw_case(Network(g, f), Criterion(loss), draws=draws, biases=biases)
        right = build(g, f, loss, everything=False, biases=biases)
        assert judged(case, right).right
        for name, old, new, quantity, text, square in EDITS:
            late = "LAST" in new and draws  # the draws are called one after another
            if square or late or (not biases and ("sum" in old or "b_" in new)):
                continue
            wrong = build(g, f, loss, (old, new), everything=False, biases=biases)
            if not changes_the_result(case, right, wrong):
                continue
            diagnosis = judged(case, wrong)
            assert named(diagnosis, quantity, text), (name, diagnosis.sentences)
            assert diagnosis.findings[0].right != diagnosis.findings[0].yours


@pytest.mark.parametrize("biases", [True, False])
def test_in_a_network_of_single_units_draws_tell_the_mistakes_apart(biases):
    # One draw of one unit is one number, which anything may be a factor of.
    g, f, loss = "sigmoid", "sigmoid", "mse"
    case = draw_case(Network(g, f), Criterion(loss), sizes=(1, 1, 1, 1), draws=6, biases=biases)
    assert judged(case, build(g, f, loss, everything=False, biases=biases)).right
    changes = [
        ("h.T @ delta_O", "W_O * delta_O"),
        ("x.T @ delta_I", "W_I * delta_I"),
        ("delta_O @ W_O.T", "v @ W_O.T"),
    ]
    for scale, allowed in ((1.0, (1.0,)), (0.1, ())):
        wrong = build(g, f, loss, *changes, everything=False, biases=biases)
        diagnosis = judged(case, wrong, scale, factors=allowed)
        assert diagnosis.explained
        assert [each.quantity for each in diagnosis.findings] == ["dW_O", "delta_I", "dW_I"]
        texts = ("W_O is used instead of h", "it is built from ∂L/∂ŷ", "W_I is used instead of x")
        assert all(text in each.text for text, each in zip(texts, diagnosis.findings, strict=True))
    for old, new, quantity, text in (
        ("u * dg(z_I)", "u", "delta_I", "g′(z_I) is missing"),
        ("chain(v, z_O)", "v", "delta_O", "f′(z_O) is missing"),
        ("u * dg(z_I)", "u * dg(h)", "delta_I", "g′ is taken at h"),
        ("h.T @ delta_O", "z_I.T @ delta_O", "dW_O", "z_I is used instead of h"),
        ("delta_O @ W_O.T", "delta_O", "delta_I", "the factor W_Oᵀ is missing"),
        ("chain(v, z_O)", "f_of(yhat - y)", "delta_O", "taken of the error ŷ − y, not of ŷ, and stands alone"),
    ):
        wrong = build(g, f, loss, (old, new), everything=False, biases=biases)
        assert named(judged(case, wrong, factors=(1.0, 0.5)), quantity, text), new


def scale_of(case: Case, loss: str) -> list[float]:
    """What the gradients may have in common, as the loss is a sum or a mean, and of what."""
    B, C = case.B, case.C
    of_mean = B if loss == "cross_entropy" else B * C
    return [k * of_mean * n for k in (1, 2, 0.5) for n in (1, 1 / B, 1 / C, 1 / (B * C))]


@pytest.mark.parametrize(
    ("g", "f", "loss"),
    [SOME[3], *(pytest.param(*each, marks=pytest.mark.stress) for each in SOME[:3])],
)
@pytest.mark.slow
@pytest.mark.parametrize(
    "which",
    [pytest.param(0, marks=pytest.mark.smoke), *(pytest.param(n, marks=pytest.mark.stress) for n in (5, 7, None))],
)
def test_a_factor_that_all_gradients_have_in_common_is_a_convention(g, f, loss, which):
    case_of = cases(g, f, loss)
    right = build(g, f, loss, everything=False)
    scales = scale_of(case_of[False], loss)
    missed = []
    for scale in scales if which is None else [scales[which]]:
        for allowed in ((), tuple(scales)):
            diagnosis = judged(case_of[False], right, scale, factors=allowed)
            assert diagnosis.right
            assert diagnosis.factor == pytest.approx(scale)
            for name, old, new, quantity, text, square in EDITS:
                wrong = build(g, f, loss, (old, new), everything=False)
                if not applies(old, new, f, loss) or not changes_the_result(case_of[square], right, wrong):
                    continue
                diagnosis = judged(case_of[square], wrong, scale, factors=allowed)
                if name in OF_SCALE and not allowed:
                    assert diagnosis.right
                elif name not in OF_SCALE and "returned" not in name:
                    # The amount is what stands in the program; of steps of unknown size, in their proportion.
                    said = text.replace("times 0.01", f"times {0.01 * scale if allowed else 0.01:.3g}")
                    if not named(diagnosis, quantity, said):
                        missed.append((scale, allowed, name, diagnosis.sentences))
    assert not missed


@pytest.mark.parametrize(
    ("scale", "allowed", "text"),
    [
        (0.37, (1.0,), "everything is 0.37 times the right one"),
        (-1.0, (1.0, 7.0), "its sign is flipped"),
        (-1.0, (), "its sign is flipped"),
        (1 / 49, (1.0, 1 / 7), "the mean over the batch is taken once too often"),
    ],
)
def test_a_factor_that_is_no_convention_is_said(scale, allowed, text):
    g, f, loss = "sigmoid", "tanh", "mse"
    diagnosis = judged(cases(g, f, loss)[False], build(g, f, loss, everything=False), scale, factors=allowed)
    assert not diagnosis.right
    assert named(diagnosis, "delta_O", text)


PENALTIES = {
    # What is added to dW_I, dW_O, db_I, db_O; the penalty that is right; and what is said.
    "right": ((0.2, 0.2, 0, 0), 0.2, []),
    "of each": ((0.2, 0.3, 0, 0), {"dW_I": 0.2, "dW_O": 0.3}, []),
    "unknown": ((0.2, 0.2, 0, 0), None, []),
    "unknown, none": ((0, 0, 0, 0), None, []),
    "half": ((0.1, 0.1, 0, 0), 0.2, ["W_O is added with half the coefficient", "W_I is added with half"]),
    "twice": ((0.2, 0.4, 0, 0), 0.2, ["W_O is added with twice the coefficient λ that the loss asks for"]),
    "another": ((0.2, 0.3, 0, 0), 0.2, ["W_O is added with 1.5 times the coefficient"]),
    "subtracted": ((0.2, -0.2, 0, 0), 0.2, ["λ W_O is subtracted"]),
    "missing": ((0, 0, 0, 0), 0.2, ["λ W_O is missing", "λ W_I is missing"]),
    "of a bias": ((0.2, 0.2, 0.2, 0), 0.2, ["regularisation: the bias b_I is added, times 0.2"]),
    "of a bias, unknown": ((0.2, 0.2, 0, 0.2), None, ["regularisation: the bias b_O is added, times 0.2"]),
    "in one layer": ((0.2, 0, 0, 0), None, ["W_I is added, times 0.2"]),
    "in one layer, none expected": ((0.2, 0, 0, 0), 0.0, ["W_I is added, times 0.2"]),
}


@pytest.mark.parametrize("mistake", [False, True], ids=["", "and g′ left out"])
@pytest.mark.parametrize("scale", [1.0, 7.0])
@pytest.mark.parametrize("kind", PENALTIES)
def test_a_penalty_is_right_where_the_loss_has_it(kind, scale, mistake):
    added, penalty, texts = PENALTIES[kind]
    g, f, loss = "sigmoid", "tanh", "mse"
    case = cases(g, f, loss)[False]
    changes = [("u * dg(z_I)", "u")] if mistake else []
    found = {name: torch.from_numpy(v) for name, v in judged_numbers(case, build(g, f, loss, *changes)).items()}
    tensors = zip(added, ("dW_I", "dW_O", "db_I", "db_O"), (*case.weights, *case.biases), strict=True)
    gradients = {name: scale * (found[name] + p * tensor) for p, name, tensor in tensors}
    diagnosis = diagnose(case, gradients, factors=(1.0, 7.0), penalty=penalty)
    shown = [each.text for each in diagnosis.findings if each.names[0] != "derivative left out"]
    assert len(diagnosis.findings) == len(texts) + mistake
    assert diagnosis.explained
    assert diagnosis.right == (not texts and not mistake)
    assert diagnosis.factor == scale
    assert diagnosis.penalty == pytest.approx(added[1] if penalty is None else 0.0)
    if scale == 1:
        assert all(text in said for text, said in zip(texts, shown, strict=True)), shown


def test_leaky_relu_may_have_a_slope_of_its_own():
    case = draw_case(Network("leaky_relu", "softmax"), Criterion("cross_entropy"), slope=0.2)
    mine = [("= g(z_I)", "= np.where(z_I > 0, z_I, 0.2 * z_I)"), ("u * dg(z_I)", "u * np.where(z_I > 0, 1, 0.2)")]
    assert judged(case, build("leaky_relu", "softmax", "cross_entropy", *mine)).right


def test_of_several_draws_the_first_that_is_wrong_is_named():
    case = draw_case(Network("tanh", "softmax"), Criterion("cross_entropy"), draws=3)
    found = {name: derive(case)[name].clone() for name in ("dW_O", "db_O")}
    found["dW_O"][1, 2] += 1
    diagnosis = diagnose(case, found)
    assert not diagnosis.explained
    assert "in draw 1, the error sits in row 2 alone" in diagnosis.sentences[0]


def test_the_forms_of_a_mistake_are_told_apart_so_that_a_deep_network_has_few_single_mistakes():
    """Else each form in one layer goes with each form of the same mistake in the next, and they grow without limit."""
    for layer in layers(4)[1:]:
        forms = [(mistake.name, mistake.variant, mistake.step) for mistake in in_delta(layer)]
        assert len(set(forms)) == len(forms)
    network, criterion = Network("tanh", "identity"), Criterion("mse")
    three, six = (different(draw_case(network, criterion, sizes=(7, *[4] * n))) for n in (4, 7))
    assert six < 6 * three  # a mistake may begin and end in any layer, so they grow as the square of the depth


def test_every_entry_has_the_right_line_and_another_one():
    for sizes in ((7, 4, 3), (7, 4, 5, 3), (7, 4, 5, 6, 3)):
        case = draw_case(Network("sigmoid", "sigmoid"), Criterion("mse"), sizes=sizes)
        for mistake in catalogue(len(sizes) - 2):
            if not mistake.applies(case):
                continue
            right, yours = mistake.formulas(case, 0.1)
            assert right != yours, (mistake.name, right)
            assert right.split(" = ")[0] == yours.split(" = ")[0]
            assert not set("{}«»") & set(yours)
