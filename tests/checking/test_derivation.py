"""The printed derivation: it is complete for every network, and its numbers equal torch's."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
import torch
from tests.calculus.settings import ACTIVATIONS, FITTING, HIDDEN_ACTIVATIONS, LOSSES, MATCHED
from tests.suites import smoke

from backhand.calculus import backpropagation as bp
from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.chain import labels
from backhand.checking import derive
from backhand.checking.derivation import derivation
from backhand.checking.document import FORMATS, Equation, number
from backhand.checking.example import draw
from backhand.config.schema import NetworkArguments
from backhand.errors import UserError


def blocks_of(g, f, loss, hidden, seed=0):
    return derivation(Network(g, f), Criterion(loss), None, {}, hidden, seed)


def rows_of(blocks):
    """The values, keyed by the left side of their equation."""
    return {each.text.partition(" = ")[0]: each.rows for each in blocks if isinstance(each, Equation) and each.rows}


@pytest.mark.slow
@pytest.mark.parametrize("g", smoke(HIDDEN_ACTIVATIONS, "tanh"))
def test_every_network_has_a_derivation_in_every_format(g):
    for f, loss in FITTING if g == "gelu" else MATCHED:
        for hidden in ([], [16], [16, 8, 4]):
            blocks, wrong = blocks_of(g, f, loss, hidden)
            assert not wrong, (f, loss)
            rows, row_f = rows_of(blocks), f == "softmax"
            for name in labels(len(hidden) + 1):
                assert {f"z_{name}", f"∇W_{name}", f"∇b_{name}", f"δ_{name}"} <= rows.keys()
            last = labels(len(hidden) + 1)[-1]
            assert {"∂L/∂ŷ", f"J_f(z_{last}) of sample 1" if row_f else f"f′(z_{last})", "L", "∇x"} <= rows.keys()
            texts = {name: render(blocks) for name, render in FORMATS.items()}
            assert not any("None" in text or re.search(r"[-−]0\.0+(?!\d)", text) for text in texts.values())
            if hidden == [16]:
                assert "\\" not in texts["terminal"]
                formulas = re.findall(r"<math.*?</math>", texts["html"], re.DOTALL)
                assert len(formulas) == sum(
                    1 + bool(block.rows and not block.is_name) for block in blocks if isinstance(block, Equation)
                )
                for formula in formulas:
                    ElementTree.fromstring(formula)
                assert "merror" not in texts["html"]
                assert not re.search(r"https?://(?!www\.w3\.org)", texts["html"])


def test_the_numbers_of_the_example_equal_torchs():
    # The printed numbers, computed again by plain torch.
    blocks, _ = blocks_of("tanh", "softmax", "cross_entropy", [64], seed=3)
    values = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in rows_of(blocks).items()}
    x, W_I, b_I, W_O, b_O = (values[name].requires_grad_() for name in ("x", "W_I", "b_I", "W_O", "b_O"))
    loss = torch.nn.functional.cross_entropy(torch.tanh(x @ W_I + b_I) @ W_O + b_O, values["y"])
    names = ("∇x", "∇W_I", "∇b_I", "∇W_O", "∇b_O")
    gradients = dict(zip(names, torch.autograd.grad(loss, (x, W_I, b_I, W_O, b_O)), strict=True))
    for name, gradient in gradients.items():
        torch.testing.assert_close(values[name], gradient, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(values["L"].squeeze(), loss.detach())
    (new,) = (name for name in values if name.endswith("− α ∇W_I"))
    torch.testing.assert_close(values[new], W_I - 0.1 * gradients["∇W_I"])


def test_each_factor_is_printed_before_its_product():
    blocks, _ = blocks_of("tanh", "sigmoid", "mse", [4])
    values = {name: torch.tensor(rows) for name, rows in rows_of(blocks).items()}
    order = list(values)
    for product, factors in (("δ_O", ("∂L/∂ŷ", "f′(z_O)")), ("δ_I", ("∂L/∂h", "g′(z_I)"))):
        assert order[order.index(product) - 2 : order.index(product)] == list(factors)
        torch.testing.assert_close(values[product], values[factors[0]] * values[factors[1]])


def test_each_line_has_one_reason_and_its_shape():
    blocks, _ = blocks_of("tanh", "softmax", "cross_entropy", [4])
    lines = [block for block in blocks if isinstance(block, Equation) and block.rows and not block.is_name]
    assert all(line.reason and line.shape for line in lines)
    reasons = {line.text.partition(" = ")[0]: line.reason for line in lines}
    assert reasons["∂L/∂h"] == "z_O depends on h through W_O"
    assert "N = B = 2" in reasons["L"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("seed", range(5))
def test_a_nudge_changes_the_loss_as_predicted_and_an_update_reduces_it(loss, seed):
    blocks, wrong = blocks_of("relu", LOSSES[loss].matched, loss, [4], seed)
    assert not wrong
    text = FORMATS["terminal"](blocks, 1000)
    change, predicted = map(float, re.search(r"it changes by (\S+)\. .* = (\S+)\.\n", text).groups())
    assert change == pytest.approx(predicted, rel=0.02, abs=2e-7)
    assert abs(predicted) > 1e-6
    before, after = map(float, re.search(r"L falls from (\S+) to (\S+)\.\n", text).groups())
    assert after < before


@pytest.mark.parametrize("g", HIDDEN_ACTIVATIONS)
@pytest.mark.parametrize(("depth", "seed"), [(2, 0), (2, 1), (3, 0), (12, 0)])
def test_no_unit_of_an_example_is_dead(g, depth, seed):
    example = draw(Network(g, "softmax"), Criterion("cross_entropy"), None, [3] * (depth - 1), seed)
    for label in labels(depth)[:-1]:
        slope = example.values[f"slope_{label}"]
        assert ACTIVATIONS[g].flat or bool((slope != 0).any(0).all())
    assert depth > 2 or example.smallest_factor() >= 1e-2


@pytest.mark.parametrize(
    ("hidden", "sizes", "units"),
    [
        ([2], "The example has B = 2, D = 2, H = 2, C = 2.", [2]),
        ([3, 1], "The example has B = 2, D = 2, H_1 = 3, H_2 = 1, C = 2.", [3, 1]),
        ([64], "The network has H = 64; the example has B = 2, D = 2, H = 3, C = 2.", [3]),
        ([], "The example has B = 2, D = 2, C = 2.", []),
    ],
)
def test_a_small_network_is_its_own_example(hidden, sizes, units):
    blocks, wrong = blocks_of("tanh", "softmax", "cross_entropy", hidden)
    assert not wrong
    assert sizes in FORMATS["terminal"](blocks, 1000)
    assert [len(rows_of(blocks)[f"b_{name}"][0]) for name in labels(len(hidden) + 1)] == [*units, 2]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-0.0, "0.0000"), (-4e-5, "-4.0e-05"), (0.25, "0.2500"), (-1.23456, "-1.2346"), (3e-9, "3.0e-09")],
)
def test_a_number_has_four_decimals_or_an_exponent_and_is_never_negative_zero(value, shown):
    assert number(value) == shown


def test_a_value_that_differs_from_autograd_is_named_and_sets_the_exit_status(monkeypatch, capsys):
    monkeypatch.setitem(ACTIVATIONS, "tanh", replace(ACTIVATIONS["tanh"], derivative=lambda a: 1 - a))
    assert derive.derive(derive.DeriveArguments()) == 1
    conclusion = " ".join(capsys.readouterr().out.split()).partition("Against autograd ")[2]
    assert conclusion == (
        "Different from autograd: g′(z_I), δ_I, ∇W_I, ∇b_I, ∇x, training's ∇W_I, training's ∇b_I, the nudge of W_I."
    )


def test_a_training_step_with_other_gradients_is_named(monkeypatch):
    monkeypatch.setattr(bp, "hidden_delta", lambda g, delta, W, saved: delta @ W.mT)
    _, wrong = blocks_of("tanh", "softmax", "cross_entropy", [4])
    assert wrong == ["training's ∇W_I", "training's ∇b_I"]


@pytest.mark.parametrize("field", ["derivative", "matched_delta"])
def test_a_closed_form_that_differs_from_the_product_is_named(monkeypatch, field):
    loss = LOSSES["cross_entropy"]
    monkeypatch.setitem(LOSSES, "cross_entropy", replace(loss, **{field: lambda *a: 2 * getattr(loss, field)(*a)}))
    blocks, wrong = blocks_of("tanh", "softmax", "cross_entropy", [4])
    assert "δ_O = (ŷ − y) / N" in wrong
    assert ("∂L/∂ŷ" in wrong) is (field == "derivative")
    assert "A different number" in str(blocks)


def test_a_narrow_terminal_breaks_an_equation_before_its_equals_signs():
    long = Equation("L = Σ m (|ŷ − y| − m / 2) / N, with m = min(|ŷ − y|, d)", "", "scalar", rows=((0.5,),))
    name = Equation("W_I", "", "(D, H)", rows=((0.89, -0.91, -0.56),))
    assert FORMATS["terminal"]([long, name], 40).splitlines() == [
        "    L  scalar",
        "      = Σ m (|ŷ − y| − m / 2) / N,",
        "      with m = min(|ŷ − y|, d)",
        "      = [ 0.5000 ]",
        "    W_I  (D, H)",
        "      = [  0.8900  -0.9100  -0.5600 ]",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_narrow_terminal_cuts_nothing_off(width):
    blocks, _ = blocks_of("gelu_tanh", "softmax", "cross_entropy", [64])
    text = FORMATS["terminal"](blocks, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for block in blocks:
        if isinstance(block, Equation):
            assert all(word in text for word in block.text.split())
            for row in block.rows:
                assert re.search(r"\[ *" + r" +".join(map(re.escape, map(number, row))) + r" *\]", text)


def test_each_hidden_layer_has_its_own_derivative():
    blocks, wrong = blocks_of(["relu", "gelu"], "softmax", "cross_entropy", [4, 3])
    assert "relu, gelu, softmax" in str(blocks)
    for formula in ("g′(z_1) = [z_1 > 0]", "g′(z_2) = Φ(z_2) + z_2 φ(z_2)"):
        assert formula in str(blocks)
    assert not wrong


def test_a_deep_network_has_its_indices_in_every_format():
    blocks, wrong = blocks_of("sigmoid", "identity", "mse", [3] * 11)
    assert not wrong
    for form in ("latex", "markdown"):
        assert r"\nabla W_{11} &= h_{10}^\top \, \delta_{11}" in FORMATS[form](blocks)
    assert "<sub>10</sub>" in FORMATS["html"](blocks)
    assert r"H$_{10}$" in FORMATS["latex"](blocks)


def test_class_weights_change_the_numbers_and_N(capsys):
    model = NetworkArguments(class_weight=[2.0, 0.5])
    assert derive.derive(derive.DeriveArguments(model=model)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "N = 2.5, the sum of their weights" in printed
    assert "computed from z_O: δ_O = (ŷ Σ_c y − y) / N (B, C)" in printed  # the weighted y does not add up to one


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"loss": "mze"}, "did you mean mse"),
        ({"hidden_activation": "softmax"}, "no such choice"),
        ({"output_activation": "relu"}, "needs outputs that are a distribution"),
        ({"class_weight": "balanced"}, "no data to balance"),
        ({"label_smoothing": 3.0}, "between 0 and 1"),
        ({"hidden": [0]}, "1 unit or more"),
    ],
)
def test_an_invalid_network_is_refused(model, reason):
    with pytest.raises(UserError, match=reason):
        derive.derive(derive.DeriveArguments(model=NetworkArguments(**model)))
