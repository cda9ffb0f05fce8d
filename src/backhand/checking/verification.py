"""Run the checks of `matrix` in several processes, show their progress, and write their results."""

import json
import os
import platform
import signal
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from backhand import __version__
from backhand.calculus.activations import ACTIVATIONS
from backhand.calculus.losses import LOSSES
from backhand.checking.heatmap import heatmap
from backhand.checking.matrix import (
    LIMIT_AUTOGRAD,
    LIMIT_DIFFERENCES,
    MODES,
    Combination,
    Verification,
    combinations,
    verify,
)
from backhand.config.files import atomic_write, read_json
from backhand.config.imports import import_modules
from backhand.config.process import garbage_collection
from backhand.errors import UserError

# Marks a gradcheck.json as written by this program, so that it may be replaced.
PROGRAM = "backhand gradcheck"


def verify_everything(
    names: Sequence[str],
    folder: Path,
    processes: int | None,
    seed: int,
    imports: Sequence[str] = (),
    verbose: bool = False,
) -> int:
    """Verify the combinations selected by `names`, print a table, and write gradcheck.json and gradcheck.png.

    Args:
        names: names of activations, losses and modes; a kind of which none is named is not restricted.
        folder: folder of the two files.
        processes: number of processes; one per core if None. 1 uses the current process.
        seed: seed of the networks and batches.
        imports: files and modules that each process imports first.
        verbose: whether to print every failure, not only the first of each mode.

    Returns:
        The exit status: 0 where everything passes.

    Raises:
        UserError: no combination is selected, the folder is not writable, or a file in it is another program's.
    """
    report, figure = folder / "gradcheck.json", folder / "gradcheck.png"
    _check_replaceable(report, figure)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"folder={folder}: cannot be written to ({error.strerror})") from None
    modes = [mode for mode in MODES if mode in names] or list(MODES)
    chosen = [each for each in combinations() if _is_chosen(each, names)]
    if not chosen:
        raise UserError(f"only={','.join(names)}: no combination has all of these; an output must fit the loss")
    started = time.perf_counter()
    with garbage_collection():
        results = _verify_all(chosen, modes, processes or os.cpu_count() or 1, seed, imports)
    seconds = time.perf_counter() - started
    failed = [result for result in results if result.failures]
    console = Console()
    console.print(_table(results))
    for line in _failures(results, verbose):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    outcome = f"{len(failed)} fail" if failed else "all pass"
    console.print(
        f"{len(results)} combinations, modes {', '.join(modes)}: {outcome} ({seconds:.0f} s)", highlight=False
    )
    atomic_write(report, json.dumps(_record(results, modes, seed, seconds), indent=1) + "\n")
    heatmap(worst_by_cell(results), figure, LIMIT_AUTOGRAD, LIMIT_DIFFERENCES)
    console.print(f"files: {report}, {figure}", soft_wrap=True, highlight=False)
    return 1 if failed else 0


def _is_chosen(combination: Combination, names: Sequence[str]) -> bool:
    activations, losses = set(names) & ACTIVATIONS.keys(), set(names) & LOSSES.keys()
    fits_activation = not activations or bool(activations & {combination.hidden, combination.output})
    return fits_activation and (not losses or combination.loss in losses)


def _verify_all(
    chosen: Sequence[Combination], modes: Sequence[str], processes: int, seed: int, imports: Sequence[str]
) -> list[Verification]:
    one = partial(verify, modes=modes, seed=seed)
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(chosen))
        if processes == 1 or len(chosen) < 8:
            return [one(each) for each in progress.track(chosen, task_id=task)]
        found: dict[int, Verification] = {}
        # Spawned, not forked: torch's threads do not survive a fork.
        pool = ProcessPoolExecutor(min(processes, len(chosen)), get_context("spawn"), _start_worker, (imports,))
        # The workers inherit that SIGINT is blocked: only this process handles Ctrl-C, and ends them. The handler waits
        # until all are submitted: a thread that was there before has not blocked it, and would interrupt `submit`.
        interrupts: list[int] = []
        handler = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            waiting = {pool.submit(one, each): number for number, each in enumerate(chosen)}
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            signal.signal(signal.SIGINT, handler)
        try:
            if interrupts:
                signal.raise_signal(signal.SIGINT)
            for done in as_completed(waiting):
                found[waiting[done]] = done.result()
                progress.advance(task)
        except BaseException:
            for worker in active_children():  # nobody waits for one that still imports torch
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return [found[number] for number in range(len(chosen))]


def _start_worker(imports: Sequence[str]) -> None:
    """Use one thread per process, as there is one process per core."""
    torch.set_num_threads(1)
    import_modules(imports)


def _table(results: Sequence[Verification]) -> Table:
    """A row for each loss with the largest errors over its activations and shapes."""
    table = Table()
    table.add_column("loss", overflow="fold")
    for column in ("combinations", "autograd", "differences"):
        table.add_column(column, justify="right")
    table.add_column("")
    rows: dict[str, list[Verification]] = {}
    for result in results:
        rows.setdefault(result.combination.variant, []).append(result)
    for loss, of_loss in sorted(rows.items()):
        failed = sum(bool(result.failures) for result in of_loss)
        table.add_row(
            loss,
            str(len(of_loss)),
            f"{max(result.error_autograd for result in of_loss):.1e}",
            f"{max(result.error_differences for result in of_loss):.1e}",
            f"[bold red]{failed} FAIL[/]" if failed else "pass",
        )
    return table


def _failures(results: Sequence[Verification], verbose: bool) -> list[str]:
    """A line for each mode that fails, or for every failure if `verbose`, and the names that all failures share."""
    lines: dict[str, list[str]] = {}
    for result in results:
        for mode, reason in result.failures.items():
            lines.setdefault(mode, []).append(f"FAIL {result.combination}: {mode}: {reason}")
    if verbose:
        return [line for each in lines.values() for line in each]
    summary = [f"{each[0]}; {len(each)} in all" for each in lines.values()]
    parts = [
        {*each.activations, each.output, each.loss, each.variant} for each in (result.combination for result in results)
    ]
    for name in sorted(set().union(*parts)):
        if all((name in each) == bool(result.failures) for each, result in zip(parts, results, strict=True)):
            summary.append(f"{name} is in every combination that fails, and in none that passes")
    return [*summary, "verbose=true lists them all"] if summary else []


def worst_by_cell(results: Sequence[Verification]) -> dict[tuple[str, str], tuple[float, float, bool]]:
    """For each hidden activation and each loss with its output: the two largest errors, and whether all pass."""
    cells: dict[tuple[str, str], tuple[float, float, bool]] = {}
    for result in results:
        cell = (
            result.combination.hidden,
            f"{result.combination.variant}, {result.combination.output}",
        )
        autograd, differences, passes = cells.get(cell, (0.0, 0.0, True))
        cells[cell] = (
            max(autograd, result.error_autograd),
            max(differences, result.error_differences),
            passes and not result.failures,
        )
    return cells


def _record(results: Sequence[Verification], modes: Sequence[str], seed: int, seconds: float) -> dict[str, Any]:
    return {
        "program": PROGRAM,
        "versions": {"python": platform.python_version(), "backhand": __version__, "torch": version("torch")},
        "seed": seed,
        "seconds": round(seconds, 1),
        "limits": {"autograd": LIMIT_AUTOGRAD, "differences": LIMIT_DIFFERENCES},
        "modes": list(modes),
        "passes": not any(result.failures for result in results),
        "combinations": [
            {
                **asdict(result.combination),
                "parameters": dict(result.combination.parameters),
                "error_autograd": result.error_autograd,
                "error_differences": result.error_differences,
                "failures": result.failures,
            }
            for result in results
        ],
    }


def _check_replaceable(report: Path, figure: Path) -> None:
    """Refuse to replace files that an earlier check did not write."""
    if not report.exists():
        if figure.exists():
            raise UserError(f"{figure}: exists and was not written by an earlier check; choose another folder=")
        return
    record = read_json(report)
    if not isinstance(record, dict) or record.get("program") != PROGRAM:
        raise UserError(f"{report}: exists and was not written by an earlier check; choose another folder=")
