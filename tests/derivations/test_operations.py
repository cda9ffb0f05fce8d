"""What is said of a single operation: no right one is accused, no wrong one is called right."""

import ast
import importlib.util
import json
import re
from pathlib import Path
from textwrap import dedent

import pytest
from tests.derivations.operations import EXAMPLES, SEEN
from tests.derivations.operations_more import MORE

from backhand.derivations import operations

ALL = (*SEEN, *MORE)


def variants(each):
    """The operation, and its edits: the text, the status, and what must be said."""
    yield dedent(each.text), each.status, each.mention
    for old, new, status, mention in each.edits:
        yield dedent(each.text).replace(old, new), status, mention


CASES = [
    pytest.param(
        each.target,
        *variant,
        id=f"{each.name}{f', edit {number}' if number else ''}",
        # The public examples are quick; so is one of the others.
        marks=() if each in EXAMPLES else (pytest.mark.slow, *((pytest.mark.smoke,) if each.name == "layer" else ())),
    )
    for each in ALL
    for number, variant in enumerate(variants(each))
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

        return operations.judge_call(evaluate, path, target)
    names = target.split()
    if len(names) == 2:
        return operations.judge_pair(*(getattr(module, name) for name in names), path)
    found = getattr(module, target)
    is_function = any(base.__module__ == "torch.autograd.function" for base in found.__mro__)
    return (operations.judge_function if is_function else operations.judge_class)(found, path)


def said(judgement):
    rows = [f"{row['name']}: {row['said']}" for row in judgement.rows]
    return "\n".join([judgement.headline, *judgement.sentences, *judgement.remarks, *rows])


@pytest.mark.parametrize(("target", "text", "status", "mention"), CASES)
def test_an_operation_gets_its_verdict(tmp_path, target, text, status, mention):
    judgement = judge(tmp_path, target, text)
    json.dumps(vars(judgement), allow_nan=False)
    assert judgement.status == status, said(judgement)
    assert re.search(mention, said(judgement), re.DOTALL), said(judgement)


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_every_edit_edits(each):
    assert all(old in dedent(each.text) for old, *_ in each.edits)


def test_an_instance_is_judged_like_its_class(tmp_path):
    text = next(dedent(each.text) for each in EXAMPLES if each.name == "elu class by name")
    path, module = load(tmp_path, text)
    assert "negative x" in operations.judge_class(module.ELU(alpha=0.4), path).headline


FUNCTION = """
import torch
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        FORWARD
    @staticmethod
    def backward(ctx, g):
        BACKWARD
"""


@pytest.mark.parametrize(
    ("target", "text", "reason"),
    [
        ("F", FUNCTION.replace("FORWARD", "return 'a'"), "returned a str"),
        ("F", FUNCTION.replace("FORWARD", "raise SystemExit(3)"), "mine.py:6: SystemExit: 3, with every shape"),
        ("F", FUNCTION.replace("FORWARD", "return x.argmax(0)"), "no output of the forward pass has a gradient"),
        ("F", FUNCTION.replace("FORWARD", "return x * float('nan')"), "NaN"),
        ("F", FUNCTION.replace("FORWARD", "import os; return x * os.urandom(1)[0]"), "different numbers in two calls"),
        ("C", "class C: pass", "has no forward method"),
        ("C", "class C:\n    def forward(self, x): return x", "has no backward method"),
        ("C", "class C:\n    def forward(self): return 1\n    def backward(self): return 1", "no argument"),
        ("f g", "def f(x, y): raise ValueError('no')\ndef g(x): return x", "mine.py:1: ValueError: no, with every"),
        ("call: x", "import numpy", "two things"),
        ("call: (f(x), h(x))", "def f(x): return x", "NameError: name 'h' is not defined"),
    ],
)
def test_what_cannot_be_judged_gets_one_line(tmp_path, target, text, reason):
    with pytest.raises(operations.CannotJudgeError) as error:
        judge(tmp_path, target, text.replace("BACKWARD", "return g"))
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
    judgement = judge(tmp_path, "F", FUNCTION.replace("FORWARD", "return x * 2").replace("BACKWARD", backward))
    assert judgement.status == "wrong"
    assert reason in said(judgement)


def test_torch_has_its_say(tmp_path):
    text = FUNCTION.replace("FORWARD", "return x * 2")
    assert judge(tmp_path, "F", text.replace("BACKWARD", "return g * 2")).torch_says == "passes"
    assert "mismatch" in judge(tmp_path, "F", text.replace("BACKWARD", "return g")).torch_says


@pytest.mark.parametrize(
    "file", sorted(Path(operations.__file__).parent.glob("operation*.py")), ids=lambda file: file.name
)
def test_an_operation_in_numpy_is_judged_without_torch(file):
    imported = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "torch" not in {alias.name for node in imported for alias in node.names}
