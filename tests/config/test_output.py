"""Printing on a standard output without Unicode."""

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


def test_a_symbol_has_a_substitute_and_other_characters_become_question_marks(monkeypatch):
    assert printed(monkeypatch, "∇W_O = hᵀ δ_O", "ascii") == "grad W_O = h^T delta_O"
    assert printed(monkeypatch, "naïve 日本", "ascii") == "na?ve ??"
    assert printed(monkeypatch, "naïve ± δ", "latin-1") == "naïve ± delta"
    assert printed(monkeypatch, "naïve δ 日本", "utf-8") == "naïve δ 日本"


def test_the_users_error_handler_is_kept(monkeypatch):
    assert printed(monkeypatch, "δ", "ascii", "backslashreplace") == "\\u03b4"


@pytest.mark.parametrize("name", [*ACTIVATIONS, *LOSSES])
def test_every_formula_can_be_printed_in_ascii(monkeypatch, name):
    entry = ACTIVATIONS.get(name) or LOSSES[name]
    formulas = "\n".join(str(value) for key, value in vars(entry).items() if key.startswith("text"))
    assert "?" not in printed(monkeypatch, formulas, "ascii")


def test_substitutes_are_ascii_and_replace_other_characters():
    assert all(len(sign) == 1 and not sign.isascii() and name.isascii() for sign, name in ASCII_SUBSTITUTES.items())
