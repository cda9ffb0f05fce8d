"""A population's step beside the floor and JAX, and a whole sweep beside the same runs one by one."""

import os
import subprocess
import sys
import tempfile
import time

import torch
from torch import Tensor

from backhand.benchmarks.step import Step, floor
from backhand.benchmarks.timing import Goal, Ratio, Report, agree, figures, interleaved, ratios
from backhand.calculus.backpropagation import Criterion
from backhand.calculus.mlp import MLP
from backhand.config import CONF
from backhand.config.validation import can_compile
from backhand.data.batches import Batch
from backhand.training.compiled import CompiledStep
from backhand.training.optimizers import RunsOptimizer

LOSS, BATCH, SIZES = "cross_entropy", 32, (64, 32, 10)
COMPILED, EAGER, JAX, FLOOR = "compiled", "eager", "JAX, vmap, jitted", "matrix products alone"
STEP_GOALS = (Goal(COMPILED, JAX, 0.65), Goal(COMPILED, FLOOR, 2.0), Goal(EAGER, FLOOR), Goal(EAGER, JAX))
POPULATION, ONE_BY_ONE = "hydra/launcher=population", "hydra/launcher=basic"
COMPILED_SWEEP = "hydra/launcher=population compile=true"


def benchmark(
    rounds: int, device: torch.device, runs: tuple[int, int] = (64, 256), one_by_one: tuple[int, int] = (16, 64)
) -> Report:
    """Time a network-step in populations of both sizes, and sweeps of as many runs, and of some one by one.

    Raises:
        AssertionError: two contenders do not compute the same losses.
        subprocess.CalledProcessError: a sweep failed.
    """
    report = Report("Sweeps", [], [])
    of_ours: list[list[float]] = []
    for count in runs:
        case = f"{count} × {'-'.join(map(str, SIZES))}, batch {BATCH}, a network-step"
        contenders = _steps(count, device, case)
        # In each round those of one size only: what is compared between the sizes is compared with a floor of its own.
        times = {
            name: [seconds / count for seconds in each]
            for name, each in interleaved(contenders, rounds, device).items()
        }
        report.figures += figures(case, times)
        report.ratios += ratios(case, times, STEP_GOALS)
        of_ours.append(times[COMPILED])
    few, many = (sorted(times)[len(times) // 2] for times in of_ours)
    larger = many / few
    report.ratios.append(Ratio("", f"a network-step of {runs[1]} / of {runs[0]}", larger, larger, larger, at_most=1.5))
    _sweeps(report, runs, one_by_one)
    return report


def _steps(count: int, device: torch.device, case: str) -> dict[str, Step]:
    torch.manual_seed(0)
    x = torch.randn(count, BATCH, SIZES[0], device=device)
    y = torch.randint(SIZES[-1], (count, BATCH), device=device)
    start = MLP(SIZES, "relu", runs=count, device=device)
    begun = [each.detach().clone() for each in start.parameters()]
    contenders: dict[str, Step] = {name: _ours(begun, x, y, compiled=name == COMPILED) for name in (COMPILED, EAGER)}
    if (jax := _jax(begun, x, y)) is not None:
        contenders[JAX] = jax
    losses = {name: [float(step()) for _ in range(5)] for name, step in contenders.items()}  # type: ignore[arg-type]
    agree(case, losses, 1e-4)
    return {**contenders, FLOOR: floor(start, x)}


def _ours(begun: list[Tensor], x: Tensor, y: Tensor, *, compiled: bool) -> Step:
    """A population's step as training takes it, each run with a learning rate of its own; returns their mean loss."""
    count = len(x)
    model = MLP(SIZES, "relu", runs=count, device=x.device)
    with torch.no_grad():
        for own, value in zip(model.parameters(), begun, strict=True):
            own.copy_(value)
    rates = torch.linspace(0.005, 0.02, count, dtype=torch.float64).tolist()
    settings = [{"name": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": 0.0} for lr in rates]
    optimizer = RunsOptimizer(model.parameters(), settings)
    steps: list[CompiledStep] = []

    def step() -> Tensor:
        if steps:
            return steps[0](Batch(x, y))[0].mean()
        loss = model.loss(x, y, LOSS)
        loss.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        if compiled:  # the first step makes the optimizer's state
            steps.append(CompiledStep(model, Criterion(LOSS), None, optimizer))
        return loss.detach().mean()

    return step


def _jax(begun: list[Tensor], x: Tensor, y: Tensor) -> Step | None:
    """The same in JAX, vmapped over the runs, jitted, with its buffers given up; None where JAX is not installed."""
    try:
        import jax
        import jax.numpy as jnp
    except ModuleNotFoundError:
        return None
    device = jax.devices("gpu" if x.is_cuda else "cpu")[0]
    theta = [jax.device_put(each.cpu().numpy(), device) for each in begun]
    velocity = [jnp.zeros_like(each) for each in theta]
    inputs, labels = (jax.device_put(each.cpu().numpy(), device) for each in (x, y))
    rates = jnp.linspace(0.005, 0.02, len(x))

    def loss(theta, x, y):  # type: ignore[no-untyped-def]
        W_I, b_I, W_O, b_O = theta
        h = jax.nn.relu(x @ W_I + b_I)
        return -jnp.take_along_axis(jax.nn.log_softmax(h @ W_O + b_O), y[:, None], axis=1).mean()

    def step(theta, velocity, lr, x, y):  # type: ignore[no-untyped-def]
        value, gradients = jax.value_and_grad(loss)(theta, x, y)
        velocity = [0.9 * v + g for v, g in zip(velocity, gradients, strict=True)]
        return [p - lr * v for p, v in zip(theta, velocity, strict=True)], velocity, value

    run = jax.jit(jax.vmap(step), donate_argnums=(0, 1))

    def once() -> float:
        nonlocal theta, velocity
        theta, velocity, value = run(theta, velocity, rates, inputs, labels)
        return value.mean().block_until_ready()

    return once


def _sweeps(report: Report, runs: tuple[int, int], one_by_one: tuple[int, int], epochs: int = 30) -> None:
    """Whole commands with CSV and W&B offline: what a sweep takes, and one more run of it, from two sizes of sweep."""
    marginal: dict[str, list[float]] = {}
    compiled = {COMPILED_SWEEP: runs} if can_compile() else {}
    for name, (few, many) in {POPULATION: runs, **compiled, ONE_BY_ONE: one_by_one}.items():
        shared = [f"trainer.max_epochs={epochs}", "model.hidden=[32]", *name.split()]
        seconds = {count: sweep_seconds([f"seed=range({count})", *shared]) for count in (few, many)}
        case = f"{'-'.join(map(str, SIZES))} on digits, {epochs} epochs, {name}"
        whole = {f"{count} runs": [each] for count, each in seconds.items()}
        report.figures += figures(case, whole, "s")
        marginal[name] = [(seconds[many] - seconds[few]) / (many - few)]
    case = "one more run of a sweep, the whole command"
    report.figures += figures(case, marginal, "s")
    report.ratios += ratios(case, marginal, [Goal(POPULATION, ONE_BY_ONE, 1 / 10), Goal(COMPILED_SWEEP, ONE_BY_ONE)])


def sweep_seconds(overrides: list[str]) -> float:
    """Seconds that a sweep takes as a command.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(CONF.parent / "train.py"), "-m", *overrides, f"hydra.sweep.dir={folder}/sweep"]
        environment = {**os.environ, "WANDB_MODE": "offline", "COLUMNS": "120"}
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        return time.perf_counter() - start
