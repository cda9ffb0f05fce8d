"""The mistake finder against derivations that were written, and spoiled, by somebody else's hand."""

from functools import cache
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.calculus.settings import FITTING, HIDDEN_ACTIVATIONS, LOSSES
from tests.checking.derivations import EDITS, LOSS, SQUARE, build

from backhand.calculus.backpropagation import Criterion, Network
from backhand.checking.cases import SIZES, draw_case
from backhand.checking.diagnosis import Diagnosis, diagnose
from backhand.checking.mistakes import IN_DELTA_I, IN_DELTA_O, IN_GRADIENTS
from backhand.checking.runner import QUANTITIES
from backhand.checking.steps import Case, derive

ROOT = Path(__file__).resolve().parents[2]
# A few of every kind for the quick run; the slow one takes them all.
SOME = [
    ("tanh", "softmax", "cross_entropy"),
    ("relu", "identity", "mse"),
    ("gelu", "sigmoid", "binary_cross_entropy"),
    ("sigmoid", "tanh", "huber"),
]


def judged(case: Case, function) -> Diagnosis:
    for batch in (case.previous, case):
        x, W_I, b_I, W_O, b_O = (t.numpy().copy() for t in (batch.x, batch.W_I, batch.b_I, batch.W_O, batch.b_O))
        found = function(x, batch.rows.numpy().copy(), W_I, b_I, W_O, b_O)
    return diagnose(case, {name: torch.from_numpy(np.asarray(value)) for name, value in found.items()})


@cache
def cases(g: str, f: str, loss: str) -> dict[bool, Case]:
    """One with sizes that all differ, one with D = H = C."""
    network, criterion = Network(g, f), Criterion(loss)
    return {square: draw_case(network, criterion, sizes=SQUARE if square else SIZES) for square in (False, True)}


def changes_the_result(case: Case, right, wrong) -> bool:
    first, second = (judged_numbers(case, function) for function in (right, wrong))
    return any(
        a.shape != b.shape or np.linalg.norm(a - b) > 1e-6 * np.linalg.norm(a)
        for a, b in zip(first, second, strict=True)
    )


def judged_numbers(case: Case, function) -> list[np.ndarray]:
    for batch in (case.previous, case):
        x, W_I, b_I, W_O, b_O = (t.numpy().copy() for t in (batch.x, batch.W_I, batch.b_I, batch.W_O, batch.b_O))
        found = function(x, batch.rows.numpy().copy(), W_I, b_I, W_O, b_O)
    return list(found.values())


def named(diagnosis: Diagnosis, quantity: str, text: str) -> bool:
    """Whether one mistake is named, in the right place and in these words; those with the same numbers count, too."""
    if len(diagnosis.findings) != 1 or not diagnosis.explained:
        return False
    finding = diagnosis.findings[0]
    return text in finding.text and finding.quantity in (quantity, "all")


def score(combinations_: list[tuple[str, str, str]], everything: bool) -> tuple[dict[str, list[int]], list[str]]:
    """For each mistake, how many spoiled derivations were judged and how many named rightly; and what was missed."""
    counts: dict[str, list[int]] = {}
    missed = []
    for g, f, loss in combinations_:
        case_of = cases(g, f, loss)
        right = build(g, f, loss, everything=everything)
        for name, old, new, quantity, text, square in EDITS:
            if quantity == "delta_O" and "outputs" in name and loss == "cross_entropy":
                continue  # it is no mean over the outputs
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


@pytest.mark.parametrize("everything", [True, False], ids=["with deltas", "gradients alone"])
@pytest.mark.parametrize("combination", SOME, ids=" ".join)
def test_each_mistake_is_named(combination, everything):
    counts, missed = score([combination], everything)
    assert sum(tried for tried, _ in counts.values()) >= 25
    assert not missed


@pytest.mark.stress
def test_at_least_95_percent_of_all_mistakes_are_named_and_the_docs_say_how_many():
    # Every pair of output and loss behind two hidden activations, which take turns, so that each is behind ten pairs.
    turns = [
        (HIDDEN_ACTIVATIONS[(i + k) % len(HIDDEN_ACTIVATIONS)], *pair) for k in (0, 5) for i, pair in enumerate(FITTING)
    ]
    counts, missed = score(turns, everything=False)
    total = sum(tried for tried, _ in counts.values())
    assert total >= 20 * len(turns)
    assert len(missed) <= 0.05 * total, missed[:20]
    assert table(counts) in (ROOT / "docs" / "gradcheck.md").read_text(), table(counts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "g", [g if g in ("tanh", "relu", "silu") else pytest.param(g, marks=pytest.mark.stress) for g in HIDDEN_ACTIVATIONS]
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "everything",
    [pytest.param(True, id="with deltas"), pytest.param(False, id="gradients alone", marks=pytest.mark.stress)],
)
def test_two_mistakes_at_once_are_both_named(everything):
    g, f, loss = "sigmoid", "tanh", "mse"
    case = cases(g, f, loss)[False]
    edits = [edit for edit in EDITS if not edit[5] and "updated" not in edit[0] and "stale" not in edit[0]]
    tried = right = 0
    for a, b in combinations(edits, 2):
        if a[1] == b[1] or a[1] in b[1] or b[1] in a[1]:
            continue
        diagnosis = judged(case, build(g, f, loss, (a[1], a[2]), (b[1], b[2]), everything=everything))
        texts = " ".join(finding.text for finding in diagnosis.findings)
        tried += 1
        right += diagnosis.explained and (len(diagnosis.findings) == 1 or (a[4] in texts and b[4] in texts))
    assert tried > 150
    assert right >= 0.95 * tried


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
def test_every_entry_of_the_catalogue_is_found_where_it_changes_a_number():
    # The catalogue against itself: no entry hides another one, and none is out of reach.
    reached = set()
    for g, f, loss in [*SOME, ("relu", "relu", "poisson_nll"), ("elu", "selu", "l1"), ("tanh", "softmax", "mse")]:
        for case in cases(g, f, loss).values():
            right = derive(case)
            for mistake in (*IN_DELTA_O, *IN_DELTA_I, *IN_GRADIENTS):
                if not mistake.applies(case):
                    continue
                try:
                    wrong = derive(case, (mistake,), amount=0.1)
                except RuntimeError:  # the shapes do not allow it
                    continue
                changed = any(
                    wrong[name].shape != right[name].shape or not torch.allclose(wrong[name], right[name], rtol=1e-6)
                    for name in QUANTITIES
                )
                if not changed or not all(wrong[name].isfinite().all() for name in QUANTITIES):
                    continue
                diagnosis = diagnose(case, {name: wrong[name] for name in QUANTITIES})
                assert len(diagnosis.findings) == 1, (g, f, loss, mistake.name, diagnosis.findings)
                assert mistake.name in diagnosis.findings[0].names
                reached.add((mistake.name, mistake.step))
    for mistake in (*IN_DELTA_O, *IN_DELTA_I, *IN_GRADIENTS):
        conditional = mistake.name.endswith(("forgotten", "by the weights"))  # has a test of its own
        assert conditional or (mistake.name, mistake.step) in reached, mistake.name
