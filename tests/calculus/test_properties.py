"""The hand-derived gradients equal autograd's for randomly drawn networks."""

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.calculus.settings import ACTIVATIONS, FITTING, HIDDEN_ACTIVATIONS, LOSSES

from backhand import MLP

# The error of both passes in one precision is of this order; test_numerics.py checks float32 more closely.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-3, torch.bfloat16: 0.3}


@st.composite
def problems(draw):
    f, loss = draw(st.sampled_from(FITTING))
    sizes = draw(st.lists(st.integers(1, 9), min_size=2, max_size=6))
    if f == "softmax" and sizes[-1] == 1:
        sizes[-1] = 2
    parameters = {}
    for name, parameter in LOSSES[loss].parameters.items():
        number = st.floats(max(parameter.low, 0.1), min(parameter.high, 3.0))
        if draw(st.booleans()):
            parameters[name] = draw(
                st.lists(number, min_size=sizes[-1], max_size=sizes[-1]) if parameter.per_output else number
            )
    return {
        "sizes": sizes,
        "g": draw(st.sampled_from(HIDDEN_ACTIVATIONS)),
        "f": f,
        "loss": loss,
        "parameters": parameters,
        "rows": draw(st.booleans()),
        "runs": draw(st.sampled_from([None, 1, 3])),
        "shared": draw(st.booleans()),
        "batch": draw(st.integers(1, 12)),
        "dtype": draw(st.sampled_from(list(TOLERANCE))),
        "frozen": draw(st.sets(st.integers(0, 2 * len(sizes)))),
        "seed": draw(st.integers(0, 2**20)),
    }


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(problems())
def test_hand_equals_autograd(p):
    torch.manual_seed(p["seed"])
    dtype, axis = p["dtype"], () if p["runs"] is None else (p["runs"],)
    hand, auto = (
        MLP(p["sizes"], p["g"], p["f"], gradient=gradient, runs=p["runs"], dtype=dtype)
        for gradient in ("hand", "autograd")
    )
    auto.load_state_dict(hand.state_dict())
    lead = () if p["shared"] else axis
    x = torch.randn(*lead, p["batch"], p["sizes"][0]).to(dtype)
    outputs = p["sizes"][-1]
    if LOSSES[p["loss"]].target == "classes" and not p["rows"]:
        y = torch.randint(outputs, (*lead, p["batch"]))
    else:
        y = torch.rand(*lead, p["batch"], outputs).to(dtype)
    found = []
    for model in (hand, auto):
        given_x = x.clone().requires_grad_()
        leaves = [given_x]
        for index, parameter in enumerate(model.parameters()):
            parameter.requires_grad_(index not in p["frozen"])
            leaves += [parameter] * parameter.requires_grad
        value = model.loss(given_x, y, p["loss"], **p["parameters"])
        found.append([value.detach(), *torch.autograd.grad(value.sum(), leaves)])
    scale = max(float(each.double().norm()) for each in found[1][1:]) + 1e-30
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        error = float((ours.double() - theirs.double()).norm())
        # In low precision torch rounds ŷ before the loss, and near a kink the two may fall on its two sides.
        assert error <= TOLERANCE[dtype] * max(scale, float(theirs.double().norm()))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(ACTIVATIONS)), st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20))
def test_no_number_makes_an_activation_or_its_derivative_nan(name, numbers):
    z = torch.tensor([numbers, numbers[::-1]])
    a = ACTIVATIONS[name](z)
    delta = ACTIVATIONS[name].delta(torch.ones_like(a), a if ACTIVATIONS[name].reads == "a" else z)
    assert a.isfinite().all()
    assert delta.isfinite().all()
