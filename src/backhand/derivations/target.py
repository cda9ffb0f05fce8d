"""Checks a derivation that somebody brings: `python scripts/gradcheck.py target=FILE[:NAME]`."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backhand.calculus.losses import LOSSES
from backhand.config.schema import NetworkArguments
from backhand.config.validation import check_network, loss_parameters
from backhand.errors import UserError

# Larger sizes show nothing more, and every mistake is tried on them.
LARGEST = 200
# What a target may take of memory beside what torch takes, in bytes.
MEMORY = 2 * 1024**3
RUN = "from backhand.config.process import run; run('backhand.derivations.runner')"
# Columns of a terminal that has room for the cosines.
WIDE = 70
ERROR, COSINE = "‖yours − right‖ / ‖right‖", "of the angle between the two, +1 where only the length differs"
STATUS = {"right": 0, "wrong": 1, "unjudged": 2}


def check_target(
    target: str, call: str | None, loss: str | None, model: NetworkArguments, hidden_given: bool, sizes: Any, seed: int,
    time_limit: float, imports: list[str],
) -> int:  # fmt: skip
    """Have the target judged by a process of its own, and print what is found.

    Args:
        target: FILE or FILE:NAME.
        call: one line of Python whose last value is judged.
        loss: the name of the file's own loss, or an expression that gives it.
        model: the network that it derives.
        hidden_given: whether `model.hidden` was given, and is no default.
        sizes: [B, D, …, C], or None for the ordinary ones.
        seed: of the draws.
        time_limit: seconds that it may take.
        imports: files with activations and losses of the user's own.

    Returns:
        The exit status: 0 right, 1 wrong, 2 not judged.

    Raises:
        UserError: it cannot be judged; in one line.
    """
    path, name = _split(target)
    hidden = list(model.hidden) if hidden_given else [5]
    whole = _sizes(sizes, hidden)
    if whole is not None and hidden_given and whole[2:-1] != hidden:
        raise UserError(f"sizes={sizes}: has other hidden layers than model.hidden={hidden}; give one of the two")
    if whole is not None:
        hidden = whole[2:-1]
    outputs = whole[-1] if whole is not None else 3
    check_network(model, outputs)
    output = model.output_activation or LOSSES[model.loss].matched
    if outputs == 1 and output == "softmax":
        raise UserError(f"sizes={sizes}: a single output, which softmax would make always 1; give two or more")
    parameters = loss_parameters(model)
    weight = parameters.pop(LOSSES[model.loss].tensor_parameter or "", None)
    if weight == "balanced":
        raise UserError("model.class_weight=balanced: there are no data to balance; give one number a class")
    g = model.hidden_activation
    request = {
        "file": str(path), "name": name, "call": call, "loss": loss, "seed": seed, "time_limit": time_limit,
        "imports": imports,
        "hidden": hidden, "sizes": whole, "hidden_activation": g if isinstance(g, str) else list(g),
        "output_activation": output, "criterion": model.loss, "parameters": parameters,
        "weight": None if weight is None else weight if isinstance(weight, list) else [weight] * outputs,
    }  # fmt: skip
    response = _ask(request, time_limit)
    if "refused" in response:
        # The process that judges knows when its time is up, and not how much it was given.
        raise UserError(response["refused"].replace("time_limit=…", f"time_limit={2 * time_limit:g}"))
    _print(f"{path}:{name}" if name else str(path), response)
    return STATUS[response["status"]]


def _split(target: str) -> tuple[Path, str]:
    file, colon, name = target.rpartition(":")
    if not colon or Path(target).is_file():
        file, name = target, ""
    if (name and not all(part.isidentifier() for part in name.split("."))) or name.count(".") > 1:
        raise UserError(f"target={target}: must be FILE, FILE:NAME or FILE:CLASS.METHOD, such as mine.py:backward")
    path = Path(file)
    if not file:
        raise UserError(f"target={target}: names no file; must be FILE, FILE:NAME or FILE:CLASS.METHOD")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "no such file"
        raise UserError(f"target={target}: {what}: {file}")
    if path.suffix not in (".py", ".ipynb"):
        raise UserError(f"target={target}: must be a Python file or a notebook, ending in .py or .ipynb")
    return path, name


def _sizes(sizes: Any, hidden: list[int]) -> list[int] | None:
    """B, D, the hidden sizes and C."""
    if sizes is None:
        return None
    depth = len(hidden)
    whole = isinstance(sizes, list) and all(type(size) is int and 1 <= size <= LARGEST for size in sizes)
    if not whole or len(sizes) not in (depth + 3, 4) or (len(sizes) == 4 and depth == 0):
        names = {0: "samples, inputs, outputs", 1: "samples, inputs, hidden units, outputs"}.get(
            depth, "samples, inputs, the units of each hidden layer, outputs"
        )
        raise UserError(f"sizes={sizes}: must be {depth + 3} whole numbers from 1 to {LARGEST}: {names}")
    if len(sizes) == depth + 3:
        return list(sizes)
    return [*sizes[:2], *hidden, sizes[-1]]


def _ask(request: dict[str, Any], time_limit: float) -> dict[str, Any]:
    """Have the target judged by a process of its own, which is ended when the time is up."""
    target = f"{request['file']}:{request['name']}" if request["name"] else request["file"]
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "request.json", Path(folder) / "response.json"
        asked.write_text(json.dumps(request))
        process = subprocess.Popen(
            # -P: modules are not looked for in the current folder, where the target may be called json.py.
            [sys.executable, "-P", "-c", RUN, str(asked), str(answered)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what the target prints is no part of the report, and may be without end
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_limit_memory,
        )
        try:
            status = process.wait(time_limit)
        except subprocess.TimeoutExpired:
            more = f"give it more, with time_limit={2 * time_limit:g}"
            raise UserError(f"target={target}: gave no answer within {time_limit:g} s; {more}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it has started ends with it
            process.wait()
        if not answered.exists():
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            raise UserError(f"target={target}: ended the process ({how}) without an answer")
        return json.loads(answered.read_text())


def _limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, hard))


def _print(title: str, response: dict[str, Any]) -> None:
    console = Console()
    console.print(title, style="bold", highlight=False, soft_wrap=True)
    console.print(
        Text(response["headline"]), style={"right": "green", "wrong": "red", "unjudged": "yellow"}[response["status"]]
    )
    for line in response["context"]:
        console.print(Text(line), style="dim")
    wide = console.width >= WIDE
    if response["rows"]:
        console.print(_table(response["rows"], wide))
    for line in (*response["sentences"], *response["remarks"]):
        console.print(Text(line), highlight=False)
    if response["status"] == "wrong" and any(row[2] for row in response["rows"]):
        console.print(Text(f"error: {ERROR}{f'; cosine: {COSINE}' if wide else ''}."), highlight=False)


def _table(rows: list[list[str]], wide: bool) -> Table:
    """A row a quantity; a narrow terminal does without the cosines."""
    table = Table()
    for column in ("", "shape"):
        table.add_column(column, overflow="fold")
    for column in ("error", *(["cosine"] if wide else [])):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for name, shape, error, cosine, verdict in rows:
        table.add_row(*map(Text, (name, shape, error, *([cosine] if wide else []), verdict)))
    return table
