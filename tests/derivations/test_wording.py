"""Formulas in the layout of the person who asks."""

import ast
import re
from types import SimpleNamespace

import pytest
import torch

from backhand.calculus.backpropagation import Criterion, Network
from backhand.derivations.cases import draw_case
from backhand.derivations.layouts import Layout
from backhand.derivations.mistakes import catalogue
from backhand.derivations.steps import Case, derive
from backhand.derivations.wording import Words

EMPTY = SimpleNamespace(statements=None, function=ast.parse("def f(): pass").body[0])
SIZES = {1: (7, 4, 3), 2: (7, 4, 5, 3), 3: (7, 4, 6, 5, 3)}
LAYOUTS = [(samples, weights) for samples in ("rows", "columns") for weights in ("(in, out)", "(out, in)")]


def drawn(depth: int) -> Case:
    return draw_case(Network("tanh", "sigmoid"), Criterion("mse"), sizes=SIZES[depth])


def words(case: Case, samples: str, weights: str) -> Words:
    return Words(EMPTY, case, Layout(samples, weights, "(n, 1)"), {})  # type: ignore[arg-type]


def lies_across(name: str, samples: str, weights: str) -> bool:
    """Whether an array is the transpose of ours."""
    if name.startswith(("W", "dW")):
        return weights == "(out, in)"
    return samples == "columns" and not name.startswith(("b", "db"))


def computed(formula: str, arrays: dict[str, torch.Tensor], axis: int) -> torch.Tensor:
    """The value of a formula's right side without its factor 1/B; samples lie along the axis.

    z stands for g′(z): what is asked is how arrays are multiplied.
    """
    names = "|".join(map(re.escape, sorted(arrays, key=len, reverse=True)))
    text = formula.partition(" = ")[2].removeprefix("1/B ")
    text = re.sub(names, lambda found: f"v[{found[0]!r}]", re.sub(r"[gf](_\d)?′", "", text))
    for sign, python in (("Σ_B", "B @"), ("ᵀ", ".mT"), ("·", "@"), ("⊙", "*")):
        text = text.replace(sign, python)
    return eval(text, {"v": arrays, "B": _SumOverSamples(axis)})


class _SumOverSamples:
    def __init__(self, axis: int) -> None:
        self.axis = axis

    def __matmul__(self, value: torch.Tensor) -> torch.Tensor:
        return value.sum(self.axis)


@pytest.mark.parametrize("depth", SIZES)
@pytest.mark.parametrize(("samples", "weights"), LAYOUTS)
def test_each_right_line_multiplies_in_every_layout(samples, weights, depth):
    case = drawn(depth)
    steps = derive(case)
    ours = {name.replace("delta_", "δ_"): value for name, value in (case.values | steps).items()}
    ours["∂L/∂ŷ"] = steps[case.last.upstream]
    theirs = {name: value.mT if lies_across(name, samples, weights) else value for name, value in ours.items()}
    spoken = words(case, samples, weights)
    formulas = {mistake.formulas(case)[0] for mistake in catalogue(depth) if mistake.applies(case)}
    formulas = {formula for formula in formulas if not formula.startswith("∂L/∂ŷ = ")}  # of the loss, no product
    assert len({formula.partition(" = ")[0] for formula in formulas}) == 3 * depth + 1
    for formula in formulas:
        expected = computed(formula, ours, 0)
        expected = expected.mT if lies_across(formula, samples, weights) and expected.dim() == 2 else expected
        found = computed(spoken.formula(formula), theirs, int(samples == "columns"))
        torch.testing.assert_close(found, expected)
        for name, value in theirs.items():
            if f"{name} " in formula and value.dim() == 2:
                assert f"{name} {tuple(value.shape)}" in spoken.shapes(formula)


@pytest.mark.parametrize(
    ("ours", "columns"),
    [
        ("dW_O = 1/B hᵀ · δ_O", "dW_O = 1/B δ_O · hᵀ"),
        ("dW_I = xᵀ (of the step before) · δ_I", "dW_I = δ_I · xᵀ (of the step before)"),
        ("dW_O = h[0]ᵀ · δ_O[0]", "dW_O = δ_O[:, 0] · h[:, 0]ᵀ"),
        ("db_O = δ_O[−1]", "db_O = δ_O[:, −1]"),
        ("δ_I = (δ_O · reshape(W_O)) ⊙ g′(z_I)", "δ_I = (reshape(W_O) · δ_O) ⊙ g′(z_I)"),
        ("δ_I = (δ_O · (W_O − 2 dW_O)ᵀ) ⊙ g′(z_I)", "δ_I = ((W_O − 2 dW_O)ᵀ · δ_O) ⊙ g′(z_I)"),
        ("δ_O = −∂L/∂ŷ · J_f(z_O)", "δ_O = −J_f(z_O)ᵀ · ∂L/∂ŷ"),
    ],
)
def test_a_wrong_line_is_turned_like_the_right_one(ours, columns):
    assert words(drawn(2), "columns", "(out, in)").formula(ours) == columns
