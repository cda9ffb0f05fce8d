"""Derivations as people bring them, as they stand: each is judged rightly, and its mistake is told."""

import csv
import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.derivations.asked import asked

from backhand.checking import gradcheck
from backhand.derivations import judging, runner

FOLDER = Path(__file__).parent / "brought"


def rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="") as file:
        lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [dict(zip(lines[0], [*line, "", "", ""], strict=False)) for line in lines[1:]]


CASES = rows("cases.tsv")
# One of each kind for the quick run.
QUICK = {"c03_coursera_wk3_right.py", "c05_coursera_wk3_dW2_for_W2.py", "c09_class_inplace_bias_before_tanh.py",
         "c12_eleven_lines.py", "c15_scalar_net.py", "c21_ex4_bias_regularised.py", "c30_notebook.ipynb",
         "s03_linear_squeeze.py", "s05_binarize_ste.py"}  # fmt: skip
STATUS = {"right": {0}, "wrong": {1}, "note": {0, 2}}


def arguments(case: dict[str, str]) -> list[str]:
    target = f"target={FOLDER / case['file']}" + (f":{case['target']}" if case["target"] else "")
    call = [f"call={case['call']}"] if case["call"] else []
    return [target, *case.get("settings", "").split(), *call]


def marked(case: dict[str, str], number: int):
    """The row as a parameter; of the long batches two of three are for the stress run alone."""
    marks = [] if case["file"] in QUICK else [pytest.mark.slow]
    if case["file"][0] in "det" and number % 3:
        marks.append(pytest.mark.stress)
    return pytest.param(case, id=f"{Path(case['file']).stem}-{number}", marks=marks)


@pytest.mark.parametrize("case", [marked(case, number) for number, case in enumerate(CASES)])
def test_it_is_judged_rightly_and_its_mistake_is_told(case, capsys):
    status, said = asked(capsys, *arguments(case))
    assert status in STATUS[case["verdict"]], said
    if case["mention"]:
        assert re.search(case["mention"], said, re.IGNORECASE), said


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case['file']}-{i}") for i, case in enumerate(rows("beyond.tsv"))]
)
def test_what_is_not_understood_is_neither_accused_nor_acquitted(case, capsys):
    status, said = asked(capsys, *arguments(case))
    assert status != {"right": 1, "wrong": 0}[case["verdict"]], said


@pytest.mark.slow
@pytest.mark.parametrize("case", [pytest.param(case, id=case["file"]) for case in rows("broken.tsv")])
def test_a_hostile_or_broken_file_gets_one_line(case, capsys):
    status = gradcheck.gradcheck([*arguments(case), "time_limit=15"])
    printed = capsys.readouterr()
    assert status == 2
    assert not printed.out
    assert printed.err.count("\n") == 1
    assert re.search(case["mention"], printed.err, re.IGNORECASE), printed.err


@pytest.mark.parametrize("readings", [0, 1, 5, 20, pytest.param(60, marks=pytest.mark.slow)])
def test_a_right_derivation_is_not_accused_for_want_of_time(readings, capsys, monkeypatch):
    """Its reading, one sample at a time, comes after those of a batch, with which it runs as well."""
    times = itertools.chain(itertools.repeat(0.0, readings + 1), itertools.repeat(1e9))
    monkeypatch.setattr(judging, "time", SimpleNamespace(monotonic=lambda: next(times)))
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: 0.0))
    status, said = asked(capsys, *arguments(next(case for case in CASES if case["file"] == "l18.py")))
    assert status == 2
    assert "time_limit" in said
