"""Each activation and loss on its own: value and derivative against torch's."""

import pytest
import torch
from tests.calculus.settings import ACTIVATIONS, FITTING, LOSSES, MATCHED, B, C, batch
from torch.func import jacrev, vmap

from backhand.calculus import backpropagation, reference
from backhand.calculus.backpropagation import Criterion, Network


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_has_torchs_value_and_derivative(name):
    activation, theirs = ACTIVATIONS[name], reference.module(name)
    z = torch.randn(B, C, dtype=torch.float64)
    a = activation(z)
    saved = a if activation.reads == "a" else z
    torch.testing.assert_close(a, theirs(z), rtol=1e-14, atol=1e-15)
    jacobian = vmap(jacrev(theirs))(z)  # (B, C, C)
    v = torch.randn(B, C, dtype=torch.float64)
    torch.testing.assert_close(activation.delta(v, saved), (v.unsqueeze(-2) @ jacobian).squeeze(-2))
    derivative = activation.derivative(saved)
    full = derivative if derivative.dim() == 3 else derivative.expand_as(a).diag_embed()
    torch.testing.assert_close(full, jacobian)


@pytest.mark.parametrize(("f", "loss"), FITTING)
def test_a_loss_has_torchs_value(f, loss):
    network = Network("tanh", f)
    _, y = batch(loss, None)
    z = torch.randn(B, C, dtype=torch.float64)
    torch.testing.assert_close(
        backpropagation.loss_value(network, Criterion(loss), z, y),
        reference.loss(network, Criterion(loss), z, y),
        rtol=1e-13,
        atol=1e-15,
    )


@pytest.mark.parametrize(("f", "loss"), MATCHED)
def test_a_matched_pair_is_the_general_rule_in_another_form(f, loss):
    L, activation = LOSSES[loss], ACTIVATIONS[f]
    _, y = batch(loss, None)
    z = torch.randn(B, C, dtype=torch.float64)
    yhat = activation(z)
    torch.testing.assert_close(L.matched_value(z, y), L.value(yhat, y))
    torch.testing.assert_close(L.matched_delta(z, y), activation.delta(L.derivative(yhat, y), yhat))


def test_the_bounds_of_binary_cross_entropy_are_torchs():
    # At ŷ = 0 and 1 the logarithms are infinite; torch bounds them, and the derivative, and so must we.
    p = torch.tensor([[0.0], [1.0], [0.0], [1.0]], requires_grad=True)
    y = torch.tensor([[1.0], [0.0], [0.0], [1.0]])
    theirs = torch.nn.functional.binary_cross_entropy(p, y)
    (slope,) = torch.autograd.grad(theirs, p)
    loss = LOSSES["binary_cross_entropy"]
    torch.testing.assert_close(loss.value(p.detach(), y), theirs.detach())
    torch.testing.assert_close(loss.derivative(p.detach(), y), slope)


@pytest.mark.parametrize("loss", LOSSES)
def test_with_a_run_axis_there_is_one_loss_per_run(loss):
    f = LOSSES[loss].matched
    _, y = batch(loss, 3)
    z = torch.randn(3, B, C, dtype=torch.float64)
    network = Network("tanh", f)
    each = torch.stack([backpropagation.loss_value(network, Criterion(loss), z[k], y[k]) for k in range(3)])
    torch.testing.assert_close(backpropagation.loss_value(network, Criterion(loss), z, y), each)
