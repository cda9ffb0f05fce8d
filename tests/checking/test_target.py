"""A file that somebody brings: what is said of it, whatever is in it."""

import json
import textwrap
from pathlib import Path
from subprocess import DEVNULL, TimeoutExpired
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.checking.derivations import EDITS

from backhand.checking import gradcheck, runner
from backhand.checking import target as targets
from backhand.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

RIGHT = """
import numpy as np

def backward(x, y, W_I, b_I, W_O, b_O):
    h = np.tanh(x @ W_I + b_I)
    e = np.exp(h @ W_O + b_O)
    delta_O = (e / e.sum(1, keepdims=True) - y) / len(x)
    delta_I = delta_O @ W_O.T * (1 - h * h)
    return {"dW_I": x.T @ delta_I, "db_I": delta_I.sum(0), "dW_O": h.T @ delta_O, "db_O": delta_O.sum(0)}
"""


@pytest.fixture
def check_in_a_process(tmp_path, capfd):
    """Check a file of this content; returns the exit status and what was printed."""

    def run(text: str, *arguments: str, name: str = "backward") -> tuple[int, str]:
        path = tmp_path / "mine.py"
        path.write_text(textwrap.dedent(text))
        status = gradcheck.gradcheck([f"target={path}:{name}", *arguments])
        return status, " ".join(capfd.readouterr().out.split())

    return run


@pytest.fixture
def check(check_in_a_process, monkeypatch):
    """The same, and the file is run in this process: one of its own would import torch, for seconds."""

    class Answered:
        def __init__(self, command, **_):
            asked, answered = command[-2:]
            with np.load(asked, allow_pickle=False) as archive:
                text = Path(json.loads(str(archive["request"]))["file"]).read_text()
            imported = {"torch": torch} if "import torch" in text else {}  # what that process would have imported
            monkeypatch.setattr(runner, "sys", SimpleNamespace(argv=["", asked, answered], modules=imported, path=[]))
            runner.main()

        def wait(self, timeout):
            return 0

        def poll(self):
            return 0

    stand_in = SimpleNamespace(Popen=Answered, DEVNULL=DEVNULL, TimeoutExpired=TimeoutExpired)
    monkeypatch.setattr(targets, "subprocess", stand_in)
    return check_in_a_process


def refusal(check, text: str, *arguments: str, name: str = "backward") -> str:
    """The one line that a file of this content is refused with."""
    with pytest.raises(UserError) as error:
        check(text, *arguments, name=name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_right_derivation_is_right(check_in_a_process):
    status, said = check_in_a_process(RIGHT)
    assert status == 0
    assert "Right: everything that it returned is what autograd gives." in said
    assert "numpy, y as rows of zeros and a one" in said


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (" * (1 - h * h)", "", "dW_I and db_I are wrong because delta_I is: the factor g′(z_I) is missing"),
        ("/ len(x)", "", "because delta_O is: the mean over the batch is missing; everything after it is right."),
        ("x.T @ delta_I", "delta_I.T @ x", "dW_I is wrong: the product is transposed"),
        ("delta_O.sum(0)", "delta_O", "db_O is wrong: δ is not summed over the batch."),
        # What stops on ordinary sizes is tried on square ones.
        ("W_O.T", "W_O", "With B=7, D=4, H=5, C=3 it stops"),
    ],
)
def test_a_wrong_line_is_named(check, old, new, sentence):
    assert RIGHT.count(old) == 1
    status, said = check(RIGHT.replace(old, new))
    assert status == 1
    assert sentence in said
    if old == "W_O.T":
        assert "W_O is not transposed" in said


def test_the_same_in_torch_with_class_numbers_and_in_float32(check):
    text = """
    import torch

    def backward(x, y, W_I, b_I, W_O, b_O):
        x, W_I, b_I, W_O, b_O = (t.float() for t in (x, W_I, b_I, W_O, b_O))
        h = torch.relu(x @ W_I + b_I)
        delta_O = torch.softmax(h @ W_O + b_O, 1) - torch.nn.functional.one_hot(y, W_O.shape[1])
        delta_O = delta_O / len(x)
        delta_I = delta_O @ W_O.T * (h > 0)
        return {"dW_I": x.T @ delta_I, "db_I": delta_I.sum(0), "dW_O": h.T @ delta_O, "db_O": delta_O.sum(0)}
    """
    status, said = check(text, "model.hidden_activation=relu")
    assert status == 0
    assert "torch, y as class numbers" in said


@pytest.mark.slow
def test_the_examples_say_what_the_readme_says_of_them(capfd):
    for arguments, status, sentence in (
        (["right.py:TwoLayers"], 0, "Right"),
        (["wrong_factor.py:backward", "model.hidden_activation=sigmoid"], 1, "the factor g′(z_I) is missing"),
        (
            ["wrong_twice.py:backward", "model.hidden_activation=relu", "model.output_activation=sigmoid",
             "model.loss=mse"],
            1,
            "db_I is wrong: it is averaged over the batch, not summed.",
        ),
    ):  # fmt: skip
        target, *rest = arguments
        assert gradcheck.gradcheck([f"target={ROOT / 'examples' / target}", *rest]) == status
        said = " ".join(capfd.readouterr().out.split())
        assert sentence in said
        assert ("factor 2 of the squared error is missing" in said) == target.startswith("wrong_twice")


FUNCTION = """
import torch

class Net(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, W_I, b_I, W_O, b_O):
        h = torch.sigmoid(x @ W_I + b_I)
        ctx.save_for_backward(x, W_I, W_O, h)
        return h @ W_O + b_O

    @staticmethod
    def backward(ctx, delta_O):
        x, W_I, W_O, h = ctx.saved_tensors
        delta_I = delta_O @ W_O.T * h * (1 - h)
        return delta_I @ W_I.T, x.T @ delta_I, delta_I.sum(0), h.T @ delta_O, delta_O.sum(0)
"""


@pytest.mark.parametrize(
    ("old", "new", "status", "sentence"),
    [
        ("", "", 0, "Right"),
        ("return delta_I @ W_I.T,", "return None,", 0, "Right"),
        ("h.T @ delta_O,", "delta_O.T @ h,", 1, "dW_O is wrong: the product is transposed"),
        ("delta_O.sum(0)", "delta_O", 1, "not summed over the batch"),
        ("delta_I = delta_O @", "delta_I = -delta_O @", 1, "because delta_I is: its sign is flipped"),
        ("* h * (1 - h)", "* h", 1, "g stands in the place of g′"),
    ],
)
def test_a_function_that_returns_z_is_checked_as_such(check, old, new, status, sentence):
    found, said = check(FUNCTION.replace(old, new, 1), "model.hidden_activation=sigmoid", name="Net")
    assert found == status
    assert sentence in said


# What can be wrong with a file, and the words that must be in the one line about it.
WRONG = {
    "def backward(x, y:": "mine.py:1: syntax error",
    "import nothing_of_that_name": "mine.py:1: ModuleNotFoundError",
    "raise SystemExit(3)": "SystemExit: 3, while the file was loaded",
    "def backwards(x, y, W_I, b_I, W_O, b_O): pass": "has no backward (did you mean backwards?)",
    "backward = 3": "backward is a int; it must be a function",
    "class backward: pass": "is a class, but no torch.autograd.Function",
    "def backward(x, y): pass": "takes (x, y); it must take (x, y, W_I, b_I, W_O, b_O)",
    "def backward(*a): return a": "returned a tuple; it must return a dict",
    "def backward(*a): return {}": "returned none of",
    "def backward(*a): return {'W_I': 1}": "unknown key W_I",
    "def backward(*a): return {'dW_I': 'much'}": "returned dW_I as a str",
    "def backward(*a): return {'dW_I': [[1], [2, 3]]}": "returned dW_I as a list",
    "def backward(*a): return {'dW_I': a[2] * 1j}": "returned dW_I as a",
    "def backward(*a): return {'dW_I': a[2] * float('nan')}": "20 of 20 numbers NaN or infinite, the first at [0, 0]",
    "def backward(*a): return 1 / 0": "mine.py:1: ZeroDivisionError: division by zero",
    "def backward(*a): raise SystemExit": "mine.py:1: SystemExit",
}
ENDLESS = {
    "def backward(*a): import os; os._exit(7)": "exit status 7) without an answer",
    "def backward(*a):\n    while True: pass": "gave no answer within 1 s (time_limit=…)",
    "while True: pass": "gave no answer within 1 s (time_limit=…)",
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "exit status -11) without an answer",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_file_that_cannot_be_judged_gets_one_line(check, text):
    assert WRONG[text] in refusal(check, text)


@pytest.mark.parametrize(
    "text", [text if "_exit" in text else pytest.param(text, marks=pytest.mark.slow) for text in ENDLESS]
)
def test_a_file_that_ends_its_process_or_never_ends_gets_one_line(check_in_a_process, text):
    limit = ["time_limit=1"] if "while" in text else []
    assert ENDLESS[text] in refusal(check_in_a_process, text, *limit)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FUNCTION.replace("+ b_O", ""), "(b_O is left out); mend that first"),
        (FUNCTION.replace("torch.sigmoid(x @ W_I + b_I)", "x @ W_I + b_I"), "(g is left out)"),
        (FUNCTION.replace("return h @ W_O + b_O", "return h"), "its shape is (7, 5), and should be (7, 3)"),
        (FUNCTION.replace("return h @ W_O + b_O", "return 'z'"), "forward returned a str"),
        (FUNCTION.replace(", delta_O.sum(0)", ""), "returned 4 gradients, and there are 5 inputs"),
        (FUNCTION.replace("def backward", "def backwards"), "NotImplementedError"),
        (FUNCTION.replace("ctx, x, W_I,", "ctx, W_I,"), "it must take (ctx, x, W_I, b_I, W_O, b_O)"),
    ],
)
def test_a_function_that_cannot_be_judged_gets_one_line(check, text, reason):
    assert reason in refusal(check, text, "model.hidden_activation=sigmoid", name="Net")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["target=mine.py"], "must be FILE:NAME"),
        (["target=nowhere.py:f"], "no such file"),
        ([f"target={ROOT}:f"], "is a folder"),
        ([f"target={ROOT}/README.md:f"], "must be a Python file"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "sizes=[1,2,3]"], "four whole numbers"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "sizes=[0,2,3,4]"], "four whole numbers"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "sizes=[5,5,5,1]"], "always 1"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "sizes=[5,5,5,201]"], "from 1 to 200"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "model.hidden=[3,3]"], "one hidden layer"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "model.loss=mze"], "did you mean mse"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "model.class_weight=[1,2]"], "2 numbers for 3 outputs"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "time_limit=0"], "above 0"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, reason):
    with pytest.raises(UserError, match=reason) as error:
        gradcheck.gradcheck(arguments)
    assert "\n" not in str(error.value)


def test_every_mistake_that_must_be_known_has_an_edit():
    assert len({name for name, *_ in EDITS}) == len(EDITS) >= 30
