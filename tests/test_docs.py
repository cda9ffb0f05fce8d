"""The code in docs/ runs, and its formulas are those of the code."""

import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.chain import backward_steps, forward_steps
from backhand.calculus.losses import LOSSES

DOCS = Path(__file__).resolve().parents[1] / "docs"


def code(file, section):
    """The Python block in a section of a Markdown file."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", (DOCS / file).read_text(encoding="utf-8"), re.M | re.S)
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    return block


@pytest.fixture
def own_module(tmp_path):
    path = tmp_path / "digits.py"
    path.write_text(code("extending.md", "The network in your own LightningModule"), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.smoke
def test_the_network_trains_in_ones_own_lightning_module(own_module, tmp_path):
    ran = subprocess.run([sys.executable, own_module], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout.split("val/acc ")[-1]) > 0.9


def test_its_gradients_are_hand_derived_and_equal_to_autograds(own_module):
    module = runpy.run_path(str(own_module))["Digits"]().double()
    x, y = torch.randn(7, 64, dtype=torch.float64), torch.randint(10, (7,))
    plain = module.net.to_sequential()
    loss = module.training_step((x, y), 0)
    assert loss.grad_fn.name() == "NetworkLossBackward"
    loss.backward()
    torch.nn.functional.nll_loss(plain(x).log(), y).backward()
    for layer, linear in zip(module.net.layers, plain[::2], strict=True):
        torch.testing.assert_close(layer.weight.grad, linear.weight.grad.T, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(layer.bias.grad, linear.bias.grad, rtol=1e-10, atol=1e-14)


def test_the_example_of_the_derivation_prints_the_numbers_on_paper(tmp_path, capsys):
    path = tmp_path / "example.py"
    path.write_text(code("derivation.md", "An example to check by hand"), encoding="utf-8")
    runpy.run_path(str(path))
    printed = {round(float(number), 4) for number in re.findall(r"-?\d+\.\d+(?:e-\d+)?", capsys.readouterr().out)}
    derivation = (DOCS / "derivation.md").read_text(encoding="utf-8")
    paper = re.search(r"^On paper: (.*?)^## ", derivation, re.M | re.S)[1]
    for name in (r"\hat y", r"\delta_O", r"\delta_I"):
        numbers = re.search(rf"{re.escape(name)} = \((-?0\.\d+), (-?0\.\d+)\)", paper).groups()
        assert set(map(float, numbers)) <= printed
    rows = re.search(r"has the rows \$\((.*?)\)\$\s+and \$\((.*?)\)\$", paper).groups()
    assert {float(number) for row in rows for number in row.split(", ")} <= printed


def equations(section):
    """The formulas in each row of a table in derivation.md."""
    derivation = (DOCS / "derivation.md").read_text(encoding="utf-8")
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", derivation, re.M | re.S)
    rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
    return [[re.findall(r"`(.*?)`", column.replace(r"\|", "|")) for column in row] for row in rows]


def test_the_derivations_table_has_each_line_with_its_function():
    network, criterion = Network("tanh", "identity"), Criterion("mse")
    activations = [network.g(), network.f]
    steps = [*forward_steps(network, activations), *backward_steps(criterion, None, activations)]
    table = {
        left: (right, row[3][0])
        for row in reversed(equations("Rows, and a batch of them"))
        for left, right in zip(row[0], row[2], strict=False)
    }
    for step in steps:
        if step.left in ("h", "ŷ", "∂L/∂ŷ") or "′" in step.left:
            continue  # an activation's or a loss's own
        right, function = table[step.left]
        assert right == step.text.partition(" = ")[2]
        module, _, name = function.partition(".")
        function = getattr(importlib.import_module(f"backhand.calculus.{module}"), name)
        assert step.rule is function or step.left in ("δ_O", "δ_I")  # which are computed factor by factor


def test_the_table_of_losses_has_their_formulas():
    table = {row[0][0]: row[1:3] for row in equations("Losses")}
    assert table == {name: [[loss.text], [loss.text_derivative]] for name, loss in LOSSES.items()}
