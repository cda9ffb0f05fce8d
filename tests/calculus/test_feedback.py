"""The rules of `feedback`: each against numpy, written from its paper, and against mutants of itself."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from backhand import MLP
from backhand.calculus.feedback import RULES, HiddenLayer
from backhand.errors import UserError

SIZES = [5, 4, 6, 3]
B = 7


def slope_of(name: str, z: np.ndarray, window: float) -> np.ndarray:
    """g′(z) of tanh, or the window of the straight-through estimator."""
    return 1 - np.tanh(z) ** 2 if name == "tanh" else (np.abs(z) <= window).astype(float)


def expected(rule: str, model: MLP, x: np.ndarray, y: np.ndarray, g: str, window: float) -> dict[str, np.ndarray]:
    """The gradients of `½ Σ‖ŷ − y‖² / (B C)` × 2 by the rule's own paper, layer by layer."""
    tensors = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    weights = [tensors[f"layers.{i}.weight"] for i in range(3)]
    biases = [tensors[f"layers.{i}.bias"] for i in range(3)]
    activity, z = [x], []
    for i in range(2):
        z.append(activity[-1] @ weights[i] + biases[i])
        activity.append(np.tanh(z[-1]) if g == "tanh" else np.sign(z[-1]))
    output = activity[-1] @ weights[2] + biases[2]
    e = 2 * (output - y) / y.size
    found, delta = {}, e
    for i in (2, 1, 0):
        found[f"layers.{i}.weight"] = np.einsum("bi,bj->ij", activity[i], delta)
        found[f"layers.{i}.bias"] = np.einsum("bj->j", delta)
        if i == 0:
            break
        W = weights[i]
        back = {
            "hand": lambda W=W, d=delta: np.einsum("bj,ij->bi", d, W),
            "feedback_alignment": lambda d=delta, i=i: np.einsum("bj,ij->bi", d, tensors[f"feedback.{i - 1}.B"]),
            "kolen_pollack": lambda d=delta, i=i: np.einsum("bj,ij->bi", d, tensors[f"feedback.{i - 1}.B"]),
            "direct_feedback_alignment": lambda i=i: np.einsum("bk,ik->bi", e, tensors[f"feedback.{i - 1}.B"]),
            "sign_symmetry": lambda W=W, d=delta, i=i: np.einsum(
                "bj,ij->bi", d, np.copysign(tensors[f"feedback.{i - 1}.M"], W)
            ),
            "unit_sign_symmetry": lambda W=W, d=delta: np.einsum("bj,ij->bi", d, np.copysign(1.0, W)),
            "straight_through": lambda W=W, d=delta: np.einsum("bj,ij->bi", d, W),
        }[rule]
        delta = back() * slope_of(g, z[i - 1], window)
    return found


def network(rule: str, runs: int | None = None, **options: object) -> tuple[MLP, str]:
    g = "sign" if rule in RULES and RULES[rule].flat else "tanh"
    generator = torch.Generator().manual_seed(3)
    model = MLP(SIZES, g, "identity", gradient=rule, generator=generator, dtype=torch.float64, runs=runs, **options)
    return model, g


def batch(seed: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda n: torch.randn(B, n, generator=generator, dtype=torch.float64)  # noqa: E731
    return draw(SIZES[0]), draw(SIZES[-1])


def error_of(rule: str, model: MLP, g: str, window: float = 1.0) -> float:
    """The largest difference between the model's gradients and numpy's."""
    x, y = batch()
    model.zero_grad()
    model.loss(x, y, "mse").backward()
    right = expected(rule, model, x.numpy(), y.numpy(), g, window)
    return max(
        float(np.abs(dict(model.named_parameters())[name].grad.numpy() - each).max()) for name, each in right.items()
    )


@pytest.mark.parametrize("rule", ["hand", *RULES])
def test_gradients_agree_with_the_paper_in_numpy(rule: str) -> None:
    model, g = network(rule)
    assert error_of(rule, model, g) < 1e-12


def test_the_straight_through_window_is_a_setting() -> None:
    model, g = network("straight_through", settings={"straight_through_window": 0.3})
    assert error_of("straight_through", model, g, 0.3) < 1e-12
    assert error_of("straight_through", model, g, 1.0) > 1e-3


MUTANTS: dict[str, list[Callable[..., Tensor]]] = {
    "feedback_alignment": [
        lambda d, W, s, at: d @ at.fixed("B", like=W).mT,
        lambda d, W, s, at: (d @ (W + 0 * at.fixed("B", like=W)).mT) * s,
        lambda d, W, s, at: (at.delta_O.sum(-1, keepdim=True) * at.fixed("B", like=W).sum(-1)) * s,
    ],
    "direct_feedback_alignment": [
        lambda d, W, s, at: at.delta_O @ at.fixed("B", (W.shape[-2], at.delta_O.shape[-1])).mT,
        lambda d, W, s, at: (-at.delta_O @ at.fixed("B", (W.shape[-2], at.delta_O.shape[-1])).mT) * s,
    ],
    "sign_symmetry": [
        lambda d, W, s, at: (d @ at.fixed("M", like=W).mT) * s,
        lambda d, W, s, at: (d @ (at.fixed("M", like=W) * W.sign()).mT) * s,
        lambda d, W, s, at: (d @ (at.fixed("M", like=W).abs() * W.sign()).mT) * s * s,
    ],
    "unit_sign_symmetry": [
        lambda d, W, s, at: (d @ W.abs().mT) * s,
        lambda d, W, s, at: d @ W.sign().mT,
    ],
    "kolen_pollack": [
        lambda d, W, s, at: (d @ (W - at.trained("B", like=W)).mT) * s,
        lambda d, W, s, at: d @ at.trained("B", like=W).mT,
    ],
    "straight_through": [
        lambda d, W, s, at: d @ W.mT,
        lambda d, W, s, at: (d @ W.mT) * s,
        lambda d, W, s, at: (d @ W.mT) * (at.z <= 1),
    ],
}


def test_each_rule_has_mutants() -> None:
    assert MUTANTS.keys() == RULES.keys()


@pytest.mark.parametrize(("rule", "mutant"), [(rule, each) for rule, mutants in MUTANTS.items() for each in mutants])
def test_a_mutant_has_other_gradients_than_the_paper(rule: str, mutant: Callable[..., Tensor]) -> None:
    g = "sign" if RULES[rule].flat else "tanh"
    generator = torch.Generator().manual_seed(3)
    model = MLP(SIZES, g, "identity", gradient=mutant, generator=generator, dtype=torch.float64)
    assert error_of(rule, model, g) > 1e-3


@pytest.mark.parametrize("rule", RULES)
def test_each_run_has_the_gradients_of_a_single_network(rule: str) -> None:
    population, _ = network(rule, runs=2)
    x, y = batch()
    population.loss(x, y, "mse").sum().backward()
    for run in range(2):
        single, _ = network(rule)
        single.load_state_dict({name: value[run] for name, value in population.state_dict().items()})
        single.loss(x, y, "mse").backward()
        for mine, theirs in zip(single.parameters(), population.parameters(), strict=True):
            assert (mine.grad is None) == (theirs.grad is None)
            torch.testing.assert_close(mine.grad, theirs.grad[run], rtol=0, atol=1e-12)


def test_a_trained_tensor_has_the_gradient_of_its_weight() -> None:
    model, _ = network("kolen_pollack")
    x, y = batch()
    model.loss(x, y, "mse").backward()
    for i in (0, 1):
        torch.testing.assert_close(model.feedback[i].B.grad, model.layers[i + 1].weight.grad, rtol=0, atol=0)
        assert model.feedback[i].B.grad is not model.layers[i + 1].weight.grad


def test_weight_decay_shrinks_the_difference_between_feedback_and_weight() -> None:
    # Akrout et al. (2019), equation 16: the difference between B and W decays by the same factor at every step.
    model, _ = network("kolen_pollack")
    before = (model.feedback[0].B - model.layers[1].weight).detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    x, y = batch()
    for _ in range(3):
        optimizer.zero_grad()
        model.loss(x, y, "mse").backward()
        optimizer.step()
    after = model.feedback[0].B - model.layers[1].weight
    torch.testing.assert_close(after, before * 0.95**3, rtol=0, atol=1e-14)


@pytest.mark.parametrize("rule", RULES)
def test_prediction_and_functional_call_use_the_rule_too(rule: str) -> None:
    model, _ = network(rule)
    x, y = batch()
    model.loss(x, y, "mse").backward()
    expected_gradients = {name: each.grad.clone() for name, each in model.named_parameters()}
    model.zero_grad()
    ((model(x) - y) ** 2).mean().backward()
    for name, each in model.named_parameters():
        torch.testing.assert_close(each.grad, expected_gradients[name], rtol=0, atol=1e-12)
    of_functional = torch.func.grad(lambda theta: torch.func.functional_call(model, theta, (x,)).square().mean())(
        dict(model.named_parameters())
    )
    model.zero_grad()
    model(x).square().mean().backward()
    for name, each in model.named_parameters():
        torch.testing.assert_close(of_functional[name], each.grad, rtol=0, atol=1e-12)


def test_fixed_tensors_are_saved_and_initialized_like_weights() -> None:
    model, _ = network("feedback_alignment", init_scale=0.5)
    assert [name for name in model.state_dict() if "feedback" in name] == ["feedback.0.B", "feedback.1.B"]
    assert len(list(model.parameters())) == 6
    bound = 0.5 * SIZES[1] ** -0.5
    assert model.feedback[0].B.abs().max() <= bound
    assert model.feedback[0].B.abs().max() > 0.5 * bound


def test_a_tensor_is_the_same_at_every_request() -> None:
    def rule(delta: Tensor, W: Tensor, slope: Tensor, layer: HiddenLayer) -> Tensor:
        assert layer.fixed("B", like=W) is layer.fixed("B", like=W)
        gain = layer.fixed("gain", (W.shape[-2],))
        return (delta @ layer.fixed("B", like=W).mT) * slope * gain

    model = MLP(SIZES, gradient=rule)
    assert model.feedback[0].gain.shape == (4,)
    model.loss(torch.randn(2, 5), torch.tensor([0, 1]), "cross_entropy").backward()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            lambda d, W, s, at: d,
            r"gradient=<lambda>: hidden layer 0: .* shape \(2, 6\); must be .* g′\(z\), \(2, 4\)",
        ),
        (lambda d, W, s, at: 1.0, "hidden layer 0: the rule returned float, not a torch.Tensor"),
        (lambda d, W, s, at: s / 0, "hidden layer 0: the rule returned a δ that is not finite"),
        (lambda d, W, s, at: 1 / 0, "hidden layer 0: ZeroDivisionError: division by zero"),
        (lambda d, W, s, at: at.z.abs() * s, "'abs'; layer.z is None here, since g′ is not 0 everywhere"),
        (lambda d, W, s, at: s * at.fixed("B"), "hidden layer 0: B: give either a shape or like=W"),
        (lambda d, W, s, at: s * at.fixed("a.b", like=W).sum(), "a.b: is not a valid name for a tensor"),
        (lambda d, W, s, at: s * at.trained("B", like=s).sum(), "B: a trained tensor must have the shape of W"),
        (lambda d, W, s, at: s.half(), "a δ of torch.float16; must be of the type of delta, torch.float32"),
        (lambda d, W, s, at: s.numpy(), "hidden layer 0: the rule returned ndarray, not a torch.Tensor"),
        (lambda d, W, s, at: W.mul_(2).sum() * s, "hidden layer 0: the rule changes its arguments"),
        (lambda d, W, s, at: at.fixed("B", like=W).mul_(2).sum() * s, "the rule changes its arguments"),
        (lambda d, W, s, at: at.delta_O.zero_().sum() * s, "the rule changes its arguments"),
        (
            lambda d, W, s, at: at.fixed("B", (0, 2)).sum() * s,
            r"B: shape=\(0, 2\): must be whole numbers",
        ),
        (lambda d, W, s, at: at.fixed("B", ()).sum() * s, r"B: shape=\(\): must be whole numbers"),
        (
            lambda d, W, s, at: at.fixed("forward", like=W).sum() * s,
            "forward: torch.nn.Module has an attribute of that name",
        ),
        (
            lambda d, W, s, at: (at.fixed("B", like=W) + at.trained("B", like=W)).sum() * s,
            "B: is requested twice, as two different tensors",
        ),
        ("feedback_alignement", r"gradient=feedback_alignement: no such choice \(did you mean feedback_alignment\?\)"),
    ],
)
def test_an_invalid_rule_is_refused(rule: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MLP(SIZES, gradient=rule)


def test_a_shape_that_only_fits_some_batches_names_the_layer() -> None:
    model = MLP(SIZES, gradient=lambda d, W, s, at: (d @ W.mT)[:2] * s[:2])
    with pytest.raises(UserError, match=r"hidden layer 1: .* shape \(2, 6\); must be that of g′\(z\), \(7, 6\)"):
        model.loss(torch.randn(7, 5), torch.zeros(7, dtype=torch.long), "cross_entropy").backward()


def test_a_tensor_that_was_not_requested_at_creation_is_refused() -> None:
    model = MLP(SIZES, gradient=lambda d, W, s, at: s * (1 if len(d) == 2 else at.fixed("late", like=W).sum()))
    message = "hidden layer 1: late: was not requested when the network was created; this layer has none"
    with pytest.raises(UserError, match=message):
        model.loss(torch.randn(7, 5), torch.zeros(7, dtype=torch.long), "cross_entropy").backward()


def test_a_tensor_that_is_not_asked_for_in_every_call_is_named() -> None:
    calls = []

    def rule(delta: Tensor, W: Tensor, slope: Tensor, layer: HiddenLayer) -> Tensor:
        calls.append(layer.number)
        return slope * (layer.fixed("B", like=W).sum() if len(calls) == 1 else 1)

    with pytest.raises(UserError, match=r"gradient=rule: hidden layer 0: .* asked for B in the first call and not in"):
        MLP(SIZES, gradient=rule)


def counting(memory: dict[str, Tensor], delta: Tensor) -> Tensor:
    memory["calls"] = memory.get("calls", torch.zeros(())) + 1
    return delta / memory["calls"]


def averaging(memory: dict[str, Tensor], delta: Tensor) -> Tensor:
    memory["mean"] = 0.9 * memory.get("mean", delta) + 0.1 * delta
    return memory["mean"]


def drawing_once(memory: dict[str, Tensor], delta: Tensor) -> Tensor:
    if "gain" not in memory:
        memory["gain"] = torch.rand(())
    return delta * memory["gain"]


@pytest.mark.parametrize("remember", [counting, averaging, drawing_once])
@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_a_rule_that_remembers_something_between_calls_is_refused(
    remember: Callable[[dict[str, Tensor], Tensor], Tensor], generator: torch.Generator | None
) -> None:
    memory: dict[str, Tensor] = {}

    def rule(delta: Tensor, W: Tensor, slope: Tensor, layer: HiddenLayer) -> Tensor:
        return (remember(memory, delta) @ W.mT) * slope

    with pytest.raises(UserError, match="hidden layer 0: the rule gives other numbers for the same arguments; it must"):
        MLP(SIZES, gradient=rule, generator=generator)


def dropping(delta: Tensor, W: Tensor, slope: Tensor, layer: HiddenLayer) -> Tensor:
    return (torch.nn.functional.dropout(delta, 0.5) @ layer.fixed("B", like=W).mT) * slope * torch.rand(())


@pytest.mark.parametrize("runs", [None, 2])
@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_a_rule_may_use_the_random_numbers_of_torch(runs: int | None, generator: torch.Generator | None) -> None:
    torch.manual_seed(1)
    first = MLP(SIZES, gradient=dropping, runs=runs, generator=generator)
    second = MLP(SIZES, gradient=dropping, runs=runs, generator=generator)
    assert not first.feedback[0].B.equal(second.feedback[0].B)
    assert not first.feedback[0].B.equal(first.feedback[1].B)


@pytest.mark.parametrize(
    "change",
    [
        lambda d, W, s, at: (d.mul_(0.5) @ W.mT) * s,
        lambda d, W, s, at: (d @ W.mT) * s.clamp_(max=0.5),
        lambda d, W, s, at: (d @ W.t_()) * s,
    ],
)
def test_a_rule_that_changes_its_arguments_is_refused(change: Callable[..., Tensor]) -> None:
    with pytest.raises(UserError, match="hidden layer 0: the rule changes its arguments; it must return a new tensor"):
        MLP(SIZES, gradient=change)
