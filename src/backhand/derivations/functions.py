"""Judges a `torch.autograd.Function` of a whole network: (x, W_1, b_1, …) → ŷ or z_O."""

import functools
import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backhand.calculus.activations import ACTIVATIONS
from backhand.calculus.backpropagation import Network
from backhand.derivations.answer import Answer
from backhand.derivations.binding import Binder
from backhand.derivations.judging import Attempt, Judge, Settings
from backhand.derivations.layouts import Draw, Layout, readings
from backhand.derivations.leaves import plain
from backhand.derivations.loading import RefusedError, Source, fresh, place, said
from backhand.derivations.matching import Match
from backhand.derivations.names import meaning
from backhand.derivations.question import Question
from backhand.derivations.steps import Case, derive
from backhand.derivations.telling import tell


def judge_function(source: Source, name: str, settings: Settings) -> Answer:
    """Call forward, hand backward the gradient of what it returned, and judge what that returns.

    Raises:
        RefusedError: forward returns neither ŷ nor z_O, or one of the two raises.
    """
    question = Question(source, f"{name}.forward", None, None, len(settings.hidden) + 1)
    judge = Judge(question, settings)
    attempts: list[Attempt] = []
    stopped = RefusedError("", -1)
    for sizes in judge.all_sizes()[:1]:
        case, draws = judge.drawn(sizes, question.biases({}), False)
        for layout in readings(["torch with requires_grad"], sizes, ["values"], False, True):
            try:
                attempts.append(_attempt(question, name, layout, case, draws, judge))
            except RefusedError as error:
                stopped = max(stopped, error, key=lambda each: each.depth)
    if not attempts:
        raise stopped
    for attempt in attempts:
        judge.judged(attempt)
    best = min(attempts, key=lambda each: each.order)
    answer = tell(judge, best)
    answer.remarks.append(_torch_says(question, name, best))
    return answer


def _attempt(question: Question, name: str, layout: Layout, case: Case, draws: list[Draw], judge: Judge) -> Attempt:
    """Every draw's gradients; the case is the one that backward sees, with the gradient of what forward returned."""
    attempt = Attempt(layout, 0, Match(), case, draws, fixed=True, exact=True)
    network, upstream = _upstream(question, name, layout, case, draws[0])
    stacks: dict[Any, list[Tensor]] = {}
    for k, draw in enumerate(draws):
        for key, value in _gradients(question, name, layout, draw, upstream[k]).items():
            stacks.setdefault(key, []).append(torch.from_numpy(np.array(value, dtype=np.float64)))
    attempt.found = {key: torch.stack(each) for key, each in stacks.items() if len(each) == len(draws)}
    if not attempt.found:
        raise RefusedError(f"{question.source.path}: {name}.backward returned None for every input", 10**6)
    attempt.match.found = {key: value[0].numpy() for key, value in attempt.found.items()}
    attempt.match.missing = [
        (kind, layer) for layer in range(1, judge.depth + 1) for kind in "Wb" if (kind, layer) not in attempt.found
        and (kind == "W" or case.biases[layer - 1] is not None)
    ]  # fmt: skip
    previous = case.previous
    if previous is not None:
        previous = replace(
            previous,
            network=network,
            upstream=derive(previous)[previous.last.delta if network != case.network else previous.last.upstream],
        )
    attempt.case = replace(case, network=network, upstream=upstream, previous=previous)
    return attempt


def _inputs(question: Question, name: str, layout: Layout, draw: Draw) -> tuple[Any, list[Any], list[Any]]:
    """The class, its inputs as leaves of the graph, and what each means."""
    names = fresh(question.source)
    cls = names[name]
    has_context = "setup_context" not in vars(cls)  # else forward has none as its first argument
    forward = functools.partial(cls.forward, None) if has_context else cls.forward
    parameters = list(inspect.signature(forward).parameters)
    binder = Binder(question, names, draw, layout, 0.0)

    arguments = binder.arguments(forward, f"{name}.forward")
    return cls, arguments, [meaning(each, question.depth, parameters) for each in parameters]


def _forward(question: Question, name: str, cls: Any, inputs: list[Any]) -> Tensor:
    try:
        output = cls.apply(*inputs)
    except (Exception, SystemExit) as error:
        raise RefusedError(f"{place(error, question.source.path)}: {said(error)}", 1) from None
    first = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(first, Tensor):
        raise RefusedError(
            f"{question.source.path}: {name}.forward returned a {type(output).__name__}; it must return ŷ or z_O", 2
        )
    return first


def _upstream(question: Question, name: str, layout: Layout, case: Case, draw: Draw) -> tuple[Network, Tensor]:
    """The network that the Function is, up to z_O or to ŷ, and the gradient of that."""
    cls, inputs, _ = _inputs(question, name, layout, draw)
    output = layout.ours_of_samples(_forward(question, name, cls, inputs).detach().numpy())
    steps = derive(case)
    if _close(output, draw.a[-1]):
        return case.network, steps[case.last.upstream]
    if _close(output, draw.z[-1]):
        return Network(case.network.hidden_activation, "identity"), steps[case.last.delta]
    g, f = case.network.hidden_activation, case.network.output_activation
    named = f"the network with g {g if isinstance(g, str) else ', '.join(g)} and f {f}"
    raise RefusedError(
        f"{question.source.path}: {name}.forward returns neither ŷ nor z_O of {named}"
        f"{_forward_mistake(case, draw, output)}",
        3,
    )


def _gradients(question: Question, name: str, layout: Layout, draw: Draw, upstream: Tensor) -> dict[Any, np.ndarray]:
    """What backward returns, by parameter, in our layout."""
    cls, inputs, meanings = _inputs(question, name, layout, draw)
    raw: list[Any] = []

    # torch refuses a gradient of the wrong shape in words of its own; here its shape is part of the answer.
    class Watched(cls):  # type: ignore[misc, valid-type]
        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> tuple[None, ...]:
            raw.append(cls.backward(ctx, *gradients))
            return (None,) * len(inputs)

    output = _forward(question, name, Watched, inputs)
    theirs = upstream.mT if layout.samples == "columns" else upstream
    try:
        torch.autograd.backward(output, theirs.to(output.dtype).reshape(output.shape))
    except (Exception, SystemExit) as error:
        raise RefusedError(f"{place(error, question.source.path)}: {said(error)}", 10**5) from None
    gradients = raw[0] if isinstance(raw[0], tuple) else (raw[0],)
    if len(gradients) != len(inputs):
        raise RefusedError(
            f"{question.source.path}: {name}.backward returned {len(gradients)} gradients, "
            f"and there are {len(inputs)} inputs",
            10**5,
        )
    found = {}
    for known, gradient in zip(meanings, gradients, strict=True):
        array = None if gradient is None else plain(gradient)
        if known is None or array is None:
            continue
        if not np.isfinite(array).all():
            raise RefusedError(
                f"{question.source.path}: {name}.backward returned numbers that are NaN or infinite", 10**5
            )
        if known.kind == "W":
            found[("W", known.layer)] = layout.ours(array)
        elif known.kind == "b":
            n = draw.W[(known.layer or 1) - 1].shape[1]
            found[("b", known.layer)] = (
                array.reshape(n) if array.size == n and array.ndim <= 2 else layout.ours_of_samples(array)
            )
        elif known.kind == "x":
            found[("x", 0)] = layout.ours_of_samples(array)
    return found


def _forward_mistake(case: Case, draw: Draw, output: np.ndarray) -> str:
    """What the forward pass may have forgotten, or whose it is."""
    if output.shape != draw.z[-1].shape:
        return f" (its shape is {output.shape}, and should be {draw.z[-1].shape})"
    first = case.draw(0)
    for what, changed in _forgotten(first):
        for value in (changed.forward[0][-1], changed.yhat):
            if _close(output, value.numpy()):
                return f" ({what} is left out; mend that first)"
    for g, each in ACTIVATIONS.items():
        for f in ACTIVATIONS if each.hidden else ():
            if _close(output, replace(first, network=Network(g, f)).yhat.numpy()):
                return f" (it is that of model.hidden_activation={g} model.output_activation={f})"
    return ""


def _forgotten(case: Case) -> Iterator[tuple[str, Case]]:
    for layer in range(case.depth):
        label = "b_O" if layer == case.depth - 1 else "b_I" if case.depth == 2 else f"b_{layer + 1}"
        yield label, replace(case, biases=tuple(None if i == layer else b for i, b in enumerate(case.biases)))
    yield "g", replace(case, network=Network("identity", case.network.output_activation))


def _torch_says(question: Question, name: str, best: Attempt) -> str:
    """`torch.autograd.gradcheck`'s own verdict on the first draw."""
    cls, inputs, _ = _inputs(question, name, best.layout, best.draws[0])
    try:
        torch.autograd.gradcheck(cls.apply, inputs, atol=1e-5)
    except (Exception, SystemExit) as error:
        return f"torch.autograd.gradcheck says: {said(error)}"
    return "torch.autograd.gradcheck says: right, too."


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-4, atol=1e-5))
