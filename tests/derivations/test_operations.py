"""What is said of a single operation: no right one is accused, no wrong one is called right."""

import ast
import importlib.util
import json
import re

import pytest
from tests.derivations.test_brought import FOLDER, rows

from backhand.derivations.loading import RefusedError
from backhand.derivations.singles import judge_call, judge_class, judge_function, judge_pair

FUNCTION = """
import torch, torch.nn.functional as nnf
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, ARGUMENTS):
        FORWARD
    @staticmethod
    def backward(ctx, INCOMING):
        BACKWARD
"""
FUNCTIONS = {row["name"]: row for row in rows("operations/functions.tsv")}
QUICK = {"isrlu", "linear, transposed", "linear, squeezed", "sum, saved tensors", "binarize", "mse, upstream ignored",
         "elu class", "elu class by name", "relu_grad", "relu_grad in a call", "relu above -1"}  # fmt: skip


def function(arguments="x", incoming="g", forward="return x * 2", backward="return g"):
    """The text of a Function; statements of a body are separated by semicolons."""
    text = FUNCTION.replace("ARGUMENTS", arguments).replace("INCOMING", incoming)
    for place, body in (("FORWARD", forward), ("BACKWARD", backward)):
        text = text.replace(place, body.replace("; ", "\n        "))
    return text


def programs():
    """Each operation and its edits: the name, what is judged, the program, what is replaced in it, and what is said."""
    target = text = ""
    for row in rows("operations/cases.tsv"):
        if not row["old"]:
            name = row["name"]
            target = row["target"] or "F"
            own = FUNCTIONS.get(name, {})
            program = FOLDER / "operations" / row["program"]
            text = program.read_text() if row["program"] else function(**{key: own[key] for key in list(own)[1:5]})
        old, new = (row[key].replace("\\n", "\n") for key in ("old", "new"))
        yield row["name"], target, text, old, new, row["verdict"], row["mention"]


def marks(name: str, number: int) -> list[pytest.MarkDecorator]:
    """Quick, with one operation as the smoke test of the slow ones, of which two of three are for the stress run."""
    if name in QUICK:
        return []
    if name == "layer":
        return [pytest.mark.slow, pytest.mark.smoke]
    return [pytest.mark.slow, *[pytest.mark.stress] * bool(number % 3)]


PROGRAMS = list(programs())
CASES = [
    pytest.param(
        target,
        text.replace(old, new) if old else text,
        verdict,
        mention,
        id=f"{name}-{number}",
        marks=marks(name, number),
    )
    for number, (name, target, text, old, new, verdict, mention) in enumerate(PROGRAMS)
]


def load(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("mine", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return path, module


def judge(tmp_path, target, text):
    path, module = load(tmp_path, text)
    if target.startswith("call:"):
        *before, last = ast.parse(target.removeprefix("call:").strip()).body

        def evaluate(given):
            names = {**vars(module), **given}
            exec(compile(ast.Module(before, []), "call", "exec"), names)
            return eval(compile(ast.Expression(last.value), "call", "eval"), names)

        return judge_call(evaluate, path, target)
    names = target.split()
    if len(names) == 2:
        return judge_pair(*(getattr(module, name) for name in names), path)
    found = getattr(module, target)
    is_function = any(base.__module__ == "torch.autograd.function" for base in found.__mro__)
    return (judge_function if is_function else judge_class)(found, path)


def said(judgement):
    rows = [f"{row[0]}: {row[-1]}" for row in judgement.rows]
    return "\n".join([judgement.headline, *judgement.sentences, *judgement.remarks, *rows])


@pytest.mark.parametrize(("target", "text", "status", "mention"), CASES)
def test_an_operation_gets_its_verdict(tmp_path, target, text, status, mention):
    judgement = judge(tmp_path, target, text)
    json.dumps(judgement.plain(), allow_nan=False)
    assert judgement.status == status, said(judgement)
    assert re.search(mention, said(judgement), re.DOTALL), said(judgement)


def test_every_edit_edits():
    assert [(name, old) for name, _, text, old, *_ in PROGRAMS if old not in text] == []


@pytest.mark.parametrize(
    ("target", "text", "reason"),
    [
        ("F", function(forward="return 'a'"), "returned a str"),
        ("F", function(forward="raise SystemExit(3)"), "mine.py:6: SystemExit: 3, with every shape"),
        ("F", function(forward="return x.argmax(0)"), "no output of the forward pass has a gradient"),
        ("F", function(forward="return x * float('nan')"), "NaN"),
        ("F", function(forward="import os; return x * os.urandom(1)[0]"), "different numbers in two calls"),
        ("C", "class C: pass", "has no forward method"),
        ("C", "class C:\n    def forward(self, x): return x", "has no backward method"),
        ("C", "class C:\n    def forward(self): return 1\n    def backward(self): return 1", "no argument"),
        ("f g", "def f(x, y): raise ValueError('no')\ndef g(x): return x", "mine.py:1: ValueError: no, with every"),
        ("call: x", "import numpy", "two things"),
        ("call: (f(x), h(x))", "def f(x): return x", "NameError: name 'h' is not defined"),
    ],
)
def test_what_cannot_be_judged_gets_one_line(tmp_path, target, text, reason):
    with pytest.raises(RefusedError) as error:
        judge(tmp_path, target, text)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("backward", "reason"),
    [
        ("raise SystemExit", "mine.py:9: SystemExit"),
        ("return 'x'", "backward returns a str as the gradient of x"),
        ("return g * float('nan')", "is NaN or infinite"),
        ("return g, g", "2 gradients, and forward has 1 input"),
    ],
)
def test_a_backward_that_returns_no_gradient_is_wrong(tmp_path, backward, reason):
    judgement = judge(tmp_path, "F", function(backward=backward))
    assert judgement.status == "wrong"
    assert reason in said(judgement)


def test_torch_has_its_say(tmp_path):
    assert "gradcheck says: passes" in said(judge(tmp_path, "F", function(backward="return g * 2")))
    assert "mismatch" in said(judge(tmp_path, "F", function()))
