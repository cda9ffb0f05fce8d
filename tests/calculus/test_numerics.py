"""Numerical accuracy: saturated units, kinks, and low precision."""

import statistics
from itertools import product

import pytest
import torch
from tests.calculus.settings import ACTIVATIONS, FITTING, HIDDEN_ACTIVATIONS, LOSSES, MATCHED
from tests.suites import smoke

from backhand import MLP
from backhand.calculus import backpropagation, reference
from backhand.calculus.backpropagation import Criterion, Network

EXTREME = torch.tensor([-1e4, -300.0, -89.0, -30.0, -1.0, -1e-4, 0.0, 1e-4, 1.0, 30.0, 89.0, 300.0, 1e4])
KINKS = torch.tensor([-1.0, 0.0, 1.0])
PRECISIONS = [torch.float32, torch.bfloat16]


def targets(loss: str, rows: int, outputs: int, dtype: torch.dtype) -> list[torch.Tensor]:
    if LOSSES[loss].target == "classes":
        return [torch.full((rows,), c) for c in range(outputs)]
    return [torch.full((rows, outputs), value, dtype=dtype) for value in (0.0, 1.0)]


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_as_good_as_torchs_wherever_it_saturates(name, dtype):
    activation = ACTIVATIONS[name]
    z = torch.stack([EXTREME, EXTREME.flip(0), torch.zeros_like(EXTREME)], -1).to(dtype)
    v = torch.linspace(-1, 2, z.numel(), dtype=dtype).view_as(z)

    def theirs(z, v):
        z.requires_grad_()
        value = reference.module(name)(z)
        return value.detach(), torch.autograd.grad((value * v).sum(), z)[0]

    ours = activation(z)
    delta = activation.delta(v, ours if activation.reads == "a" else z)
    # Some of torch's own round in between where they are given bfloat16; none of them does in float64.
    exact = theirs(z.double(), v.double())
    for found, torchs, right in zip((ours, delta), theirs(z.clone(), v), exact, strict=True):
        assert found.dtype == dtype
        assert found.isfinite().all()
        error = (found.double() - right).abs()
        rounding = 1e-5 + 2 * torch.finfo(dtype).eps * right.abs()
        assert (error <= torch.maximum((torchs.double() - right).abs(), rounding)).all()


@pytest.mark.parametrize("name", HIDDEN_ACTIVATIONS)
def test_the_derivative_at_a_kink_is_torchs(name):
    z = KINKS.clone().requires_grad_()
    (theirs,) = torch.autograd.grad(reference.module(name)(z).sum(), z)
    saved = z.detach() if ACTIVATIONS[name].reads == "z" else ACTIVATIONS[name](z.detach())
    torch.testing.assert_close(ACTIVATIONS[name].delta(torch.ones(3), saved), theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("loss", "parameters"), [("l1", {}), ("huber", {}), ("huber", {"huber_delta": 0.5})])
def test_the_derivative_of_a_loss_at_its_kink_is_torchs(loss, parameters):
    network, criterion = Network("tanh", "identity"), Criterion(loss, tuple(parameters.items()))
    z = torch.tensor([[-1.0, -0.5, 0.0, 0.5, 1.0]], requires_grad=True)
    y = torch.zeros_like(z)
    (theirs,) = torch.autograd.grad(reference.loss(network, criterion, z, y), z)
    assert torch.equal(backpropagation.loss_delta(network, criterion, z.detach(), y), theirs)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("f", "loss"), FITTING)
def test_no_loss_turns_a_saturated_output_into_nan(f, loss, dtype):
    network, criterion = Network("tanh", f), Criterion(loss)
    z = torch.stack([EXTREME, EXTREME.flip(0), torch.zeros_like(EXTREME)], -1).to(dtype)
    for y in targets(loss, *z.shape, dtype):
        value = backpropagation.loss_value(network, criterion, z, y)
        delta = backpropagation.loss_delta(network, criterion, z, y)
        assert not value.isnan()
        assert not delta.isnan().any()
        if loss != "poisson_nll":  # its e^ŷ does overflow
            assert value.isfinite()
            assert delta.isfinite().all()
        else:
            yhat = ACTIVATIONS[f](z).float()
            assert delta.isinf().any() == yhat.exp().isinf().any()


@pytest.mark.parametrize(("f", "loss"), MATCHED)
def test_a_matched_pair_has_torchs_value_where_it_saturates(f, loss):
    network, criterion = Network("tanh", f), Criterion(loss)
    z = torch.stack([EXTREME, EXTREME.flip(0)], -1)
    for y in targets(loss, *z.shape, torch.float32):
        ours = backpropagation.loss_value(network, criterion, z, y)
        torch.testing.assert_close(ours, reference.loss(network, criterion, z, y))


def draw_errors(g: str, f: str, loss: str, dtype: torch.dtype) -> list[tuple[float, float]]:
    """For each of 20 draws: the error of all gradients by hand, and torch's own, against float64."""
    errors = []
    for seed in range(20):
        torch.manual_seed(seed)
        low = MLP([8, 16, 5], g, f, init_scale=1.5, dtype=dtype)
        x = torch.randn(16, 8).to(dtype)
        y = torch.randint(5, (16,)) if LOSSES[loss].target == "classes" else torch.rand(16, 5).to(dtype)
        found = []
        for gradient, precision in (("autograd", torch.float64), ("hand", dtype), ("autograd", dtype)):
            model = MLP([8, 16, 5], g, f, gradient=gradient, dtype=precision)
            model.load_state_dict(low.state_dict())
            value = model.loss(x.to(precision), y.to(precision) if y.is_floating_point() else y, loss)
            gradients = torch.autograd.grad(value, list(model.parameters()))
            found.append(torch.cat([each.double().flatten() for each in gradients]))
        exact, hand, torchs = found
        errors.append((float((hand - exact).norm() / exact.norm()), float((torchs - exact).norm() / exact.norm())))
    return errors


@pytest.mark.slow
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("g", smoke(HIDDEN_ACTIVATIONS, "tanh"))
def test_low_precision_loses_no_more_than_torchs_own_autograd(g, dtype):
    # Median over 20 draws of each matched pair; a single pair's median is itself a draw, which the bound must not be.
    errors = [pair for f, loss in MATCHED for pair in draw_errors(g, f, loss, dtype)]
    hand, torchs = (statistics.median(each) for each in zip(*errors, strict=True))
    assert hand <= 1.1 * torchs


@pytest.mark.slow
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("f", sorted({f for f, _ in FITTING}))
def test_low_precision_loses_no_more_with_any_output(f, dtype):
    errors = [pair for g, (output, loss) in product(["tanh", "relu"], FITTING) if output == f
              for pair in draw_errors(g, f, loss, dtype)]  # fmt: skip
    hand, torchs = (statistics.median(each) for each in zip(*errors, strict=True))
    assert hand <= 1.1 * torchs
