"""The loss over the samples: with sample weights, and in chunks of rows for a large output layer."""

import pytest
import torch
from tests.calculus.settings import LOSSES, MATCHED, RUNS, B, C, batch, network
from torch.autograd import gradcheck, gradgradcheck

from backhand import MLP
from backhand.calculus import backpropagation, large_outputs, reference
from backhand.calculus.backpropagation import Criterion
from backhand.calculus.transforms import evaluate_loss

PARAMETERS = [
    ("cross_entropy", {}),
    ("cross_entropy", {"label_smoothing": 0.1}),
    ("cross_entropy", {"class_weight": [1.0, 2.0, 0.5, 0.0]}),
    ("cross_entropy", {"class_weight": [1.0, 2.0, 0.5, 3.0], "label_smoothing": 0.2}),
    ("binary_cross_entropy", {"pos_weight": 3.0}),
    ("huber", {"huber_delta": 0.3}),
]


def loss_and_gradients(model, x, y, loss, **options):
    model.zero_grad()
    x = x.detach().clone().requires_grad_()
    value = model.loss(x, y, loss, **options)
    value.sum().backward()
    return value.detach(), [x.grad, *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize(("loss", "parameters"), [*((loss, {}) for _, loss in MATCHED), *PARAMETERS])
@pytest.mark.parametrize("gradient", ["hand", "autograd"])
def test_a_sample_weight_of_three_equals_three_samples(loss, parameters, gradient):
    model = network("tanh", LOSSES[loss].matched, 1, None, gradient=gradient)
    (x, y), weight = batch(loss, None), torch.tensor([1, 3, 0, 2, 1])
    weighted = loss_and_gradients(model, x, y, loss, sample_weight=weight.double(), **parameters)
    repeated = loss_and_gradients(
        model, x.repeat_interleave(weight, 0), y.repeat_interleave(weight, 0), loss, **parameters
    )
    torch.testing.assert_close(weighted[0], repeated[0], rtol=1e-12, atol=1e-14)
    for ours, theirs in zip(weighted[1][1:], repeated[1][1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize(("f", "loss"), MATCHED)
def test_every_gradient_of_a_weighted_loss_passes_gradcheck(f, loss, runs):
    model = network("tanh", f, 1, runs)
    x, y = batch(loss, runs)
    weight = torch.rand(*x.shape[:-1], dtype=torch.float64)

    def loss_of(x, *parameters):
        return evaluate_loss(model.network, Criterion(loss), y, None, x, parameters, sample_weight=weight)[0]

    inputs = (x.requires_grad_(), *(each.detach().clone().requires_grad_() for each in model.parameters()))
    assert gradcheck(loss_of, inputs)
    assert gradgradcheck(loss_of, inputs)


def test_a_batch_with_sample_weights_of_zero_has_no_loss_and_no_gradient():
    model = network("tanh", "softmax", 1, None)
    x, y = batch("cross_entropy", None)
    value, (_, *gradients) = loss_and_gradients(model, x, y, "cross_entropy", sample_weight=torch.zeros(B))
    assert value == 0
    assert all((gradient == 0).all() for gradient in gradients)


def test_a_sample_weight_of_nan_makes_the_loss_nan():
    model = network("tanh", "softmax", 1, None)
    weight = torch.tensor([1.0, float("nan"), 1.0, 1.0, 1.0])
    assert model.loss(*batch("cross_entropy", None), "cross_entropy", sample_weight=weight).isnan()


def test_sample_weights_of_a_wrong_shape_are_refused():
    model = network("tanh", "softmax", 1, None)
    with pytest.raises(ValueError, match=r"sample_weight has the shape \(3,\); it must be \(…, 5\)"):
        model.loss(*batch("cross_entropy", None), "cross_entropy", sample_weight=torch.ones(3))


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_plain_function_gives_the_gradients_of_the_autograd_function(loss, depth, runs):
    model = network("silu", LOSSES[loss].matched, depth, runs)
    x, y = batch(loss, runs)
    value, (_, *expected) = loss_and_gradients(model, x, y, loss)
    theta = [each.detach() for each in model.parameters()]
    found, z_O, gradients = backpropagation.gradients(model.network, Criterion(loss), x, y, theta)
    torch.testing.assert_close([found, *gradients], [value, *expected], rtol=0, atol=0)
    assert z_O.shape == (*x.shape[:-1], C)


LARGE = [(f, loss) for f, loss in MATCHED] + [("sigmoid", "mse")]


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("f", "loss"), LARGE)
def test_a_large_output_layer_in_chunks_has_the_same_loss_and_gradients(monkeypatch, f, loss, depth, dtype):
    model = network("gelu", f, depth, None, dtype=dtype)
    x, y = batch(loss, None, dtype)
    unsplit = loss_and_gradients(model, x, y, loss)
    monkeypatch.setattr(large_outputs, "CHUNK", 2 * C)  # chunks of 2, 2 and 1 rows
    rows = []
    original = backpropagation.loss_delta
    monkeypatch.setattr(
        backpropagation,
        "loss_delta",
        lambda network, criterion, z, *a: rows.append(len(z)) or original(network, criterion, z, *a),
    )
    by_chunks = loss_and_gradients(model, x, y, loss)
    assert rows == [2, 2, 1]
    tolerance = {"rtol": 1e-12, "atol": 1e-14} if dtype == torch.float64 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(by_chunks[0], unsplit[0], **tolerance)
    for found, expected in zip(by_chunks[1], unsplit[1], strict=True):
        torch.testing.assert_close(found, expected, **tolerance)


def test_a_large_output_layer_is_differentiable_twice(monkeypatch):
    monkeypatch.setattr(large_outputs, "CHUNK", C)
    model = network("tanh", "softmax", 1, None)
    x, y = batch("cross_entropy", None)

    def loss_of(x, *parameters):
        return evaluate_loss(model.network, Criterion("cross_entropy"), y, None, x, parameters)[0]

    inputs = (x.requires_grad_(), *(each.detach().clone().requires_grad_() for each in model.parameters()))
    assert gradgradcheck(loss_of, inputs)


def test_a_wide_layer_before_a_narrow_one_has_torchs_gradients():
    model = MLP([5, 64, 3], dtype=torch.float64)  # 64 units before 3 outputs take the transposed products
    x, y = torch.randn(7, 5, dtype=torch.float64), torch.randint(3, (7,))
    assert backpropagation.NARROW * 3 <= 64
    ours = loss_and_gradients(model, x, y, "cross_entropy")
    net = model.to_sequential()[:-1]
    torch.nn.functional.cross_entropy(net(x), y).backward()
    for found, expected in zip(
        ours[1][1:], [net[0].weight.grad.T, net[0].bias.grad, net[2].weight.grad.T, net[2].bias.grad], strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_the_references_weighted_loss_is_scikit_learns():
    from sklearn.metrics import log_loss, mean_squared_error

    x, y = batch("cross_entropy", None)
    model, weight = network("tanh", "softmax", 1, None), torch.rand(B, dtype=torch.float64)
    z_O = reference.logits(model.network, x, list(model.parameters())).detach()
    ours = reference.loss(model.network, Criterion("cross_entropy"), z_O, y, None, weight)
    assert float(ours) == pytest.approx(log_loss(y, z_O.softmax(-1), sample_weight=weight, labels=range(C)))
    model, (_, target) = network("tanh", "identity", 1, None), batch("mse", None)
    ours = reference.loss(model.network, Criterion("mse"), z_O, target, None, weight)
    assert float(ours) == pytest.approx(mean_squared_error(target, z_O, sample_weight=weight))
