"""The layer statistics, against autograd on torch's own network, and numpy."""

import numpy as np
import pytest
import torch

from backhand import MLP
from backhand.data.batches import Batch
from backhand.training.layer_stats import LayerQuantities, histograms, layer_quantities, layer_stats


def taken_apart(model, x, y):
    """Each layer's z and h, and the loss's gradients by z and by the parameters, all by autograd."""
    z, h = [], x
    theta = [parameter.detach().requires_grad_() for parameter in model.parameters()]
    f = {"softmax": torch.nn.Softmax(-1), "identity": torch.nn.Identity()}[model.network.output_activation]
    g = {"tanh": torch.tanh, "relu": torch.relu, "gelu": torch.nn.functional.gelu}[model.network.hidden_activation]
    hidden = []
    for i in range(len(theta) // 2):
        z.append(h @ theta[2 * i] + theta[2 * i + 1])
        h = g(z[-1])
        hidden.append(h)
    if f.__class__ is torch.nn.Softmax:
        loss = torch.nn.functional.cross_entropy(z[-1], y)
    else:
        loss = torch.nn.functional.mse_loss(z[-1], y)
    found = torch.autograd.grad(loss, [*z, *theta])
    return z, hidden[:-1], found[: len(z)], found[len(z) :]


@pytest.mark.parametrize("g", ["tanh", "relu", "gelu"])
@pytest.mark.parametrize("hidden", [[], [5], [6, 4]])
@pytest.mark.parametrize("f", ["softmax", "identity"])
def test_the_quantities_and_statistics_of_layers_are_those_of_autograd(g, hidden, f):
    model = MLP([3, *hidden, 2], g, f, dtype=torch.float64)
    x = torch.randn(7, 3, dtype=torch.float64)
    y = torch.randint(2, (7,)) if f == "softmax" else torch.randn(7, 2, dtype=torch.float64)
    loss = "cross_entropy" if f == "softmax" else "mse"
    found = layer_quantities(model, loss, {}, Batch(x, y))
    z, h, deltas, gradients = taken_apart(model, x, y)
    for own, right in ((found.preactivations, z), (found.hidden, h), (found.deltas, deltas)):
        assert len(own) == len(right)
        for a, b in zip(own, right, strict=True):
            torch.testing.assert_close(a, b.detach())
    for a, b in zip(found.gradients, gradients, strict=True):
        torch.testing.assert_close(a, b)
    metrics = layer_stats(model, found)
    names = [*(f"hidden_{i}" for i in range(len(hidden))), "output"]
    for name, delta in zip(names, deltas, strict=True):
        assert float(metrics[f"delta/{name}"]) == pytest.approx(float(delta.square().mean()) ** 0.5, rel=1e-6)
    for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        assert float(metrics[f"grad/{name}"]) == pytest.approx(float(gradient.norm()), rel=1e-6)
    assert len([name for name in metrics if name.startswith("units/")]) == len(hidden)


def test_dead_and_saturated_units_are_counted():
    model = MLP([1, 4, 1], "relu", "identity")
    with torch.no_grad():
        model.layers[0].weight.copy_(torch.tensor([[1.0, 1.0, -1.0, 0.0]]))
        model.layers[0].bias.copy_(torch.tensor([0.0, -10.0, 0.0, 0.0]))
    x = torch.tensor([[1.0], [2.0]])
    found = layer_stats(model, layer_quantities(model, "mse", {}, Batch(x, torch.zeros(2, 1))))
    assert float(found["units/dead_hidden_0"]) == 0.75
    model = MLP([1, 2, 1], "tanh", "identity")
    with torch.no_grad():
        model.layers[0].weight.copy_(torch.tensor([[1.0, 100.0]]))
        model.layers[0].bias.zero_()
    found = layer_stats(
        model, layer_quantities(model, "mse", {}, Batch(torch.tensor([[0.1], [3.0]]), torch.zeros(2, 1)))
    )
    assert float(found["units/saturated_hidden_0"]) == 0.75  # all but tanh(0.1), where 1 - tanh² is 0.99


def test_each_run_of_a_population_has_its_own_statistics():
    model = MLP([3, 5, 2], "tanh", "softmax", runs=4)
    x, y = torch.randn(6, 3), torch.randint(2, (6,))
    found = layer_quantities(model, "cross_entropy", {}, Batch(x, y))
    metrics, spread = layer_stats(model, found), histograms(found)
    for run in range(4):
        single = MLP([3, 5, 2], "tanh", "softmax")
        with torch.no_grad():
            for own, stacked in zip(single.parameters(), model.parameters(), strict=True):
                own.copy_(stacked[run])
        of_run = layer_quantities(single, "cross_entropy", {}, Batch(x, y))
        for name, value in layer_stats(single, of_run).items():
            torch.testing.assert_close(metrics[name][run], value)
        for name, each in histograms(of_run).items():
            assert each[0].counts == spread[name][run].counts


def test_histograms_are_numpys():
    values = torch.cat([torch.randn(2, 50, 7), torch.full((1, 50, 7), 3.0)])
    spread = histograms(LayerQuantities([values], [], [values], []))["histograms/delta/output"]
    for run, each in zip(values[:2], spread[:2], strict=True):
        counts, edges = np.histogram(run.double().numpy(), bins=64)
        assert sum(each.counts) == 350
        assert np.abs(np.array(each.counts) - counts).sum() <= 2  # a value on an edge may fall to either side
        assert each.start == edges[0]
        assert each.start + 64 * each.width == pytest.approx(edges[-1])
    assert spread[2].counts == [350, *[0] * 63]
    broken = torch.tensor([[[1.0], [float("nan")]], [[1.0], [2.0]]])
    first, second = histograms(LayerQuantities([broken], [], [broken], []))["histograms/z/output"]
    assert first is None
    assert sum(second.counts) == 2
