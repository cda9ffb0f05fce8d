"""The module: its parameters, its conversions, and what it refuses."""

import math
from itertools import pairwise

import pytest
import torch
from tests.calculus.settings import ACTIVATIONS, HIDDEN_ACTIVATIONS, network
from torch import nn

from backhand import MLP
from backhand.calculus import reference
from backhand.errors import UserError

LONG = torch.zeros(5, 3, dtype=torch.long)


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("f", ACTIVATIONS)
@pytest.mark.parametrize("g", HIDDEN_ACTIVATIONS)
def test_from_sequential_and_back_preserves_outputs_and_gradients(g, f, depth):
    sizes = [3, *[4, 5, 6][:depth], 2]
    parts = []
    for n, m in pairwise(sizes):
        parts += [nn.Linear(n, m, dtype=torch.float64), reference.module(g)]
    net = nn.Sequential(*parts[:-1], reference.module(f))
    model = MLP.from_sequential(net)
    back = model.to_sequential()
    x = torch.randn(7, 3, dtype=torch.float64)
    v = torch.randn(7, 2, dtype=torch.float64)
    found = []
    for each in (net, model, back):
        given = x.clone().requires_grad_()
        yhat = each(given)
        (yhat * v).sum().backward()
        found.append((yhat, given.grad, [p.grad for p in each.parameters()]))
    for yhat, dx, gradients in found[1:]:
        torch.testing.assert_close(yhat, found[0][0], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(dx, found[0][1], rtol=1e-12, atol=1e-14)
        for ours, theirs in zip(gradients, found[0][2], strict=True):
            if yhat is found[1][0]:
                ours = ours.mT if ours.dim() == 2 else ours
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_a_sequential_without_activations_is_linear():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model = MLP.from_sequential(net)
    assert (model.network.hidden_activation, model.network.output_activation) == ("identity", "identity")
    x = torch.randn(5, 3)
    torch.testing.assert_close(model(x), net(x))


@pytest.mark.parametrize("runs", [None, 3])
def test_each_hidden_layer_may_have_its_own_activation(runs):
    # One whose derivative reads a and one whose derivative reads z, in either order.
    for names in (["relu", "gelu", "tanh"], ["gelu", "relu", "silu"]):
        options = {"runs": runs, "dtype": torch.float64, "generator": torch.Generator().manual_seed(1)}
        model = MLP([3, 5, 4, 6, 2], names, "softmax", **options)
        auto = MLP([3, 5, 4, 6, 2], names, "softmax", gradient="autograd", **options)
        auto.load_state_dict(model.state_dict())
        x = torch.randn(*([] if runs is None else [runs]), 7, 3, dtype=torch.float64, requires_grad=True)
        y = torch.randint(2, x.shape[:-1])
        found = []
        for each in (model, auto):
            value = each.loss(x, y, "cross_entropy")
            found.append([value, *torch.autograd.grad(value.sum(), [x, *each.parameters()])])
        torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)
        if runs is None:
            net = model.to_sequential()
            torch.testing.assert_close(net(x), model(x))
            again = MLP.from_sequential(net)
            assert again.network == model.network
            torch.testing.assert_close(again(x), model(x))


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (nn.Sequential(), "no Linear"),
        (nn.Sequential(nn.ReLU()), "does not follow a Linear"),
        (nn.Sequential(nn.Linear(2, 3, bias=False)), "without bias"),
        (nn.Sequential(nn.Linear(2, 3), nn.Dropout()), "none of Linear"),
        (nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(4, 2)), "takes 4 inputs"),
        (nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.ReLU()), "does not follow"),
        (nn.Sequential(nn.Linear(2, 3), nn.Softmax(dim=0)), "not the last"),
        (nn.Sequential(nn.Linear(2, 3), nn.Softmax(-1), nn.Linear(3, 2)), "softmax"),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2, dtype=torch.float64)), "module 1 is torch.float64"),
        *((wrong, "takes a torch.nn.Sequential") for wrong in (3, None, nn.Linear(2, 3), [nn.Linear(2, 3)])),
    ],
)
def test_from_sequential_refuses_what_it_cannot_reproduce(net, reason):
    with pytest.raises(UserError, match=reason):
        MLP.from_sequential(net)


def test_to_sequential_refuses_a_run_axis():
    with pytest.raises(ValueError, match="run axis"):
        network("tanh", "softmax", 1, 2).to_sequential()


def test_weights_are_stored_in_out():
    model = MLP(sizes=[64, 32, 10], hidden_activation="tanh", output_activation="softmax")
    assert [tuple(layer.weight.shape) for layer in model.layers] == [(64, 32), (32, 10)]
    assert [tuple(layer.bias.shape) for layer in model.layers] == [(32,), (10,)]
    assert model(torch.randn(4, 64)).sum(-1).allclose(torch.ones(4))


def test_the_default_initialisation_is_that_of_a_torch_linear_layer():
    ours = MLP([400, 300], output_activation="identity").layers[0]
    theirs = nn.Linear(400, 300)
    bound = 1 / math.sqrt(400)
    for mine, other in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        assert mine.abs().max() <= bound
        assert other.abs().max() <= bound
        assert mine.std().item() == pytest.approx(other.std().item(), rel=0.1)


@pytest.mark.parametrize(
    ("init", "std"), [("xavier", (2 / 700) ** 0.5), ("kaiming", (2 / 400) ** 0.5), ("normal", 1.0)]
)
def test_each_initialisation_has_its_papers_variance(init, std):
    layer = MLP([400, 300], output_activation="identity", init=init, init_scale=0.5).layers[0]
    assert layer.weight.std().item() == pytest.approx(0.5 * std, rel=0.02)
    assert not layer.bias.any()


def test_a_generator_decides_the_initial_values():
    first, second = (MLP([3, 4, 2], generator=torch.Generator().manual_seed(7)) for _ in range(2))
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"sizes": [3]}, "at least"),
        ({"sizes": [3, 0, 2]}, "1 or more"),
        ({"sizes": [3, 4.7, 2]}, "each a whole number"),
        ({"sizes": [3, 2], "hidden_activation": "tahn"}, "did you mean tanh"),
        ({"sizes": [3, 2], "hidden_activation": "softmax"}, "choose from"),
        ({"sizes": [3, 4, 2], "hidden_activation": ["tanh", "relu"]}, "has 2 names for 1 hidden layer"),
        ({"sizes": [3, 4, 2], "hidden_activation": ["tahn"]}, "did you mean tanh"),
        ({"sizes": [3, 4, 2], "hidden_activation": 3}, "must be a name, or a list"),
        ({"sizes": [3, 2], "output_activation": "soft"}, "did you mean softmax"),
        ({"sizes": [3, 2], "init": "zeros"}, "choose from linear"),
        ({"sizes": [3, 2], "gradient": "numeric"}, "choose from hand, autograd"),
        *(({"sizes": wrong}, "give a list") for wrong in (5, None, "34", {3: 1, 2: 1}, [[3], [2]], torch.tensor(3))),
        *(
            ({"sizes": [3, 2], name: wrong}, f"{name}=.*: must be a name; choose from ")
            for name in ("output_activation", "init", "gradient")
            for wrong in (3, None, {}, ["tanh"], nn.Tanh(), torch.tanh)
        ),
        *(({"sizes": [3, 4, 2], "hidden_activation": wrong}, "must be a name") for wrong in (None, {}, [3], nn.Tanh())),
        *(({"sizes": [3, 2], "init_scale": wrong}, "finite number") for wrong in ("a", None, [1.0], math.nan, True)),
        *(({"sizes": [3, 2], "runs": wrong}, "whole number, 1 or more") for wrong in (0, -1, 1.5, "2", [2], True)),
        ({"sizes": [3, 2], "generator": 3}, "must be a torch.Generator"),
        *(({"sizes": [3, 2], "dtype": wrong}, "dtype=") for wrong in ("float32", 3, torch.int64, torch.complex64)),
        *(({"sizes": [3, 2], "device": wrong}, "device=") for wrong in ("gpu", 3.5)),
    ],
)
def test_a_wrong_network_is_refused_with_what_is_allowed(arguments, reason):
    with pytest.raises(UserError, match=reason) as refused:
        MLP(**arguments)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("sizes", [(3, 4, 2), range(2, 5), torch.tensor([3, 4, 2]), torch.tensor([3, 4, 2]).numpy()])
def test_sizes_may_be_any_list_of_whole_numbers(sizes):
    assert MLP(sizes).sizes == [int(size) for size in sizes]


@pytest.mark.parametrize(
    ("x", "y", "loss", "reason"),
    [
        (torch.zeros(5, 4), torch.zeros(5, dtype=torch.long), "cross_entropy", r"takes \(…, batch, 3\)"),
        (torch.zeros(3), torch.zeros(1, dtype=torch.long), "cross_entropy", r"takes \(…, batch, 3\)"),
        (torch.zeros(5, 3), torch.zeros(5), "cross_entropy", "class numbers"),
        (torch.zeros(5, 3), torch.zeros(4, dtype=torch.long), "cross_entropy", "class numbers"),
        (torch.zeros(5, 3), torch.zeros(5, 1), "mse", r"\(…, 5, 4\)"),
        (torch.zeros(5, 3), torch.zeros(5, 4), "hinge", "choose from"),
        (torch.zeros(5, 3), torch.zeros(5, 4, requires_grad=True), "mse", "none for it"),
        *((x, None, "mse", "x must be a floating-point torch.Tensor") for x in (3, None, [[1.0] * 3], LONG)),
        *((torch.zeros(5, 3), y, "mse", "the target must be a torch.Tensor") for y in (3, None, [[1.0] * 4] * 5)),
        (torch.zeros(5, 3), torch.zeros(5, dtype=torch.bool), "cross_entropy", "class numbers"),
        *((torch.zeros(5, 3), LONG, loss, "must be a name; choose from") for loss in (3, None, ["mse"], nn.MSELoss())),
    ],
)
def test_a_wrong_batch_is_refused_with_what_is_allowed(x, y, loss, reason):
    with pytest.raises(UserError, match=reason):
        network("tanh", "softmax", 1, None, dtype=torch.float32).loss(x, y, loss)


@pytest.mark.parametrize("x", [3, None, [[1.0] * 3], LONG, torch.zeros(5, 4)])
def test_a_wrong_input_is_refused(x):
    with pytest.raises(UserError, match=r"x must be a floating-point torch.Tensor|takes \(…, batch, 3\)"):
        MLP([3, 2])(x)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        *(({"sample_weight": wrong}, "must be a torch.Tensor") for wrong in (3, [1.0] * 5, {})),
        ({"sample_weight": torch.ones(4)}, r"must be \(…, 5\)"),
        ({"sample_weight": torch.ones(5, requires_grad=True)}, "none for it"),
        ({"class_weight": torch.ones(4, requires_grad=True)}, "none for it"),
        *(
            ({"class_weight": wrong}, "a number or a list")
            for wrong in (object(), {0: 1.0}, "balanced", [1, "a", 1, 1])
        ),
        *(({"label_smoothing": wrong}, "must be a number between") for wrong in ("a", [0.1], {}, 2)),
    ],
)
def test_a_wrong_parameter_of_the_loss_is_refused(parameters, reason):
    model = network("tanh", "softmax", 1, None, dtype=torch.float32)
    with pytest.raises(UserError, match=reason):
        model.loss(torch.zeros(5, 3), torch.zeros(5, dtype=torch.long), "cross_entropy", **parameters)


@pytest.mark.parametrize(
    ("f", "loss"), [("identity", "cross_entropy"), ("sigmoid", "cross_entropy"), ("tanh", "binary_cross_entropy")]
)
def test_a_loss_that_does_not_fit_the_output_is_refused(f, loss):
    with pytest.raises(ValueError, match=f"the output activation is {f}"):
        network("tanh", f, 1, None).loss(torch.zeros(5, 3), torch.zeros(5), loss)
