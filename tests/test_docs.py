"""The code in the pages of docs/, run as it stands there."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).resolve().parents[1] / "docs"


def code(page, section):
    """The Python block of a page's section."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
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


def test_its_gradients_are_the_hand_derived_ones_and_equal_to_autograds(own_module):
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
