"""One training step of a small, a middling and a wide network, beside autograd, `torch.compile`, JAX and the floor."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backhand.benchmarks.timing import Goal, Report, agree, figures, interleaved, ratios
from backhand.calculus.backpropagation import Criterion
from backhand.calculus.mlp import MLP
from backhand.data.batches import Batch
from backhand.training.compiled import CompiledStep

Step = Callable[[], object]
LOSS, LR, MOMENTUM = "cross_entropy", 0.01, 0.9
# Batch; units of each layer.
SMALL, MIDDLE, WIDE = (32, (64, 32, 10)), (128, (784, 256, 10)), (512, (784, 1024, 10))
CASES = (SMALL, MIDDLE, WIDE)

EAGER, AUTOGRAD, COMPILED = "by hand", "autograd", "autograd, torch.compile"
FLOOR = "matrix products alone"
WHOLE, EAGER_SGD, AUTOGRAD_SGD = "by hand + SGD, compiled whole", "by hand + SGD", "autograd + SGD"
COMPILED_SGD, JAX = "autograd + SGD, torch.compile", "JAX + SGD, jitted"
# What is compiled is compared with what is compiled; both of those include the update, the floor does not.
WIDER = (
    Goal(WHOLE, COMPILED_SGD, 1.03),
    Goal(EAGER, COMPILED),
    Goal(WHOLE, JAX),
)
GOALS: dict[tuple[int, tuple[int, ...]], tuple[Goal, ...]] = {
    SMALL: (
        Goal(EAGER, AUTOGRAD, 1.15),
        Goal(WHOLE, AUTOGRAD_SGD, 0.35),
        Goal(WHOLE, JAX, 1.15),
        Goal(WHOLE, COMPILED_SGD),
        Goal(WHOLE, FLOOR),
    ),
    MIDDLE: (Goal(EAGER, AUTOGRAD, 1.08), *WIDER, Goal(WHOLE, FLOOR, 1.25), Goal(EAGER, FLOOR)),
    WIDE: (Goal(EAGER, AUTOGRAD, 1.05), *WIDER, Goal(WHOLE, FLOOR), Goal(EAGER, FLOOR)),
}


def benchmark(rounds: int, device: torch.device, cases: Sequence[tuple[int, tuple[int, ...]]] = CASES) -> Report:
    """Time the step of every case; tanh, softmax and cross-entropy throughout, in float32.

    Raises:
        AssertionError: two contenders do not compute the same losses.
    """
    report = Report("A training step", [], [])
    for case in cases:
        batch, sizes = case
        title = f"{batch}, {'-'.join(map(str, sizes))}"
        torch.manual_seed(0)
        start = MLP(sizes, device=device)
        x = torch.randn(batch, sizes[0], device=device)
        y = torch.randint(sizes[-1], (batch,), device=device)
        gradients, updates = _gradients(start, x, y), _updates(start, x, y)
        agree(title, {name: [float(step())] for name, step in gradients.items()}, 1e-5)  # type: ignore[arg-type]
        # After the first, a loss is of parameters that gradient and update have changed.
        losses = {name: [float(step()) for _ in range(5)] for name, step in updates.items()}  # type: ignore[arg-type]
        agree(title, losses, 1e-4)
        times = interleaved({**gradients, FLOOR: floor(start, x), **updates}, rounds, device)
        report.figures += figures(title, times)
        report.ratios += ratios(title, times, GOALS.get(case, GOALS[SMALL]))
    return report


def _gradients(start: MLP, x: Tensor, y: Tensor) -> dict[str, Step]:
    """The loss and the gradients, which are thrown away."""
    ours, net = copy.deepcopy(start), logits(start)
    ours_theta, theta = list(ours.parameters()), list(net.parameters())
    mode = "reduce-overhead" if x.is_cuda else None
    compiled = torch.compile(lambda x, y: F.cross_entropy(net(x), y), mode=mode)

    def forget(parameters: list[nn.Parameter]) -> None:
        for parameter in parameters:
            parameter.grad = None

    def by_hand() -> Tensor:
        loss = ours.loss(x, y, LOSS)
        loss.backward()
        forget(ours_theta)
        return loss.detach()

    def autograd() -> Tensor:
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        forget(theta)
        return loss.detach()

    def torch_compile() -> Tensor:
        loss = compiled(x, y)
        loss.backward()
        forget(theta)
        return loss.detach()

    return {EAGER: by_hand, AUTOGRAD: autograd, COMPILED: torch_compile}


def _updates(start: MLP, x: Tensor, y: Tensor) -> dict[str, Step]:
    """The whole step, from parameters of each contender's own that begin alike."""
    eager, whole, net, peer = copy.deepcopy(start), copy.deepcopy(start), logits(start), logits(start)
    mode = "reduce-overhead" if x.is_cuda else None
    compiled = torch.compile(lambda x, y: F.cross_entropy(peer(x), y), mode=mode)
    eager_sgd, whole_sgd, net_sgd = (torch.optim.SGD(model.parameters(), LR, MOMENTUM) for model in (eager, whole, net))
    peer_sgd = torch.optim.SGD(peer.parameters(), LR, MOMENTUM, fused=True)  # the fastest that torch has

    def by_hand(model: MLP = eager, sgd: torch.optim.Optimizer = eager_sgd) -> Tensor:
        loss = model.loss(x, y, LOSS)
        loss.backward()
        sgd.step()
        sgd.zero_grad()
        return loss.detach()

    compiled_step: list[CompiledStep] = []
    batch = Batch(x, y)

    def compiled_whole() -> Tensor:
        if not compiled_step:  # the first step makes the optimizer's state
            loss = by_hand(whole, whole_sgd)
            compiled_step.append(CompiledStep(whole, Criterion(LOSS), None, whole_sgd))
            return loss
        return compiled_step[0](batch)[0]

    def autograd() -> Tensor:
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        net_sgd.step()
        net_sgd.zero_grad()
        return loss.detach()

    def torch_compile() -> Tensor:
        loss = compiled(x, y)
        loss.backward()
        peer_sgd.step()
        peer_sgd.zero_grad()
        return loss.detach()

    steps: dict[str, Step] = {
        AUTOGRAD_SGD: autograd,
        EAGER_SGD: by_hand,
        WHOLE: compiled_whole,
        COMPILED_SGD: torch_compile,
    }
    if (jax := _jax(start, x, y)) is not None:
        steps[JAX] = jax
    return steps


def _jax(start: MLP, x: Tensor, y: Tensor) -> Step | None:
    """The same step in JAX, jitted and with its buffers given up; None where JAX is not installed."""
    try:
        import jax
        import jax.numpy as jnp
    except ModuleNotFoundError:
        return None
    device = jax.devices("gpu" if x.is_cuda else "cpu")[0]
    theta = [jax.device_put(p.detach().cpu().numpy(), device) for p in start.parameters()]
    velocity = [jnp.zeros_like(p) for p in theta]
    inputs, labels = (jax.device_put(t.cpu().numpy(), device) for t in (x, y))

    def loss(theta, x, y):  # type: ignore[no-untyped-def]
        *hidden, (W, b) = zip(theta[::2], theta[1::2], strict=True)
        for layer in hidden:
            x = jnp.tanh(x @ layer[0] + layer[1])
        return -jnp.take_along_axis(jax.nn.log_softmax(x @ W + b), y[:, None], axis=1).mean()

    def step(theta, velocity, x, y):  # type: ignore[no-untyped-def]
        value, gradients = jax.value_and_grad(loss)(theta, x, y)
        velocity = [MOMENTUM * v + g for v, g in zip(velocity, gradients, strict=True)]
        return [p - LR * v for p, v in zip(theta, velocity, strict=True)], velocity, value

    run = jax.jit(step, donate_argnums=(0, 1))

    def once() -> float:
        nonlocal theta, velocity
        theta, velocity, value = run(theta, velocity, inputs, labels)
        return value.block_until_ready()

    return once


def floor(start: MLP, x: Tensor) -> Step:
    """The step's matrix products and nothing else, with the places for their results made beforehand.

    Of a population (a run axis in `start` and x) they are the batched ones.
    """
    product = torch.mm if x.dim() == 2 else torch.bmm
    weights = [p.detach() for p in start.parameters()][::2]
    values = [x, *(torch.randn(*x.shape[:-1], n, device=x.device) for n in start.sizes[1:])]  # h, and as large, its δ
    results = [torch.empty_like(value) for value in values]
    gradients = [torch.empty_like(W) for W in weights]

    def products() -> None:
        for i, W in enumerate(weights):
            product(values[i], W, out=results[i + 1])
        for i in reversed(range(len(weights))):
            product(values[i].mT, values[i + 1], out=gradients[i])
            if i > 0:
                product(values[i + 1], weights[i].mT, out=results[i])

    return products


def logits(model: MLP) -> nn.Sequential:
    """The network in `torch.nn` up to z_O, which `F.cross_entropy` takes."""
    return model.to_sequential()[:-1]
