"""Peak memory of activations and gradients in a training step with a large output layer."""

import json
import tempfile
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from measuring import BenchmarkTable, arguments, check_equal, checked_case
from step import AUTOGRAD, HAND, begin, gradient_steps


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, rounds=1)
    parser.add_argument(
        "--case", type=checked_case, default="4096,512-512-10000", help="batch size, and units of each layer"
    )
    given = parser.parse_args()
    steps = gradient_steps(*begin(given.case, given.device))
    steps = {name: steps[name] for name in (HAND, AUTOGRAD)}
    check_equal({name: [float(step())] for name, step in steps.items()}, 1e-5)
    peaks = {name: [peak(step, given.device) / 1e6 for _ in range(given.rounds)] for name, step in steps.items()}
    table = BenchmarkTable("Peak memory of activations and gradients", given)
    table.add(given.case, "MB", peaks, {AUTOGRAD: 0.50})
    table.write("memory")


def peak(step: Callable[[], object], device: str) -> int:
    """Peak memory of a step in bytes, minus the memory allocated before it."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    # The trace of torch's profiler contains every allocation and deallocation.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = [event for event in json.loads(trace.read_text())["traceEvents"] if event["name"] == "[memory]"]
    changes = [event["args"]["Bytes"] for event in sorted(events, key=lambda event: event["ts"])]
    return max(accumulate(changes))


if __name__ == "__main__":
    main()
