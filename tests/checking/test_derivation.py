"""The printed derivation: complete for every network, and its numbers are torch's."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
import torch
from tests.calculus.settings import ACTIVATIONS, FITTING, HIDDEN_ACTIVATIONS, MATCHED
from tests.suites import smoke

from backhand.calculus.backpropagation import Criterion, Network
from backhand.checking import derive
from backhand.checking.derivation import equations, example, layer_names
from backhand.checking.document import FORMATS, Equation, Values
from backhand.config.schema import NetworkArguments
from backhand.errors import UserError


@pytest.mark.slow
@pytest.mark.parametrize("g", smoke(HIDDEN_ACTIVATIONS, "gelu"))
def test_every_network_has_a_derivation_in_every_format(g):
    for f, loss in FITTING if g == "gelu" else MATCHED:
        network, criterion = Network(g, f), Criterion(loss)
        for hidden in ([], [16], [16, 8, 4]):
            numbers, agree = example(network, criterion, None, len(hidden), 0)
            assert agree, (f, loss)
            blocks = [*equations(network, criterion, {}, hidden), *numbers]
            lefts = [block.text.partition(" = ")[0] for block in blocks if isinstance(block, Equation)]
            for name in layer_names(len(hidden)):
                assert {f"z_{name}", f"∇W_{name}", f"∇b_{name}", f"δ_{name}"} <= {
                    left.removeprefix("B ") for left in lefts
                }
            if hidden == [16]:
                texts = {name: render(blocks) for name, render in FORMATS.items()}
                assert not any("None" in text for text in texts.values())
                assert "\\" not in texts["terminal"]
                formulas = re.findall(r"<math.*?</math>", texts["html"], re.DOTALL)
                assert len(formulas) == sum(isinstance(block, Equation | Values) for block in blocks)
                for formula in formulas:
                    ElementTree.fromstring(formula)
                assert "merror" not in texts["html"]
                assert not re.search(r"https?://(?!www\.w3\.org)", texts["html"])


def test_the_example_is_what_torchs_own_layers_give():
    # The numbers as printed, put into plain torch.nn once more.
    blocks, _ = example(Network("tanh", "softmax"), Criterion("cross_entropy"), None, 1, 3)
    values = {
        block.text: torch.tensor(block.rows, dtype=torch.float64) for block in blocks if isinstance(block, Values)
    }
    x, W_I, b_I, W_O, b_O = (values[name].requires_grad_() for name in ("x", "W_I", "b_I", "W_O", "b_O"))
    loss = torch.nn.functional.cross_entropy(torch.tanh(x @ W_I + b_I) @ W_O + b_O, values["y"])
    names = ("∇x", "∇W_I", "∇b_I", "∇W_O", "∇b_O")
    for name, gradient in zip(names, torch.autograd.grad(loss, (x, W_I, b_I, W_O, b_O)), strict=True):
        torch.testing.assert_close(values[name], gradient, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(values["L"].squeeze(), loss.detach())


def test_a_value_that_autograd_denies_is_marked_and_is_the_exit_status(monkeypatch, capsys):
    monkeypatch.setitem(ACTIVATIONS, "tanh", replace(ACTIVATIONS["tanh"], derivative=lambda a: 1 - a))
    assert derive.derive(derive.DeriveArguments()) == 1
    lines = capsys.readouterr().out.splitlines()
    marked = [line.split("=")[0].strip() for line in lines if "✗" in line]
    assert marked == ["δ_I", "∇W_I", "∇b_I", "∇x"]
    assert any("∇W_O" in line and "✓" in line for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_cuts_nothing_off(width):
    network, criterion = Network("gelu_tanh", "softmax"), Criterion("cross_entropy")
    blocks = equations(network, criterion, {}, [64])
    text = FORMATS["terminal"](blocks, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for block in blocks:
        if isinstance(block, Equation):
            assert all(word in text for word in block.text.split())


def test_each_hidden_layer_has_its_own_derivative():
    network = Network(["relu", "gelu"], "softmax")
    printed = str(equations(network, Criterion("cross_entropy"), {}, [4, 3]))
    assert "relu, gelu, softmax" in printed
    for formula in ("g′(z_1) = [z_1 > 0]", "g′(z_2) = Φ(z_2) + z_2 φ(z_2)"):
        assert formula in printed
    _, agree = example(network, Criterion("cross_entropy"), None, 2, 0)
    assert agree


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
def test_a_network_that_cannot_be_is_refused(model, reason):
    with pytest.raises(UserError, match=reason):
        derive.derive(derive.DeriveArguments(model=NetworkArguments(**model)))
