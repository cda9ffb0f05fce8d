"""Judges a rule for a hidden layer's δ, as `model.gradient=FILE.py:NAME` takes it: how far is it from the gradient?"""

import inspect
import math
import statistics
from typing import Any

import numpy as np
import torch

from backhand.calculus.chain import Layer
from backhand.calculus.feedback import TrialLayer
from backhand.derivations.answer import Answer
from backhand.derivations.cases import draw_case
from backhand.derivations.judging import SIZES, Settings
from backhand.derivations.leaves import plain
from backhand.derivations.loading import RefusedError, Source, place, said
from backhand.derivations.steps import derivative, derive

# Calls of a random rule that the angle is the mean of.
DRAWS = 20


def judge_rule(source: Source, target: Any, settings: Settings) -> Answer:
    """Call the rule with δ_O, W_O and g′(z_I), and compare what it returns with δ_I.

    Raises:
        RefusedError: it raises, or returns something that is no δ.
    """
    if len(settings.hidden) != 1:
        raise RefusedError(f"{source.path}: a rule is checked on one hidden layer; leave model.hidden out")
    sizes = settings.sizes or SIZES
    case = draw_case(settings.network, settings.criterion, settings.weight, sizes, settings.seed)
    right = derive(case)
    hidden, last = Layer(0, 2), case.last
    slope = derivative(case.activation(hidden), case.z(hidden)).expand_as(case.z(hidden)).contiguous()
    delta_O, W_O, z_I = right[last.delta], case.W(last), case.z(hidden)

    def returned(at: torch.Tensor, draw: int = 0) -> torch.Tensor:
        torch.manual_seed(draw)
        layer = TrialLayer(0, delta_O.clone(), W_O.clone(), _draw, z_I.clone(), {"straight_through_window": 1.0})
        try:
            value = plain(target(delta_O.clone(), W_O.clone(), at.clone(), layer))
        except (Exception, SystemExit) as error:
            raise RefusedError(f"{place(error, source.path)}: {said(error)}") from None
        if value is None or not np.isfinite(value).all():
            raise RefusedError(f"{source.path}: {target.__name__} returned something else than finite numbers for δ_I")
        return torch.from_numpy(value).double()

    delta, u = returned(slope), returned(torch.ones_like(slope))
    if not delta.equal(returned(slope)):
        raise RefusedError(
            f"{source.path}: {target.__name__} returned other numbers for the same arguments; it must not remember "
            "anything between calls, and its random numbers must be torch's"
        )
    draws = [delta, *(returned(slope, draw) for draw in range(1, DRAWS))]
    is_random = any(not each.equal(delta) for each in draws)
    expected, right_u = right[hidden.delta], right[hidden.upstream]
    near = all(_near(each, expected) for each in draws)
    context = [f"g {settings.network.g_name()}, f {settings.network.output_activation}, L {case.criterion.name}; "
               + ", ".join(f"{letter}={size}" for letter, size in zip("BDHC", sizes, strict=True))]  # fmt: skip
    shape = str(tuple(delta.shape)) + ("" if delta.shape == expected.shape else f", not {tuple(expected.shape)}")
    error = cosine = ""
    if delta.shape == expected.shape:
        error = f"{float((delta - expected).norm() / expected.norm().clamp(min=1e-300)):.1e}"
        cosine = f"{float((delta * expected).sum() / (delta.norm() * expected.norm()).clamp(min=1e-300)):+.4f}"
    answer = Answer("right" if near else "wrong", "", context)
    answer.rows = [["δ_I", shape, error, cosine, "right" if near else "wrong"]]
    if near:
        answer.headline = "Right: it is the gradient's δ_I."
        return answer
    answer.headline = "It is not the gradient."
    if delta.shape != expected.shape:
        return answer
    angles = [_degrees(each, expected) for each in draws if bool(each.any())]
    mean = f"yours is at {statistics.mean(angles):.0f}° to it" if angles else ""
    if is_random:
        answer.headline = "It is not the gradient: it is random."
        at = f"; {mean} on average over {len(angles)} calls" if mean else ""
        answer.sentences.append(f"right: {case.chain[hidden.delta].text}{at}")
        answer.sentences += [f"yours: {line}" for line in _return_lines(target, source)]
        answer.remarks.append("the table is of one call; each draws other random numbers")
        return answer
    at = f"; {mean}" if mean else ""
    answer.sentences.append(f"right: {case.chain[hidden.delta].text}{at}")
    answer.sentences += [f"yours: {line}" for line in _return_lines(target, source)]
    if not _near(u, right_u):
        times = float(u.norm() / right_u.norm())
        turned = f"at {_degrees(u, right_u):.0f}° to it and " if times else ""
        answer.sentences.append(f"what differs: δ_O W_Oᵀ: yours is {turned}{times:.3g} times as long")
    if _near(delta, u):
        answer.sentences.append("what differs: ⊙ g′(z_I): yours is not multiplied by it")
    elif not _near(delta, u * slope):
        answer.sentences.append("what differs: ⊙ g′(z_I): yours depends on it in another way")
    return answer


def _draw(shape: Any) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def _degrees(a: torch.Tensor, b: torch.Tensor) -> float:
    """The angle between two δ."""
    return math.degrees(math.acos(max(-1.0, min(1.0, float((a * b).sum() / a.norm() / b.norm())))))


def _near(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).norm() <= 1e-5 * b.norm() + 1e-12)


def _return_lines(target: Any, source: Source) -> list[str]:
    """The lines of a function that return, with the file and the line's number."""
    first = target.__code__.co_firstlineno if inspect.isfunction(target) else 0
    definition = source.functions.get(getattr(target, "__name__", ""))
    if definition is None or definition.lineno < first:
        return []
    lines = source.path.read_text().splitlines()
    found = range(definition.lineno, (definition.end_lineno or definition.lineno) + 1)
    return [
        f"{source.path}:{number}: {lines[number - 1].strip()}"
        for number in found
        if "return" in lines[number - 1].split()
    ]
