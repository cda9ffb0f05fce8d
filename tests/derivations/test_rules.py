"""`scripts/gradcheck.py target=FILE.py:NAME` of a rule for a hidden layer's δ."""

import pytest
from tests.derivations.asked import asked

HEAD = "import torch\n\nmemory = []\n\n\ndef mine(delta, W, slope, layer):\n    "


@pytest.fixture
def check(tmp_path, capsys):
    """Check a rule with this body; returns the exit status and what was printed."""

    def run(body: str) -> tuple[int, str]:
        (tmp_path / "mine.py").write_text(f"{HEAD}{body}\n")
        return asked(capsys, f"target={tmp_path / 'mine.py'}:mine")

    return run


def test_the_factor_that_differs_is_named(check):
    assert check("return (delta @ W.mT) * slope")[0] == 0
    status, said = check("return delta @ W.mT")
    assert status == 1
    assert "what differs: ⊙ g′(z_I): yours is not multiplied by it" in said


@pytest.mark.parametrize(
    "body",
    [
        "return (torch.nn.functional.dropout(delta, 0.5) @ W.mT) * slope",
        "return (delta @ (W + torch.randn_like(W)).mT) * slope",
    ],
)
def test_a_random_rule_is_called_random_and_its_angle_is_a_mean(check, body):
    status, said = check(body)
    assert status == 1
    assert "It is not the gradient: it is random." in said
    assert "to it on average over 20 calls" in said
    assert "the table is of one call; each draws other random numbers" in said
    assert "what differs" not in said


def test_a_rule_that_remembers_a_call_is_refused(check):
    status, said = check("memory.append(0)\n    return (delta @ W.mT) * slope / len(memory)")
    assert status == 2
    assert "mine returned other numbers for the same arguments; it must not remember anything between calls" in said
