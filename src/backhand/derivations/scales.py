"""What a derivation is held against: its own loss where it has one, else the named loss up to its usual scales."""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from backhand.calculus.activations import ACTIVATIONS
from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.losses import LOSSES
from backhand.derivations.asking import Outcome
from backhand.derivations.drawing import with_parameters
from backhand.derivations.layouts import Draw
from backhand.derivations.loading import Source
from backhand.derivations.matching import Key
from backhand.derivations.names import meaning
from backhand.derivations.steps import Case

# A loss's gradient by central differences of this step is off by about 1e-9 of it, in float32 by 1e-3.
STEP = {False: 1e-5, True: 1e-2}
CLOSE = {False: 1e-5, True: 2e-2}
# A penalty's coefficient is none where it is so much smaller than the scale.
NO_PENALTY = 1e-6


@dataclass(frozen=True)
class Fit:
    """How a loss's own gradient is made: scale · the named loss's + penalty · the parameter."""

    scale: float
    penalty: dict[Key, float]
    miss: float


def differences(case: Case, draw: Draw, ask: Callable[[Draw], Outcome | None]) -> tuple[dict[Key, Tensor], bool] | None:
    """The central differences of the derivation's own loss, and whether it is computed in float32.

    Returns:
        None where it returns no loss, or one that no parameter changes.
    """
    first = ask(draw)
    if first is None or first.loss is None:
        return None
    float32 = first.float32 or (first.loss == float(np.float32(first.loss)) and first.loss % 0.5 != 0)
    step = STEP[float32]
    found: dict[Key, Tensor] = {}

    def loss(kind: str, layer: int, index: tuple[int, ...], moved_by: float) -> float | None:
        arrays = list(getattr(draw, kind))
        arrays[layer - 1] = arrays[layer - 1].copy()
        arrays[layer - 1][index] += moved_by
        moved = replace(draw, W=tuple(arrays)) if kind == "W" else replace(draw, b=tuple(arrays))
        outcome = ask(with_parameters(case, moved))
        return None if outcome is None else outcome.loss

    for kind in ("W", "b"):
        for layer, array in enumerate(getattr(draw, kind), 1):
            if array is None:
                continue
            slopes = torch.zeros(array.shape, dtype=torch.float64)
            for index in np.ndindex(array.shape):
                above, below = loss(kind, layer, index, step), loss(kind, layer, index, -step)
                if above is None or below is None:
                    return None
                slopes[index] = (above - below) / (2 * step)
            found[(kind, layer)] = slopes
    if not any(bool(slopes.any()) for slopes in found.values()):
        return None  # a constant is no loss
    return found, float32


def fit(truth: Mapping[Key, Tensor], right: Mapping[Key, Tensor], draw: Draw) -> Fit:
    """The scale s and the penalties p with truth = s · right + p · the parameter, by least squares."""
    keys = list(truth)
    own = {key: torch.from_numpy(getattr(draw, key[0])[key[1] - 1]).flatten() for key in keys}
    target = torch.cat([truth[key].flatten() for key in keys])
    matrix = torch.cat([right[key].flatten() for key in keys]).unsqueeze(1)
    if len(target) > len(keys) + 3:  # else there are too few numbers for so many unknowns
        penalties = [torch.cat([own[other].flatten() * (other == key) for other in keys]) for key in keys]
        matrix = torch.cat([matrix, torch.stack(penalties, 1)], 1)
    solution = torch.linalg.lstsq(matrix, target.unsqueeze(1)).solution.flatten()
    miss = float((matrix @ solution - target).norm() / target.norm().clamp(min=1e-300))
    scale, *rest = solution.tolist()
    if scale == 0:
        return Fit(0.0, dict.fromkeys(keys, 0.0), miss)
    rest = [p / scale if abs(p) > NO_PENALTY * max(1.0, abs(scale)) else 0.0 for p in rest or [0.0] * len(keys)]
    return Fit(scale, dict(zip(keys, rest, strict=True)), miss)


def slopes(case: Case, source: Source) -> list[float | None]:
    """leaky_relu's own slope, then those that are written in the file."""
    names = [case.network.g_name(layer) for layer in range(case.depth - 1)]
    if "leaky_relu" not in names:
        return [None]
    return [None, *dict.fromkeys(number for number in source.numbers() if 0 < number < 1 and number != 0.01)]


def networks(case: Case, source: Source) -> Iterator[tuple[Case, str]]:
    """The named network, with no text, then the others that a file may have, with the settings that name them."""
    for slope in slopes(case, source):
        yield replace(case, slope=slope), ""
    fitting = [name for name in LOSSES if (LOSSES[name].target == "classes") != case.y.is_floating_point()]
    hidden = [name for name, each in ACTIVATIONS.items() if each.hidden and not each.flat]
    hidden = hidden if case.depth > 1 else hidden[:1]  # where there is no hidden layer, one name is as good as another
    for loss in sorted(fitting, key=lambda name: name != case.criterion.name):
        for f in ACTIVATIONS:
            if LOSSES[loss].misfit(f, ACTIVATIONS[f].range):
                continue
            for g in hidden:
                criterion = case.criterion if loss == case.criterion.name else Criterion(loss)
                other = f"model.hidden_activation={g} model.output_activation={f} model.loss={loss}"
                yield replace(case, network=Network(g, f), criterion=criterion), other


def usual_scales(case: Case) -> dict[str, float]:
    """What a gradient may be of the named one's, by the loss that it then belongs to; the named one comes first."""
    if case.weight is not None:
        return {"": 1.0}
    B, C = case.B, case.C
    own = float(B * C if case.mean_over_outputs else B)
    squares = case.criterion.name == "mse"
    of = "(ŷ − y)²" if squares else "the loss of each output" if case.mean_over_outputs else "the loss of each sample"
    scales = {
        f"L = {mean}{number}Σ {of}": factor * own / over
        for mean, over in (("", 1), ("1/B ", B), ("1/C ", C), ("1/(B C) ", B * C))
        for number, factor in (("", 1.0), ("½ ", 0.5), ("2 ", 2.0))
    }
    named = min(scales, key=lambda each: abs(scales[each] - 1.0))
    return {named: scales[named]} | scales


def learning_rates(source: Source, depth: int) -> dict[str, float]:
    """The learning rates that are constants of the file, by name."""
    found = {}
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
            continue
        value = node.value.value
        for target in node.targets:
            name = getattr(target, "id", "") or getattr(target, "attr", "")
            known = meaning(name, depth) if name else None
            if known and known.kind == "rate" and isinstance(value, int | float) and value > 0:
                found[name] = float(value)
    return found
