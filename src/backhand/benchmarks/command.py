"""The command `python scripts/benchmark.py`."""

from dataclasses import dataclass
from pathlib import Path

from backhand.calculus.choices import check_choice
from backhand.config import CONF
from backhand.config.arguments import parse
from backhand.config.command import script
from backhand.errors import UserError

USAGE = """
Measure the program beside other ways to do the same work, in turn, in one process.

  python scripts/benchmark.py step
  python scripts/benchmark.py step memory
  python scripts/benchmark.py all write=true

  step           one training step: autograd, torch.compile, JAX where it is installed, the matrix products alone
  memory         the peak of activations and gradients
  epoch          an epoch of MNIST-shaped pictures, 30 of digits: a bare loop, Lightning as usual, scikit-learn
  startup        from the command to the first step
  sweep          populations of 64 and 256: a network-step; 64 runs on digits beside the same one by one
  all            all of them: a quarter of an hour

  rounds=N       how often each has its turn; 15 for steps, 5 for epochs and start-up
  device=auto    the GPU where there is one; or cpu, cuda
  folder=.       where benchmark.json and benchmark.png are written (those of an earlier call are replaced)
  write=false    true: also put the figures into docs/benchmarks.md, with this machine's description
"""
NAMES = ("step", "memory", "epoch", "startup", "sweep")


@dataclass
class BenchmarkArguments:
    """What `scripts/benchmark.py` takes beside the names; `USAGE` says what each means."""

    rounds: int | None = None
    device: str = "auto"
    folder: str = "."
    write: bool = False


@script
def main(command_line: list[str]) -> int:
    """The command."""
    words = [word for word in command_line if "=" not in word and not word.startswith("-")]
    arguments = parse(BenchmarkArguments, [word for word in command_line if word not in words], USAGE)
    if not words:
        raise UserError(f"name what to measure: {', '.join(NAMES)}, or all")
    for word in words:
        check_choice("benchmark", word, (*NAMES, "all"))
    check_choice("device", arguments.device, ("auto", "cpu", "cuda"))
    if arguments.rounds is not None and arguments.rounds < 1:
        raise UserError(f"rounds={arguments.rounds}: must be 1 or more")
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise UserError(f"folder={folder}: no such folder")
    names = [name for name in NAMES if name in words or "all" in words]
    return benchmark(names, arguments.rounds, arguments.device, folder, arguments.write)


def benchmark(names: list[str], rounds: int | None, device: str, folder: Path, write: bool) -> int:
    """Measure, print and write.

    Returns:
        The exit status, 0: a goal that is missed is a finding, not a failure.

    Raises:
        UserError: no such device, or the folder cannot be written to.
    """
    import torch
    from rich.console import Console

    from backhand.benchmarks import page

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: torch finds no CUDA device here")
    place = torch.device("cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda")
    about, console, reports = page.machine(place), Console(), {}
    for name in names:
        reports[name] = _measure(name, rounds, place)
        page.print_report(reports[name], console)
        try:
            page.write_json(reports, about, folder / "benchmark.json")
            page.write_chart(reports, about, folder / "benchmark.png")
        except OSError as error:
            raise UserError(f"folder={folder}: cannot be written to ({error.strerror})") from None
    if write:
        docs = CONF.parent / "docs"
        page.update_page(reports, about, docs / "benchmarks.md")
        if len(reports) == len(NAMES):  # the page's chart is of all of them
            page.write_chart(reports, about, docs / "images" / "benchmark.png")
    return 0


def _measure(name: str, rounds: int | None, device):  # type: ignore[no-untyped-def]
    # Each imports what it measures, and no more.
    if name == "step":
        from backhand.benchmarks import step

        return step.benchmark(rounds or 15, device)
    if name == "memory":
        from backhand.benchmarks import memory

        return memory.benchmark(device)
    if name == "epoch":
        from backhand.benchmarks import epoch

        return epoch.benchmark(rounds or 5, device)
    if name == "sweep":
        from backhand.benchmarks import sweep

        return sweep.benchmark(rounds or 15, device)
    from backhand.benchmarks import startup

    return startup.benchmark(rounds or 5)
