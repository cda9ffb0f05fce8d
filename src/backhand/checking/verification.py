"""Runs the checks of `matrix` in several processes, shows their progress, and writes their results."""

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
from multiprocessing import get_context
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

# Says of a gradcheck.json that it may be replaced.
PROGRAM = "backhand gradcheck"


def verify_everything(
    names: Sequence[str],
    folder: Path,
    processes: int | None,
    seed: int,
    imports: Sequence[str] = (),
    verbose: bool = False,
) -> int:
    """Prove what `names` leaves of all combinations, print a table, and write gradcheck.json and gradcheck.png.

    Args:
        names: of activations, losses and modes; of each kind that is named, only those.
        folder: where the two files go.
        processes: how many at once; one for each core if None. One runs in this process.
        seed: of the networks and batches.
        imports: files and modules that each process imports first.
        verbose: whether to print every failure, and not the first of each mode alone.

    Returns:
        The exit status: 0 where everything passes.

    Raises:
        UserError: nothing is left to verify, or a file of another program is in the way.
    """
    report, picture = folder / "gradcheck.json", folder / "gradcheck.png"
    _check_replaceable(report, picture)
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
    heatmap(worst_by_cell(results), picture, LIMIT_AUTOGRAD, LIMIT_DIFFERENCES)
    console.print(f"files: {report}, {picture}", soft_wrap=True, highlight=False)
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
        # Not forked: torch's threads do not survive it.
        pool = ProcessPoolExecutor(min(processes, len(chosen)), get_context("spawn"), _start_worker, (imports,))
        # The processes inherit what is ignored: Ctrl-C is for this one, which lets them finish the current one.
        # (Masking it instead would lose none in this instant, but one may reach another thread and cut `submit` off.)
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            waiting = {pool.submit(one, each): number for number, each in enumerate(chosen)}
        finally:
            signal.signal(signal.SIGINT, interrupt)
        try:
            for done in as_completed(waiting):
                found[waiting[done]] = done.result()
                progress.advance(task)
        finally:
            pool.shutdown(cancel_futures=True)
        return [found[number] for number in range(len(chosen))]


def _start_worker(imports: Sequence[str]) -> None:
    """One thread a process: the processes are as many as the cores."""
    torch.set_num_threads(1)
    import_modules(imports)


def _table(results: Sequence[Verification]) -> Table:
    """A row for each loss; its errors are the worst over the activations and shapes."""
    table = Table()
    table.add_column("loss", overflow="fold")
    for column in ("combinations", "autograd", "differences"):
        table.add_column(column, justify="right")
    table.add_column("")
    rows: dict[str, list[Verification]] = {}
    for result in results:
        rows.setdefault(result.combination.variant, []).append(result)
    for loss, own in sorted(rows.items()):
        failed = sum(bool(result.failures) for result in own)
        table.add_row(
            loss,
            str(len(own)),
            f"{max(result.error_autograd for result in own):.1e}",
            f"{max(result.error_differences for result in own):.1e}",
            f"[bold red]{failed} FAIL[/]" if failed else "pass",
        )
    return table


def _failures(results: Sequence[Verification], verbose: bool) -> list[str]:
    """A line for each mode that fails, with its first combination, or for every failure; and what all of them share."""
    lines: dict[str, list[str]] = {}
    for result in results:
        for mode, reason in result.failures.items():
            lines.setdefault(mode, []).append(f"FAIL {result.combination}: {mode}: {reason}")
    if verbose:
        return [line for each in lines.values() for line in each]
    said = [f"{each[0]}; {len(each)} in all" for each in lines.values()]
    parts = [
        {*each.activations, each.output, each.loss, each.variant} for each in (result.combination for result in results)
    ]
    for name in sorted(set().union(*parts)):
        if all((name in each) == bool(result.failures) for each, result in zip(parts, results, strict=True)):
            said.append(f"{name} is in every combination that fails, and in none that passes")
    return [*said, "verbose=true lists them all"] if said else []


def worst_by_cell(results: Sequence[Verification]) -> dict[tuple[str, str], tuple[float, float, bool]]:
    """For each hidden activation and each loss with its output: the two worst errors, and whether all passes."""
    places: dict[tuple[str, str], tuple[float, float, bool]] = {}
    for result in results:
        place = (
            result.combination.hidden,
            f"{result.combination.variant}, {result.combination.output}",
        )
        autograd, differences, passes = places.get(place, (0.0, 0.0, True))
        places[place] = (
            max(autograd, result.error_autograd),
            max(differences, result.error_differences),
            passes and not result.failures,
        )
    return places


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


def _check_replaceable(report: Path, picture: Path) -> None:
    """Replace the files of an earlier check, and nothing else."""
    if not report.exists():
        if picture.exists():
            raise UserError(f"{picture}: is in the way, and is none of an earlier check; name another folder=")
        return
    record = read_json(report)
    if not isinstance(record, dict) or record.get("program") != PROGRAM:
        raise UserError(f"{report}: is in the way, and is none of an earlier check; name another folder=")
