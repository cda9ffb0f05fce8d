"""A training step compared with autograd, torch.compile, JAX and its matrix products, also of a population."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from backhand.calculus.backpropagation import Criterion
from backhand.calculus.feedback import RULES
from backhand.calculus.mlp import MLP
from backhand.data.batches import Batch
from backhand.training.compiled import CompiledStep
from backhand.training.optimizers import RunsOptimizer
from measuring import BenchmarkTable, arguments, call, check_equal, checked_case, in_turn

Step = Callable[[], Any]
LOSS, LR, MOMENTUM = "cross_entropy", 0.01, 0.9

HAND, AUTOGRAD, COMPILED = "by hand", "autograd", "autograd, torch.compile"
WHOLE, HAND_SGD, AUTOGRAD_SGD = "by hand + SGD, compiled whole", "by hand + SGD", "autograd + SGD"
COMPILED_SGD, JAX, FLOOR = "autograd + SGD, torch.compile", "JAX + SGD, jitted", "matrix products only"
# By case (batch size, units of each layer, networks of a population): the largest ratio of the first contender's time
# to that of another.
GOALS: dict[str, dict[str, float]] = {
    "32,64-32-10": {AUTOGRAD: 1.15, AUTOGRAD_SGD: 0.35, JAX: 1.15},
    "128,784-256-10": {AUTOGRAD: 1.08, COMPILED_SGD: 1.03, FLOOR: 1.25},
    "512,784-1024-10": {AUTOGRAD: 1.05, COMPILED_SGD: 1.03},
    "32,64-32-10,64": {JAX: 0.65, FLOOR: 2.0},
    "32,64-32-10,256": {JAX: 0.65, FLOOR: 2.0},
}

# The same for the other backward passes compared with backpropagation.
SMALLEST = "32,64-32-10"
RULE_GOALS = {f"gradients, {rule}": {HAND: 1.5 if rule == "kolen_pollack" else 1.3} for rule in RULES}


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, rounds=15)
    parser.add_argument(
        "--cases", nargs="+", type=checked_case, default=list(GOALS), help="BATCH,UNITS-OF-EACH-LAYER[,NETWORKS]"
    )
    given = parser.parse_args()
    table = BenchmarkTable("A training step", given)
    for case in given.cases:
        start, x, y = begin(case, given.device)
        networks, unit = (1, "µs") if x.dim() == 2 else (len(x), "µs a network")
        works = {"gradients": gradient_steps(start, x, y)} if x.dim() == 2 else {}
        works["gradients and update"] = update_steps(start, x, y)
        if case == SMALLEST:
            works |= rule_steps(start.sizes, x, y)
        for work, steps in works.items():
            # Later losses depend on the updates, so that these are compared, too.
            losses = {name: [float(step().mean()) for _ in range(5)] for name, step in steps.items() if name != FLOOR}
            check_equal(losses, 1e-4)
            times = in_turn({name: partial(call, step) for name, step in steps.items()}, given.rounds)
            by_network = {name: [1e6 * seconds / networks for seconds in each] for name, each in times.items()}
            table.add(f"{case}: {work}", unit, by_network, RULE_GOALS.get(work) or GOALS.get(case, {}))
    table.write("step")


def begin(case: str, device: str) -> tuple[MLP, Tensor, Tensor]:
    """The initial network of all contenders and a batch; for a population, a batch for each run."""
    batch, units, *networks = case.split(",")
    sizes, shape = [int(size) for size in units.split("-")], (*map(int, networks), int(batch))
    torch.manual_seed(0)
    torch.compiler.reset()
    x, y = torch.randn(*shape, sizes[0], device=device), torch.randint(sizes[-1], shape, device=device)
    if networks:
        return MLP(sizes, "relu", runs=shape[0], device=device), x, y
    return MLP(sizes, device=device), x, y


def gradient_steps(model: MLP, x: Tensor, y: Tensor) -> dict[str, Step]:
    """Steps that compute loss and gradients and discard the gradients."""
    net = logits(model)
    return {
        HAND: take_step(lambda: model.loss(x, y, LOSS), model),
        AUTOGRAD: take_step(torch_loss(net, x, y), net),
        COMPILED: take_step(torch_loss(net, x, y, compiled=True), net),
    }


def rule_steps(sizes: Sequence[int], x: Tensor, y: Tensor) -> dict[str, dict[str, Step]]:
    """Loss and gradients by each backward pass and by backpropagation, of networks of the same size."""
    steps_of = {}
    for rule, entry in RULES.items():
        g = "sign" if entry.flat else "tanh"
        other, hand = MLP(sizes, g, gradient=rule), MLP(sizes, g)
        hand.load_state_dict({name: each for name, each in other.state_dict().items() if name.startswith("layers")})
        steps = {
            name: take_step(partial(model.loss, x, y, LOSS), model) for name, model in ((rule, other), (HAND, hand))
        }
        steps_of[f"gradients, {rule}"] = steps
    return steps_of


def update_steps(start: MLP, x: Tensor, y: Tensor) -> dict[str, Step]:
    """Complete steps on equal copies of the parameters; a population has a learning rate for each run."""
    is_one = x.dim() == 2
    rates = [LR] if is_one else torch.linspace(LR / 2, 2 * LR, len(x)).tolist()
    settings = [{"name": "sgd", "lr": lr, "momentum": MOMENTUM, "weight_decay": 0.0} for lr in rates]

    def sgd(model: nn.Module) -> Optimizer:
        return SGD(model.parameters(), LR, MOMENTUM) if is_one else RunsOptimizer(model.parameters(), settings)

    whole, hand = copy.deepcopy(start), copy.deepcopy(start)
    steps = {
        WHOLE: compiled_step(whole, sgd(whole), x, y),
        HAND_SGD: take_step(lambda: hand.loss(x, y, LOSS), hand, sgd(hand)),
    }
    if is_one:
        net, fused = logits(start), logits(start)
        fused_sgd = SGD(fused.parameters(), LR, MOMENTUM, fused=True)  # the fastest that torch has
        steps[AUTOGRAD_SGD] = take_step(torch_loss(net, x, y), net, sgd(net))
        steps[COMPILED_SGD] = take_step(torch_loss(fused, x, y, compiled=True), fused, fused_sgd)
    return {**steps, **jax_step(start, x, y, LR if is_one else rates), FLOOR: floor(start, x)}


def take_step(loss: Callable[[], Tensor], model: nn.Module, optimizer: Optimizer | None = None) -> Step:
    """A step that returns its loss; without an optimizer the gradients are discarded."""
    parameters = list(model.parameters())

    def step() -> Tensor:
        value = loss()
        value.sum().backward()
        if optimizer is not None:
            optimizer.step()
        for parameter in parameters:
            parameter.grad = None
        return value.detach()

    return step


def torch_loss(net: nn.Module, x: Tensor, y: Tensor, compiled: bool = False) -> Callable[[], Tensor]:
    """The loss of a network of `torch.nn`; compiled on a GPU, it uses CUDA graphs."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(net(x), y)

    function = torch.compile(loss, mode="reduce-overhead" if x.is_cuda else None) if compiled else loss
    return lambda: function(x, y)


def compiled_step(model: MLP, optimizer: Optimizer, x: Tensor, y: Tensor) -> Step:
    """The step of `compile=true`."""
    for parameter in model.parameters():  # in a run, the first step is not compiled and creates the buffer
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    whole, batch = CompiledStep(model, Criterion(LOSS), None, optimizer), Batch(x, y)
    return lambda: whole(batch)[0]


def jax_step(start: MLP, x: Tensor, y: Tensor, lr: float | Sequence[float]) -> dict[str, Step]:
    """The same step in JAX, jitted with donated buffers, and vmapped for a population; empty without JAX."""
    try:
        import jax
        import jax.numpy as jnp
    except ModuleNotFoundError:
        return {}
    device = jax.devices("gpu" if x.is_cuda else "cpu")[0]
    theta, batch = (
        [jax.device_put(t.detach().cpu().numpy(), device) for t in ts] for ts in (start.parameters(), (x, y))
    )
    velocity, rates = [jnp.zeros_like(each) for each in theta], jax.device_put(jnp.asarray(lr), device)
    g = getattr(jax.nn, str(start.network.hidden_activation))

    def loss(theta: Any, x: Any, y: Any) -> Any:
        *hidden, (W, b) = zip(theta[::2], theta[1::2], strict=True)
        for layer in hidden:
            x = g(x @ layer[0] + layer[1])
        return -jnp.take_along_axis(jax.nn.log_softmax(x @ W + b), y[:, None], axis=1).mean()

    def update(theta: Any, velocity: Any, lr: Any, x: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(theta, x, y)
        velocity = [MOMENTUM * v + gradient for v, gradient in zip(velocity, gradients, strict=True)]
        return [p - lr * v for p, v in zip(theta, velocity, strict=True)], velocity, value

    run = jax.jit(jax.vmap(update) if x.dim() == 3 else update, donate_argnums=(0, 1))

    def step() -> Any:
        nonlocal theta, velocity
        theta, velocity, value = run(theta, velocity, rates, *batch)
        return value.block_until_ready()

    return {JAX: step}


def floor(start: MLP, x: Tensor) -> Step:
    """The matrix products of a step, batched for a population, into preallocated tensors."""
    product = torch.mm if x.dim() == 2 else torch.bmm
    weights = [each.detach() for each in start.parameters()][::2]
    values = [x, *(torch.randn(*x.shape[:-1], n, device=x.device) for n in start.sizes[1:])]  # h, and as large, its δ
    results, gradients = ([torch.empty_like(each) for each in tensors] for tensors in (values, weights))

    def products() -> None:
        for i, W in enumerate(weights):
            product(values[i], W, out=results[i + 1])
        for i in reversed(range(len(weights))):
            product(values[i].mT, values[i + 1], out=gradients[i])
            if i > 0:
                product(values[i + 1], weights[i].mT, out=results[i])

    return products


def logits(model: MLP) -> nn.Sequential:
    """The network in `torch.nn` up to z_O, the input of `F.cross_entropy`."""
    return model.to_sequential()[:-1]


if __name__ == "__main__":
    main()
