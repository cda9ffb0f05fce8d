"""The backward pass against finite differences and against torch's own graph."""

import pytest
import torch
from tests.calculus.settings import (
    ACTIVATIONS,
    HIDDEN_SIZES,
    MATCHED,
    RUNS,
    B,
    C,
    D,
    batch,
    network,
)
from torch.autograd import gradcheck, gradgradcheck

from backhand.calculus.backpropagation import Criterion
from backhand.calculus.mlp import MLP
from backhand.calculus.transforms import evaluate_loss, predict


def loss_function(model: MLP, loss: str, y: torch.Tensor):
    """The loss as a function of x and the parameters."""

    def loss_of(x, *parameters):
        return evaluate_loss(model.network, Criterion(loss), y, None, x, parameters)[0]

    return loss_of


def leaves(model: MLP) -> list[torch.Tensor]:
    return [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("depth", HIDDEN_SIZES)
@pytest.mark.parametrize(("f", "loss"), MATCHED)
@pytest.mark.parametrize("g", ["tanh", "gelu"])  # one whose derivative reads a, one whose derivative reads z
def test_every_gradient_of_a_matched_pair_passes_gradcheck(g, f, loss, depth, runs):
    model = network(g, f, depth, runs)
    x, y = batch(loss, runs)
    loss_of = loss_function(model, loss, y)
    assert gradcheck(loss_of, (x.requires_grad_(), *leaves(model)), check_batched_grad=True, check_forward_ad=True)


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize(
    ("f", "depth"), [*((f, 1) for f in ACTIVATIONS), *((f, depth) for f in ("softmax", "mish") for depth in (0, 3))]
)
def test_every_gradient_of_the_prediction_passes_gradcheck(f, depth, runs):
    model = network("tanh", f, depth, runs)
    x, _ = batch("mse", runs)

    def prediction(x, *parameters):
        return predict(model.network, x, parameters)

    inputs = (x.requires_grad_(), *leaves(model))
    assert gradcheck(prediction, inputs, check_batched_grad=True, check_forward_ad=True)
    assert gradgradcheck(prediction, inputs)


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize(("f", "loss"), MATCHED)
def test_the_backward_pass_can_itself_be_differentiated(f, loss, runs):
    model = network("tanh", f, 1, runs)
    x, y = batch(loss, runs)
    loss_of = loss_function(model, loss, y)
    inputs = (x.requires_grad_(), *leaves(model))
    assert gradcheck(loss_of, inputs)
    assert gradgradcheck(loss_of, inputs)


def test_a_batch_without_the_run_axis_is_shared_by_all_runs():
    model = network("tanh", "softmax", 1, 3)
    x, y = batch("cross_entropy", None)
    x.requires_grad_()
    found = torch.autograd.grad(model.loss(x, y, "cross_entropy").sum(), [x, *model.parameters()])
    copies = x.detach().expand(3, B, D).clone().requires_grad_()
    each = torch.autograd.grad(model.loss(copies, y.expand(3, B), "cross_entropy").sum(), [copies, *model.parameters()])
    torch.testing.assert_close(found[0], each[0].sum(0))
    torch.testing.assert_close(found[1:], each[1:])


def test_a_run_of_a_population_has_the_gradients_of_a_single_network():
    population = network("relu", "softmax", 3, 3)
    x, y = batch("cross_entropy", 3)
    population.loss(x, y, "cross_entropy").sum().backward()
    for k in range(3):
        single = network("relu", "softmax", 3, None)
        single.load_state_dict({name: value[k] for name, value in population.state_dict().items()})
        single.loss(x[k], y[k], "cross_entropy").backward()
        for ours, theirs in zip(population.parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(ours.grad[k], theirs.grad, rtol=1e-12, atol=1e-15)


def test_the_input_gradient_is_computed_only_when_needed(monkeypatch):
    from backhand.calculus import backpropagation

    calls = []
    original = backpropagation.input_gradient
    monkeypatch.setattr(backpropagation, "input_gradient", lambda *a: calls.append(1) or original(*a))
    model = network("tanh", "softmax", 1, None)
    x, y = batch("cross_entropy", None)
    model.loss(x, y, "cross_entropy").backward()
    assert not calls
    model.loss(x.requires_grad_(), y, "cross_entropy").backward()
    assert calls == [1]
    assert x.grad is not None


def test_the_recursion_stops_above_frozen_layers(monkeypatch):
    from backhand.calculus import backpropagation

    steps = []
    original = backpropagation.hidden_delta
    monkeypatch.setattr(backpropagation, "hidden_delta", lambda *a: steps.append(1) or original(*a))
    model = network("tanh", "softmax", 3, None)
    reference = network("tanh", "softmax", 3, None)
    reference.load_state_dict(model.state_dict())
    for layer in model.layers[:2]:
        layer.requires_grad_(False)
    x, y = batch("cross_entropy", None)
    model.loss(x, y, "cross_entropy").backward()
    assert len(steps) == 1
    reference.loss(x, y, "cross_entropy").backward()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert ours.grad is None if not ours.requires_grad else torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("f", "loss"), MATCHED)
def test_results_have_the_dtype_of_the_parameters(f, loss, dtype):
    model = network("tanh", f, 1, None, dtype=dtype)
    x, y = batch(loss, None, dtype)
    value = model.loss(x, y, loss)
    value.backward()
    assert model(x).dtype == value.dtype == dtype
    assert {parameter.grad.dtype for parameter in model.parameters()} == {dtype}


def test_the_logits_are_returned_with_the_loss_and_give_the_prediction():
    model = network("tanh", "softmax", 1, None)
    x, y = batch("cross_entropy", None)
    value, z_O = model.loss_and_logits(x, y, "cross_entropy")
    assert z_O.shape == (B, C)
    torch.testing.assert_close(model.output(z_O), model(x))
    torch.testing.assert_close(value, model.loss(x, y, "cross_entropy"))
