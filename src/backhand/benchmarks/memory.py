"""The peak of activations and gradients of a step whose output layer is what memory goes to."""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from backhand.benchmarks.step import AUTOGRAD, EAGER, LOSS, logits
from backhand.benchmarks.timing import Goal, Report, agree, figures, ratios
from backhand.calculus.mlp import MLP

BATCH, SIZES = 4096, (512, 512, 10_000)
GOALS = (Goal(EAGER, AUTOGRAD, 0.50),)


def benchmark(device: torch.device, batch: int = BATCH, sizes: tuple[int, ...] = SIZES) -> Report:
    """Measure by the allocator's own account; parameters and batch are there before and do not count.

    Raises:
        AssertionError: two contenders do not compute the same loss.
    """
    torch.manual_seed(0)
    model = MLP(sizes, device=device)
    net = logits(model)
    x, y = torch.randn(batch, sizes[0], device=device), torch.randint(sizes[-1], (batch,), device=device)

    def by_hand() -> float:
        loss = model.loss(x, y, LOSS)
        loss.backward()
        return float(loss.detach())

    def autograd() -> float:
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return float(loss.detach())

    steps = {EAGER: by_hand, AUTOGRAD: autograd}
    case = f"{batch}, {'-'.join(map(str, sizes))}"
    peaks, losses = {}, {}
    for name, step in steps.items():
        losses[name] = [step()]
        model.zero_grad()
        net.zero_grad()
        peaks[name] = [float(peak(step, device))]
    agree(case, losses, 1e-5)
    return Report("Peak memory of activations and gradients", figures(case, peaks, "MB"), ratios(case, peaks, GOALS))


def peak(step: Callable[[], object], device: torch.device) -> int:
    """Bytes at the highest point of a step, above what there was before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    assert profile.profiler is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        highest = max(highest, live)
    return highest
