"""The verification of every combination of hidden activation, output activation, loss and mode of differentiation.

A combination is one small network with one batch, in float64, drawn away from the kinks of its activations and its
loss. Its gradients are compared with autograd (`reference`, which shares no formula with the hand-derived pass) and
with central differences of that reference; then each mode is checked.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, vmap

from backhand.calculus import backpropagation as bp
from backhand.calculus import reference
from backhand.calculus.activations import ACTIVATIONS, RowActivation, hidden_activations
from backhand.calculus.losses import LOSSES
from backhand.calculus.mlp import MLP
from backhand.calculus.transforms import evaluate_loss, predict

# Limit of the error of every gradient in float64, relative to its norm.
LIMIT_AUTOGRAD = 1e-12
# Central differences with a step of 1e-6 are off by about 1e-10 themselves.
LIMIT_DIFFERENCES = 1e-6
STEP = 1e-6
# Distance of the batch from every kink, larger than the step of any finite difference here.
CLEARANCE = 1e-3
B, D, H, C = 4, 3, 4, 3


@dataclass(frozen=True)
class Combination:
    """One network to verify.

    Attributes:
        hidden, output, loss: names of the activations g and f and of the loss.
        parameters: the loss's parameters by name; numbers, or tuples of C numbers.
        rows: whether the target of a loss of classes is a probability for each class, not a class number.
        layers: number of hidden layers; the first has g, each further one the next activation of the table.
        runs: K networks in the same tensors, or None for one.
    """

    hidden: str
    output: str
    loss: str
    parameters: tuple[tuple[str, Any], ...] = ()
    rows: bool = False
    layers: int = 1
    runs: int | None = None

    @property
    def activations(self) -> list[str]:
        """The activation of each hidden layer; only the first may be flat, or the gradients below would be 0."""
        names = hidden_activations()
        place = names.index(self.hidden) + 1
        others = [name for name in names[place:] + names[: place - 1] if not ACTIVATIONS[name].flat]
        return [self.hidden, *others][: self.layers]

    @property
    def variant(self) -> str:
        """The loss with what distinguishes it: `cross_entropy (label_smoothing, class_weight)`."""
        extras = [name for name, _ in self.parameters] + ["probabilities"] * self.rows
        return self.loss + (f" ({', '.join(extras)})" if extras else "")

    def __str__(self) -> str:
        shape = f", {self.layers} hidden layers" * (self.layers != 1) + f", {self.runs} runs" * (self.runs is not None)
        return f"{self.hidden}, {self.output}, {self.variant}{shape}"


@dataclass
class Verification:
    """The result for one combination.

    Attributes:
        error_autograd, error_differences: the largest ‖hand − other‖ / ‖other‖ of any gradient, of x or a parameter.
        modes: for each mode, None where it passes, else why it fails.
    """

    combination: Combination
    error_autograd: float
    error_differences: float
    modes: dict[str, str | None] = field(default_factory=dict)

    @property
    def failures(self) -> dict[str, str]:
        """The modes that fail, and why; the two errors are one mode, `gradients`."""
        found = {mode: reason for mode, reason in self.modes.items() if reason is not None}
        if "gradients" in found:
            return found
        if not self.error_autograd <= LIMIT_AUTOGRAD:
            found["gradients"] = f"off by {self.error_autograd:.1e} from autograd"
        elif not self.error_differences <= LIMIT_DIFFERENCES:
            found["gradients"] = f"off by {self.error_differences:.1e} from finite differences"
        return found


@dataclass
class _Case:
    """A combination with its numbers: two networks with equal parameters, and a batch."""

    combination: Combination
    hand: MLP
    auto: MLP
    x: Tensor
    y: Tensor

    def loss(self, model: MLP, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """The loss of the batch, or of another one: one number per run."""
        given = dict(self.combination.parameters)
        return model.loss(self.x if x is None else x, self.y if y is None else y, self.combination.loss, **given)

    def leaves(self) -> list[Tensor]:
        """Copies of the input x and the parameters, as leaf tensors."""
        return [t.detach().clone().requires_grad_() for t in (self.x, *self.hand.parameters())]

    def function(self, model: MLP) -> Callable[..., Tensor]:
        """The loss as a function of x and the parameters."""
        criterion, class_weight = model.criterion(self.combination.loss, dict(self.combination.parameters), self.x)

        def loss(x: Tensor, *parameters: Tensor) -> Tensor:
            if model.gradient == "hand":
                return evaluate_loss(model.network, criterion, self.y, class_weight, x, parameters)[0]
            z_O = reference.logits(model.network, x, parameters)
            return reference.loss(model.network, criterion, z_O, self.y, class_weight)

        return loss


def combinations() -> list[Combination]:
    """Every hidden activation with every output and loss that fit each other, and every variant of the loss.

    Depth and the run axis change no formula of an activation or a loss. So they are checked with each hidden activation
    and each matched pair, and the run axis also with tanh and every other pair, not with every combination.
    """
    found = []
    for g, (f, (loss, parameters, rows)) in product(hidden_activations(), product(ACTIVATIONS, _variants())):
        if LOSSES[loss].misfit(f, ACTIVATIONS[f].range) is None:
            found.append(Combination(g, f, loss, parameters, rows))
            if LOSSES[loss].matched == f:
                shapes: list[tuple[int, int | None]] = [(0, None), (3, None), (1, 2)]
                found += [Combination(g, f, loss, parameters, rows, *shape) for shape in shapes]
            elif g == "tanh":
                found.append(Combination(g, f, loss, parameters, rows, runs=2))
    return found


def _variants() -> list[tuple[str, tuple[tuple[str, Any], ...], bool]]:
    """Each loss without and with all its parameters, and a loss of classes with class numbers and probabilities."""
    found: list[tuple[str, tuple[tuple[str, Any], ...], bool]] = []
    for name, loss in LOSSES.items():
        all_parameters = tuple(
            (key, tuple(0.5 + 0.4 * i for i in range(C)) if parameter.per_output else max(parameter.low, 0) + 0.3)
            for key, parameter in loss.parameters.items()
        )
        for parameters, rows in product(
            ((), all_parameters) if all_parameters else ((),), (False, True) if loss.target == "classes" else (False,)
        ):
            found.append((name, parameters, rows))
    return found


def verify(combination: Combination, modes: Sequence[str] | None = None, seed: int = 0) -> Verification:
    """Verify one combination.

    Args:
        combination: what to verify.
        modes: keys of `MODES`; all if None.
        seed: seed of the numbers, together with the combination's name.
    """
    case = _case(combination, seed)
    try:
        ours = _gradients(case, case.hand)
        result = Verification(
            combination, _largest_error(ours, _gradients(case, case.auto)), _largest_error(ours, _differences(case))
        )
    except Exception as error:  # a broken formula may raise anything
        return Verification(combination, math.inf, math.inf, {"gradients": _one_line(error)})
    for mode in MODES if modes is None else modes:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the first call of torch.func warns of torch.jit
                result.modes[mode] = MODES[mode](case)
        except Exception as error:
            result.modes[mode] = _one_line(error)
    return result


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _case(combination: Combination, seed: int) -> _Case:
    """The combination's networks, and a batch at a distance from every kink."""
    digest = hashlib.sha256(f"{combination} {seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:6]))
    axis = () if combination.runs is None else (combination.runs,)
    loss = LOSSES[combination.loss]
    while True:
        hand, auto = (
            MLP(
                [D, *[H] * combination.layers, C],
                combination.activations,
                combination.output,
                gradient=gradient,
                runs=combination.runs,
                init_scale=2.0,
                generator=generator,
                dtype=torch.float64,
            )
            for gradient in ("hand", "autograd")
        )
        auto.load_state_dict(hand.state_dict())
        x = torch.randn(*axis, B, D, generator=generator, dtype=torch.float64)
        if loss.target == "classes" and not combination.rows:
            y = torch.randint(C, (*axis, B), generator=generator)
        else:
            y = torch.rand(*axis, B, C, generator=generator, dtype=torch.float64)
            y = y / y.sum(-1, keepdim=True) if combination.rows else y
        case = _Case(combination, hand, auto, x, y)
        if _is_smooth(case):
            return case


def _is_smooth(case: _Case) -> bool:
    """Whether autograd's gradient barely changes within `CLEARANCE`, so that no kink is near."""
    here = _gradients(case, case.auto)
    for sign in (-1, 1):
        moved = _Case(case.combination, case.hand, case.auto, case.x + sign * CLEARANCE, case.y)
        if _largest_error(_gradients(moved, case.auto), here) > 30 * CLEARANCE:
            return False
    return True


def _gradients(case: _Case, model: MLP) -> list[Tensor]:
    """The gradients of the runs' summed losses for x and every parameter."""
    leaves = case.leaves()
    return list(torch.autograd.grad(case.function(model)(*leaves).sum(), leaves, materialize_grads=True))


def _differences(case: _Case) -> list[Tensor]:
    """Central differences of the reference for x and every parameter, vectorized over the entries."""
    inputs = [t.detach() for t in (case.x, *case.auto.parameters())]
    loss = case.function(case.auto)
    found = []
    for index, value in enumerate(inputs):
        steps = STEP * torch.eye(value.numel(), dtype=value.dtype).view(-1, *value.shape)

        def loss_at(moved: Tensor, index: int = index) -> Tensor:
            return loss(*inputs[:index], moved, *inputs[index + 1 :]).sum()

        difference = vmap(loss_at)(value + steps) - vmap(loss_at)(value - steps)
        found.append((difference / (2 * STEP)).view_as(value))
    return found


def _largest_error(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest ‖ours − theirs‖ / ‖theirs‖; for a gradient that is exactly 0, relative to the largest norm."""
    scale = max(float(t.norm()) for t in theirs)
    return max(
        float((a - b).norm()) / (float(b.norm()) if float(b.norm()) > 1e-9 * scale else scale or 1.0)
        for a, b in zip(ours, theirs, strict=True)
    )


def _mismatch(ours: Any, theirs: Any, what: str, limit: float = 100 * LIMIT_AUTOGRAD) -> str | None:
    error = _largest_error(list(_tensors(ours)), list(_tensors(theirs)))
    return None if error <= limit else f"{what} off by {error:.1e}"


def _tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    else:
        for each in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _tensors(each)


def _gradcheck(case: _Case, **options: Any) -> str | None:
    passes = gradcheck(case.function(case.hand), tuple(case.leaves()), fast_mode=True, raise_exception=False, **options)
    return None if passes else "gradcheck"


def _gradgradcheck(case: _Case) -> str | None:
    arguments = (case.function(case.hand), tuple(case.leaves()))
    return None if gradgradcheck(*arguments, fast_mode=True, raise_exception=False) else "gradgradcheck"


def _per_sample(case: _Case) -> str | None:
    """vmap(grad) over the samples of a batch, against torch's own."""
    axis = 0 if case.combination.runs is None else 1

    def of(model: MLP) -> Any:
        def one(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            batch = (x.unsqueeze(axis), y.unsqueeze(axis))
            return functional_call(_Loss(case, model), parameters, batch).sum()

        parameters = {f"model.{name}": value.detach() for name, value in model.named_parameters()}
        return vmap(grad(one), (None, axis, axis))(parameters, case.x, case.y)

    return _mismatch(of(case.hand), of(case.auto), "per-sample gradients")


class _Loss(torch.nn.Module):
    """The loss as a module, for `functional_call`."""

    def __init__(self, case: _Case, model: MLP) -> None:
        super().__init__()
        self.case, self.model = case, model

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.case.loss(self.model, x, y)


def _jacobian(case: _Case) -> str | None:
    """The prediction's Jacobian, by reverse and by forward mode."""
    x, *parameters = (t.detach() for t in case.leaves())
    every = tuple(range(1 + len(parameters)))

    def ours(*inputs: Tensor) -> Tensor:
        return predict(case.hand.network, inputs[0], inputs[1:])

    def theirs(*inputs: Tensor) -> Tensor:
        z_O = reference.logits(case.auto.network, inputs[0], inputs[1:])
        return reference.module(case.auto.network.output_activation)(z_O)

    expected = jacrev(theirs, every)(x, *parameters)
    return _mismatch(jacrev(ours, every)(x, *parameters), expected, "jacrev") or _mismatch(
        jacfwd(ours, every)(x, *parameters), expected, "jacfwd"
    )


def _hessian(case: _Case) -> str | None:
    """The Hessian for x and the first W, by forward mode over reverse mode."""
    inputs = tuple(t.detach() for t in case.leaves())

    def of(model: MLP) -> Any:
        function = case.function(model)
        return hessian(lambda *given: function(*given).sum(), (0, 1))(*inputs)

    # Second derivatives of a logarithm near 0 magnify rounding.
    return _mismatch(of(case.hand), of(case.auto), "hessian", 1e-8)


def _forms(case: _Case) -> str | None:
    """Derivatives that have two formulas agree in both: those of a matched pair, and of a row activation."""
    network, loss = case.hand.network, LOSSES[case.combination.loss]
    criterion, class_weight = case.hand.criterion(case.combination.loss, dict(case.combination.parameters), case.x)
    parameters = criterion.parameters(class_weight)
    z = reference.logits(network, case.x, list(case.hand.parameters())).detach()
    yhat = network.f(z)
    v = loss.derivative(yhat, case.y, **parameters)
    general = network.f.delta(v, yhat if network.f.reads == "a" else z)
    if isinstance(network.f, RowActivation):
        product = (network.f.derivative(yhat) @ v.unsqueeze(-1)).squeeze(-1)
        if different := _mismatch([product], [general], "the Jacobian is"):
            return different
    if loss.matched == network.output_activation:
        return _mismatch([loss.matched_delta(z, case.y, **parameters)], [general], "the matched pair's closed form is")
    return None


def _samples(case: _Case) -> str | None:
    """Weighted samples, one of them with weight 0, and the derivation as one plain function of tensors."""
    sample_weight = torch.linspace(0, 1, case.x.shape[-2], dtype=torch.float64).expand(case.x.shape[:-1])
    given = dict(case.combination.parameters)
    found = []
    for model in (case.hand, case.auto):
        loss = model.loss(case.x, case.y, case.combination.loss, sample_weight=sample_weight, **given)
        found.append([loss, *torch.autograd.grad(loss.sum(), list(model.parameters()))])
    if different := _mismatch(found[0], found[1], "with sample weights"):
        return different
    model = case.hand
    criterion, class_weight = model.criterion(case.combination.loss, given, case.x)
    theta = [each.detach() for each in model.parameters()]
    loss, _, gradients = bp.gradients(model.network, criterion, case.x, case.y, theta, class_weight, sample_weight)
    return _mismatch([loss, *gradients], found[0], "as a plain function")


def _autocast(case: _Case) -> str | None:
    """bfloat16 autocast on the CPU: the dtypes of torch's own layers, and equal numbers up to bfloat16's rounding."""
    found = []
    x = case.x.float()
    y = case.y.float() if case.y.is_floating_point() else case.y
    for model in (case.hand, case.auto):
        low_precision = MLP(
            model.sizes,
            model.network.hidden_activation,
            model.network.output_activation,
            gradient=model.gradient,
            runs=case.combination.runs,
            dtype=torch.float32,
        )
        low_precision.load_state_dict(model.state_dict())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            yhat, loss = low_precision(x), case.loss(low_precision, x, y)
        found.append([yhat, loss, *torch.autograd.grad(loss.sum(), list(low_precision.parameters()))])
    dtypes = [[t.dtype for t in each] for each in found]
    if dtypes[0] != dtypes[1]:
        return f"result dtypes {dtypes[0]}, torch's {dtypes[1]}"
    exact = _gradients(case, case.auto)[1:]
    ours, theirs = (_largest_error([t.double() for t in each[2:]], exact) for each in found)
    return None if ours <= max(0.1, 3 * theirs) else f"off by {ours:.1e}, torch's own by {theirs:.1e}"


MODES: dict[str, Callable[[_Case], str | None]] = {
    "reverse": _gradcheck,
    "forward": partial(_gradcheck, check_forward_ad=True, check_backward_ad=False),
    "batched": partial(_gradcheck, check_batched_grad=True),
    "second": _gradgradcheck,
    "per_sample": _per_sample,
    "jacobian": _jacobian,
    "hessian": _hessian,
    "forms": _forms,
    "samples": _samples,
    "autocast": _autocast,
}
