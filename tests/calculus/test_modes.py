"""Autocast, checkpointing, copying, torch.func and torch.compile work with the hand-derived pass."""

import copy
import pickle

import pytest
import torch
from tests.calculus.settings import ACTIVATIONS, FITTING, HIDDEN_ACTIVATIONS, LOSSES, MATCHED, batch, network
from tests.suites import smoke
from torch.func import functional_call, jacfwd, jacrev
from torch.utils.checkpoint import checkpoint

from backhand import MLP
from backhand.calculus import backpropagation


def pair(g: str, f: str, **options: object) -> tuple[MLP, MLP]:
    """Two networks with equal parameters: `hand` and `autograd`."""
    hand = network(g, f, 1, None, **options)
    auto = network(g, f, 1, None, gradient="autograd", **options)
    auto.load_state_dict(hand.state_dict())
    return hand, auto


def gradients(model: MLP, value: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(value, list(model.parameters())))


@pytest.mark.parametrize("runs", [None, 2])
@pytest.mark.parametrize("g", HIDDEN_ACTIVATIONS)
def test_autocast_gives_the_types_and_numbers_of_torchs_own_layers(g, runs):
    for f, loss in FITTING:
        x, y = batch(loss, runs, torch.float32)
        hand = network(g, f, 1, runs, dtype=torch.float32)
        auto = network(g, f, 1, runs, dtype=torch.float32, gradient="autograd")
        auto.load_state_dict(hand.state_dict())
        found = []
        for model in (hand, auto):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                yhat, (value, z_O) = model(x), model.loss_and_logits(x, y, loss)
            found.append([yhat, value, z_O, *gradients(model, value.sum())])
        assert [t.dtype for t in found[0]] == [t.dtype for t in found[1]], (f, loss)
        torch.testing.assert_close(found[0][1], found[1][1], rtol=0.03, atol=0.03)


@pytest.mark.parametrize("g", ["tanh", "gelu"])
def test_inputs_may_be_strided_or_expanded(g):
    hand, auto = pair(g, "softmax")
    y = torch.randint(4, (6,))
    base = torch.randn(3, 6, dtype=torch.float64)
    for x in (
        base.T,
        torch.randn(1, 3, dtype=torch.float64).expand(6, 3),
        torch.randn(12, 3, dtype=torch.float64)[::2],
    ):
        assert not x.is_contiguous()
        ours, theirs = (gradients(model, model.loss(x, y, "cross_entropy")) for model in (hand, auto))
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("f", "loss"), MATCHED)
def test_an_empty_batch_gives_what_torch_gives(f, loss):
    hand, auto = pair("mish", f)
    x, y = batch(loss, None)
    found = []
    for model in (hand, auto):
        value = model.loss(x[:0], y[:0], loss)
        found.append([value, *gradients(model, value)])
    assert found[0][0].isnan()  # the mean of nothing
    torch.testing.assert_close(found[0], found[1], equal_nan=True)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing_gives_the_same_gradients(use_reentrant):
    hand, auto = pair("silu", "softmax")
    x, y = batch("cross_entropy", None)
    checkpoint(lambda x: hand.loss(x, y, "cross_entropy"), x.requires_grad_(), use_reentrant=use_reentrant).backward()
    theirs = gradients(auto, auto.loss(x, y, "cross_entropy"))
    torch.testing.assert_close([parameter.grad for parameter in hand.parameters()], theirs)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_computes_the_same(copied):
    model, _ = pair("gelu_tanh", "softmax")
    x, y = batch("cross_entropy", None)
    other = copied(model)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert a is not b
    ours, theirs = (gradients(each, each.loss(x, y, "cross_entropy")) for each in (model, other))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_nested_forward_mode_is_refused():
    hand, auto = pair("tanh", "softmax")
    x, y = batch("cross_entropy", None)

    def of(model):
        def loss(weight):
            return functional_call(Loss(model), {"model.layers.0.weight": weight}, (x, y))

        return loss

    weight = hand.layers[0].weight.detach()
    with pytest.raises(RuntimeError, match="forward mode inside forward mode"):
        jacfwd(jacfwd(of(hand)))(weight)
    expected = jacfwd(jacfwd(of(auto)))(weight)
    for outer, inner in ((jacfwd, jacrev), (jacrev, jacfwd), (jacrev, jacrev)):
        torch.testing.assert_close(outer(inner(of(hand)))(weight), expected)


@pytest.mark.parametrize("kind", [RuntimeError, NotImplementedError])
def test_an_error_of_the_forward_pass_is_raised_unchanged(kind, monkeypatch):
    calls = []

    def broken(*args):
        calls.append(args)
        raise kind("not implemented for 'Half': forward of jvp, setup_context")

    monkeypatch.setattr(backpropagation, "forward", broken)
    model = network("tanh", "softmax", 1, None)
    x, y = batch("cross_entropy", None)
    for call in (lambda: model(x), lambda: model.loss(x, y, "cross_entropy")):
        with pytest.raises(kind, match="not implemented for 'Half'"):
            call()
    assert len(calls) == 2  # the second form of the Functions is not tried


class Loss(torch.nn.Module):
    def __init__(self, model: MLP, loss: str = "cross_entropy", **parameters: object) -> None:
        super().__init__()
        self.model, self.name, self.parameters_of_loss = model, loss, parameters

    def forward(self, x, y):
        return self.model.loss(x, y, self.name, **self.parameters_of_loss)


@pytest.mark.slow
@pytest.mark.parametrize("g", smoke(HIDDEN_ACTIVATIONS, "identity"))
def test_compiling_has_no_graph_break(g):
    # Each hidden activation with an output and a loss of its own turn, so that every entry of both tables is compiled.
    turn = HIDDEN_ACTIVATIONS.index(g)
    losses = [FITTING[i] for i in range(turn, len(FITTING), len(HIDDEN_ACTIVATIONS))]
    for f, loss in [losses[0], losses[-1]]:
        torch._dynamo.reset()
        parameters = {"cross_entropy": {"label_smoothing": 0.1, "class_weight": [1.0, 2.0, 3.0, 4.0]}}.get(loss, {})
        model = network(g, f, turn % 3, None) if turn % 3 != 2 else network(g, f, 3, None)
        x, y = batch(loss, None)
        eager = Loss(model, loss, **parameters)
        compiled = torch.compile(eager, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(
            [compiled(x, y), *gradients(model, compiled(x, y))], [eager(x, y), *gradients(model, eager(x, y))]
        )
        prediction = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(
            gradients(model, prediction(x).square().sum()), gradients(model, model(x).square().sum())
        )


@pytest.mark.slow
def test_compiling_to_machine_code_changes_nothing():
    torch._dynamo.reset()
    model = network("gelu", "softmax", 1, None)
    x, y = batch("cross_entropy", None)
    compiled = torch.compile(Loss(model), fullgraph=True)
    torch.testing.assert_close(compiled(x, y), Loss(model)(x, y))
    torch.testing.assert_close(gradients(model, compiled(x, y)), gradients(model, Loss(model)(x, y)))


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"label_smoothing": 1.5}, "between 0 and 1"),
        ({"class_weight": [1.0, 2.0]}, "2 numbers for 4 outputs"),
        ({"class_weight": torch.ones(3)}, r"must be \(4,\)"),
        ({"pos_weight": 2.0}, "belongs to binary_cross_entropy"),
        ({"alpha": 2.0}, "it has label_smoothing, class_weight"),
        ({"label_smoothing": "much"}, "must be a number"),
    ],
)
def test_a_wrong_parameter_of_a_loss_is_refused(parameters, reason):
    x, y = batch("cross_entropy", None)
    with pytest.raises(ValueError, match=reason):
        network("tanh", "softmax", 1, None).loss(x, y, "cross_entropy", **parameters)


@pytest.mark.parametrize("name", sorted({name for loss in LOSSES.values() for name in loss.parameters}))
def test_a_loss_parameter_of_none_is_the_default(name):
    loss = next(each for each, entry in LOSSES.items() if name in entry.parameters)
    model = network("tanh", LOSSES[loss].matched, 1, None)
    x, y = batch(loss, None)
    assert torch.equal(model.loss(x, y, loss, **{name: None}), model.loss(x, y, loss))


def test_every_entry_has_its_formula_as_text_and_in_latex():
    for entry in (*ACTIVATIONS.values(), *LOSSES.values()):
        assert entry.text in entry.__doc__
        assert entry.text_derivative in entry.__doc__
        assert entry.latex
        assert entry.latex_derivative
