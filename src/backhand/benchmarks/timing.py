"""Times of several ways to do the same thing, in turn, so that a machine that slows down slows them all."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

# A measurement repeats a short call until it lasts so many seconds.
SHORTEST = 0.02


@dataclass(frozen=True)
class Figure:
    """What one contender took in one case: the median over the rounds, and the quartiles on either side."""

    case: str
    name: str
    unit: str
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Ratio:
    """One contender's time over another's, round by round: the median, the quartiles, and the goal if there is one."""

    case: str
    name: str
    median: float
    low: float
    high: float
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median is within the goal; None without one."""
        return None if self.at_most is None else self.median <= self.at_most


@dataclass(frozen=True)
class Goal:
    """A comparison that is wanted: the names of two contenders, and what their ratio should be at most."""

    ours: str
    peer: str
    at_most: float | None = None


@dataclass
class Report:
    """The outcome of one benchmark: what it is about, its figures and their ratios."""

    title: str
    figures: list[Figure]
    ratios: list[Ratio]


def interleaved(
    contenders: Mapping[str, Callable[[], object]], rounds: int, device: torch.device | None = None
) -> dict[str, list[float]]:
    """Seconds a call of each contender, one figure a round; in each round everyone has a turn.

    On a GPU they are between two CUDA events, so that what is measured is the device's work and its gaps.
    """
    repeats = {}
    for name, run in contenders.items():
        for _ in range(3):  # compilers, caches and allocators have had their chance before the first figure
            run()
        repeats[name] = max(1, round(SHORTEST / max(_seconds(run, 1, device), 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(_seconds(contenders[name], repeats[name], device))
    return times


def figures(case: str, times: Mapping[str, Sequence[float]], unit: str = "µs") -> list[Figure]:
    """The times in the unit, as medians with their quartiles."""
    scale = {"µs": 1e6, "s": 1.0, "MB": 1e-6}[unit]
    return [Figure(case, name, unit, *(scale * value for value in _spread(values))) for name, values in times.items()]


def ratios(case: str, times: Mapping[str, Sequence[float]], goals: Sequence[Goal]) -> list[Ratio]:
    """The comparisons for which both contenders were there."""
    return [
        Ratio(
            case,
            f"{goal.ours} / {goal.peer}",
            *_spread([a / b for a, b in zip(times[goal.ours], times[goal.peer], strict=True)]),
            at_most=goal.at_most,
        )
        for goal in goals
        if goal.ours in times and goal.peer in times
    ]


def agree(case: str, losses: Mapping[str, Sequence[float]], relative: float) -> None:
    """Refuse to compare contenders that do not compute the same.

    Raises:
        AssertionError: two of them differ by more than the relative tolerance.
    """
    (reference, expected), *others = losses.items()
    for name, found in others:
        for a, b in zip(found, expected, strict=True):
            if not abs(a - b) <= relative * abs(b):
                raise AssertionError(f"{case}: {name} has the loss {a}, {reference} has {b}: not the same work")


def _seconds(run: Callable[[], object], repeats: int, device: torch.device | None) -> float:
    if device is not None and device.type == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeats):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000 / repeats
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, low, high
