"""The derivation's steps: each printed equation is what the code computes."""

import pytest
import torch
from tests.calculus.formulas import evaluate, from_latex
from tests.calculus.settings import ACTIVATIONS, HIDDEN_ACTIVATIONS, LOSSES, network

from backhand.calculus import backpropagation as bp
from backhand.calculus.activations import SELU_ALPHA, SELU_SCALE
from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.chain import (
    backward_steps,
    closed_form,
    evaluate_steps,
    forward_steps,
    is_elementwise,
    layers,
    loss_step,
    with_jacobian,
)

B, C = 5, 4
EXACT = {"rtol": 1e-10, "atol": 1e-12}


def number(value):
    return torch.tensor(float(value), dtype=torch.float64)


def forms(text, latex):
    return text, from_latex(latex)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_printed_formulas_of_an_activation_equal_its_code(name):
    entry = ACTIVATIONS[name]
    z = torch.linspace(-2.9, 2.9, B * C, dtype=torch.float64).reshape(B, C).requires_grad_()
    a = entry(z)
    slope = entry.derivative(a if entry.reads == "a" else z)
    derivatives = forms(entry.text_derivative, entry.latex_derivative)
    for value, derivative in zip(forms(entry.text, entry.latex), derivatives, strict=True):
        names = {"z": z, "a": a, "λ": number(SELU_SCALE), "α": number(SELU_ALPHA)}
        torch.testing.assert_close(evaluate(value, names), a, **EXACT)
        if "u" in names:
            (names["u′"],) = torch.autograd.grad(names["u"].sum(), z)
        if is_elementwise(entry):
            found = evaluate(derivative, names)
            torch.testing.assert_close(found.expand(B, C), slope.expand(B, C), **EXACT)
        else:
            for row, J in zip(a, slope, strict=True):
                torch.testing.assert_close(evaluate(derivative, {"a": row.unsqueeze(-1)}), J, **EXACT)


def target(loss):
    y = torch.rand(B, C, dtype=torch.float64)
    return y / y.sum(-1, keepdim=True) if loss.distribution else y


@pytest.mark.parametrize("name", LOSSES)
def test_the_printed_formulas_of_a_loss_equal_its_code(name):
    loss = LOSSES[name]
    y, z = target(loss), torch.randn(B, C, dtype=torch.float64)
    f = ACTIVATIONS[loss.matched]
    yhat, N = f(z), number({"B": B, "B C": B * C}[loss.mean_over])
    parameters = {"huber_delta": number(0.3)} if name == "huber" else {}
    names = {"ŷ": yhat, "y": y, "N": N} | parameters
    delta = loss.matched_delta(z, y, **parameters)
    products = zip(loss.text_product.split(" = "), loss.latex_product.split(" = "), strict=True)
    expected = [
        (loss.text, loss.latex, loss.value(yhat, y, **parameters)),
        (loss.text_derivative, loss.latex_derivative, loss.derivative(yhat, y, **parameters)),
        (loss.text_matched, loss.latex_matched, delta),
        *((*sides, delta) for sides in products if all(sides)),
    ]
    for text, latex, value in expected:
        for formula in forms(text, latex):
            torch.testing.assert_close(evaluate(formula, dict(names)), value, **EXACT)


def test_the_printed_formulas_equal_the_code_with_weighted_smoothed_classes():
    loss, weight = LOSSES["cross_entropy"], torch.tensor([2.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    criterion = Criterion("cross_entropy", (("label_smoothing", 0.1),))
    y, z = target(loss), torch.randn(B, C, dtype=torch.float64)
    closed, parameters = closed_form(criterion, weight, 2), criterion.parameters(weight)
    names = {"ŷ": z.softmax(-1), "y": weight * (0.9 * y + 0.1 / C), "N": number(B)}  # what y stands for
    expected = [
        (loss.text, loss.latex, loss.value(names["ŷ"], y, **parameters)),
        (loss.text_derivative, loss.latex_derivative, loss.derivative(names["ŷ"], y, **parameters)),
        (closed.right, closed.latex_right, closed.rule(z, y)),
    ]
    for text, latex, value in expected:
        for formula in forms(text, latex):
            torch.testing.assert_close(evaluate(formula, dict(names)), value, **EXACT)


def steps_of(network, criterion, depth):
    activations = [*map(network.g, range(depth - 1)), network.f]
    loss = loss_step(network, criterion, None, depth)
    return [*forward_steps(network, activations), loss, *backward_steps(criterion, None, activations)]


def steps_and_values(model, criterion, y):
    """The steps of a network on a batch, and their values."""
    depth = len(model.layers)
    steps = steps_of(model.network, criterion, depth)
    given = {"x": torch.randn(*y.shape[:-1], 3, dtype=torch.float64), "y": y}
    for layer, parameters in zip(reversed(layers(depth)), model.layers, strict=True):
        given |= {layer.W: parameters.weight.detach(), layer.b: parameters.bias.detach()}
    return steps, evaluate_steps(steps, given)


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize(("f", "loss"), [("softmax", "cross_entropy"), ("sigmoid", "mse")])
def test_each_step_computes_its_equation(depth, f, loss):
    criterion = Criterion(loss)
    steps, values = steps_and_values(
        network(["tanh", "gelu", "sigmoid"][:depth], f, depth, None), criterion, target(LOSSES[loss])
    )
    names = dict(values) | {"N": number(B if loss == "cross_entropy" else B * C)}
    for layer in layers(depth + 1):
        slope = values[layer.slope]
        names |= {layer.symbol: values[layer.delta], f"∂L/∂{layer.a}": values[layer.upstream]}
        names |= {f"{layer.g}′({layer.z})": slope, f"J_f({layer.z})": slope}
    for step in steps:
        if values[step.name].dim() == 3:
            continue  # a Jacobian, which is an activation's own formula
        right, latex = step.right, step.latex_right or step.latex.partition(" = ")[2]
        if f == "softmax" and step.name == layers(depth + 1)[0].delta:
            right, latex = with_jacobian(right), with_jacobian(right)
        for formula in (right, from_latex(latex)):
            torch.testing.assert_close(evaluate(formula, names), values[step.name], **EXACT)


@pytest.mark.parametrize("runs", [None, 2])
@pytest.mark.parametrize("g", HIDDEN_ACTIVATIONS)
def test_the_steps_give_the_gradients_of_training(g, runs):
    for f, loss in (("softmax", "cross_entropy"), ("sigmoid", "mse"), ("identity", "huber")):
        model, criterion = network(g, f, 3, runs), Criterion(loss)
        y = target(LOSSES[loss]).expand(*([] if runs is None else [runs]), B, C)
        _, values = steps_and_values(model, criterion, y)
        parameters = [each.detach() for each in model.parameters()]
        L, z_O, gradients = bp.gradients(model.network, criterion, values["x"], y, parameters)
        torch.testing.assert_close(values["L"], L, **EXACT)
        names = [name for layer in reversed(layers(4)) for name in (layer.dW, layer.db)]
        for name, gradient in zip(names, gradients, strict=True):
            torch.testing.assert_close(values[name], gradient, **EXACT)
        if LOSSES[loss].matched == f:
            closed = closed_form(criterion, None, 4)
            torch.testing.assert_close(closed.rule(z_O, y), values["delta_4"], **EXACT)


def test_an_index_of_two_digits_is_one_group_in_latex():
    steps = steps_of(Network("tanh", "softmax"), Criterion("cross_entropy"), 12)
    texts = {step.name: step.latex for step in steps}
    assert texts["dW_11"] == r"\nabla W_{11} = h_{10}^\top \, \delta_{11}"
    assert texts["da_10"] == r"\frac{\partial L}{\partial h_{10}} = \delta_{11} \, W_{11}^\top"
    assert texts["slope_10"] == r"g'(z_{10}) = 1 - {h_{10}}^2"
    assert not any("_1" in text for text in texts.values())


def test_each_step_has_its_own_name():
    for depth in (1, 2, 5):
        steps = steps_of(Network("tanh", "softmax"), Criterion("cross_entropy"), depth)
        assert len({step.name for step in steps}) == len({step.left for step in steps}) == len(steps)
