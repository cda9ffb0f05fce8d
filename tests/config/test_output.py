"""What is printed where standard output cannot show every character."""

import io
import sys

import pytest

from backhand.calculus.activations import ACTIVATIONS
from backhand.calculus.losses import LOSSES
from backhand.config.output import ASCII_SUBSTITUTES, replace_unencodable


def printed(monkeypatch, text, encoding, errors="strict"):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors=errors))
    replace_unencodable()
    print(text, end="", flush=True)
    return raw.getvalue().decode(encoding)


def test_a_sign_is_named_and_another_character_becomes_a_question_mark(monkeypatch):
    assert printed(monkeypatch, "∇W_O = hᵀ δ_O", "ascii") == "grad W_O = h^T delta_O"
    assert printed(monkeypatch, "naïve 日本", "ascii") == "na?ve ??"
    assert printed(monkeypatch, "naïve ± δ", "latin-1") == "naïve ± delta"
    assert printed(monkeypatch, "naïve δ 日本", "utf-8") == "naïve δ 日本"


def test_what_the_user_chose_stays(monkeypatch):
    assert printed(monkeypatch, "δ", "ascii", "backslashreplace") == "\\u03b4"


@pytest.mark.parametrize("name", [*ACTIVATIONS, *LOSSES])
def test_every_formula_can_be_printed_in_ascii(monkeypatch, name):
    entry = ACTIVATIONS.get(name) or LOSSES[name]
    formulas = "\n".join(str(value) for key, value in vars(entry).items() if key.startswith("text"))
    assert "?" not in printed(monkeypatch, formulas, "ascii")


def test_stand_ins_are_ascii_and_stand_for_what_is_not():
    assert all(len(sign) == 1 and not sign.isascii() and name.isascii() for sign, name in ASCII_SUBSTITUTES.items())
