"""Checks a derivation that somebody brings: `python scripts/gradcheck.py target=FILE:NAME`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from backhand.calculus import reference
from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.losses import LOSSES
from backhand.checking.alignment import angle
from backhand.checking.cases import SIZES, draw_case
from backhand.checking.diagnosis import TOLERANCE, Diagnosis, diagnose
from backhand.checking.steps import GRADIENTS, Case, derivative, derive
from backhand.config.schema import NetworkArguments
from backhand.config.validation import check_network, loss_parameters
from backhand.errors import UserError

# Where a derivation stops on the ordinary sizes, these may let it run, and its mistake be named.
SQUARE = (7, 4, 4, 4)
# Larger ones show nothing more, and every mistake is tried on them.
LARGEST = 200


def check_target(target: str, model: NetworkArguments, sizes: Any, seed: int, time_limit: float) -> int:
    """Run the target on random batches, compare what it returns with the right derivation, and print what is found.

    Args:
        target: FILE:NAME.
        model: the network that it derives.
        sizes: [B, D, H, C], or None for the ordinary ones.
        seed: of the network and the batch.
        time_limit: seconds that the target may take.

    Returns:
        The exit status: 0 where everything that it returned is right, else 1.

    Raises:
        UserError: the target cannot be run or returns nothing that can be judged; in one line.
    """
    path, name = _split(target)
    given = _sizes(model, sizes)
    case_of = {"given": given, **({} if sizes is not None else {"square": SQUARE})}
    check_network(model, given[3])
    if given[3] == 1 and (model.output_activation or LOSSES[model.loss].matched) == "softmax":
        raise UserError(f"sizes={sizes}: a single output, which softmax would make always 1; give two or more")
    network = Network(model.hidden_activation, model.output_activation or LOSSES[model.loss].matched)
    cases = {
        label: draw_case(network, *_criterion(model, label_sizes[3]), label_sizes, seed)
        for label, label_sizes in case_of.items()
        if label == "given" or not isinstance(loss_parameters(model).get(LOSSES[model.loss].weight or ""), list)
    }
    for case in cases.values():
        _prove(case)
    response, results = _ask(path, name, cases, time_limit)
    return _report(path, name, network, cases, response, results)


def _split(target: str) -> tuple[Path, str]:
    file, colon, name = target.rpartition(":")
    if not colon or not name.isidentifier():
        raise UserError(f"target={target}: must be FILE:NAME, such as my_derivation.py:backward")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"target={target}: {'is a folder' if path.is_dir() else 'no such file'}: {file}")
    if path.suffix != ".py":
        raise UserError(f"target={target}: must be a Python file, ending in .py")
    return path, name


def _sizes(model: NetworkArguments, sizes: Any) -> tuple[int, int, int, int]:
    if len(model.hidden) != 1:
        raise UserError(f"model.hidden={model.hidden}: a derivation is checked on the network with one hidden layer")
    if sizes is None:
        return SIZES
    whole = (
        isinstance(sizes, list)
        and len(sizes) == 4
        and all(type(size) is int and 1 <= size <= LARGEST for size in sizes)
    )
    if not whole:
        raise UserError(
            f"sizes={sizes}: must be four whole numbers from 1 to {LARGEST}: samples, inputs, hidden units, outputs"
        )
    return tuple(sizes)


def _criterion(model: NetworkArguments, outputs: int) -> tuple[Criterion, Tensor | None]:
    parameters = loss_parameters(model)
    weight = parameters.pop(LOSSES[model.loss].weight or "", None)
    if weight == "balanced":
        raise UserError("model.class_weight=balanced: there are no data to balance; give one number a class")
    if weight is not None:
        weight = torch.as_tensor(weight, dtype=torch.float64).expand(outputs)
    return Criterion(model.loss, tuple((name, float(value)) for name, value in parameters.items())), weight


def _ask(
    path: Path, name: str, cases: dict[str, Case], time_limit: float
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Have the target called on every case by a process of its own, which is ended when the time is up."""
    arrays: dict[str, np.ndarray] = {}
    calls = []
    for label, case in cases.items():
        for batch, each in ((f"{label}.before", case.previous), (label, case)):
            assert each is not None
            arrays |= {f"{batch}/{key}": value.numpy() for key, value in _given(each).items()}
        classes = not case.y.is_floating_point()
        for target in ("classes", "one_hot") if classes else ("classes",):
            calls.append({"case": label, "target": target, "batches": [f"{label}.before", label]})
    names = sorted({key.partition("/")[2] for key in arrays})
    request = {"file": str(path), "name": name, "calls": calls, "names": names}
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "request.npz", Path(folder) / "response.npz"
        np.savez(asked, allow_pickle=False, request=np.array(json.dumps(request)), **arrays)
        process = subprocess.Popen(
            # -P: modules are not looked for in the current folder, where the target may be called json.py.
            [sys.executable, "-P", "-m", "backhand.checking.runner", str(asked), str(answered)],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # what the target prints is no part of the report
            start_new_session=True,
        )
        try:
            status = process.wait(time_limit)
        except subprocess.TimeoutExpired:
            raise UserError(f"target={path}:{name}: gave no answer within {time_limit:g} s (time_limit=…)") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if not answered.exists():
            raise UserError(f"target={path}:{name}: ended the process (exit status {status}) without an answer")
        with np.load(answered, allow_pickle=False) as archive:
            results = dict(archive)
    response = json.loads(str(results.pop("response")))
    if "refused" in response:
        raise UserError(response["refused"])
    return response, results


def _prove(case: Case) -> None:
    """Hold what the target is compared with to torch's own graph: a fault here would accuse the innocent."""
    inputs = [t.clone().requires_grad_() for t in (case.x, case.W_I, case.b_I, case.W_O, case.b_O)]
    z_O = reference.logits(case.network, inputs[0], inputs[1:])
    loss = reference.loss(case.network, case.criterion, z_O, case.y, case.weight)
    right = derive(case)
    names = ("delta_O", "dx", "dW_I", "db_I", "dW_O", "db_O")
    for name, theirs in zip(names, torch.autograd.grad(loss, [z_O, *inputs]), strict=True):
        torch.testing.assert_close(right[name], theirs, rtol=1e-9, atol=1e-12, msg=f"backhand's own {name} is wrong")


def _given(case: Case) -> dict[str, Tensor]:
    """What the target may be called with, and what its forward pass is known by."""
    right = derive(case)
    inputs = {name: getattr(case, name) for name in ("x", "W_I", "b_I", "W_O", "b_O", "z_I", "z_O", "yhat")}
    inputs["slope"] = derivative(case.network.g(), case.z_I).expand_as(case.z_I).contiguous()
    return inputs | {"y_classes": case.y, "y_one_hot": case.rows, "v": right["v"], "delta_O": right["delta_O"]}


def _report(
    path: Path,
    name: str,
    network: Network,
    cases: dict[str, Case],
    response: dict[str, Any],
    results: dict[str, np.ndarray],
) -> int:
    answers = response["answers"]
    readings: list[tuple[dict[str, Any], Diagnosis]] = []
    unsloped: dict[int, np.ndarray | None] = {}  # of a rule, by answer: what it returns where the slope is 1
    for number, answer in enumerate(answers):
        found = {key: results[f"{number}/{key}"] for key in answer["returned"]}
        unsloped[number] = found.pop("u", None)
        if answer["error"] is None:
            readings.append((answer, _read(path, name, cases[answer["case"]], found)))
    ordinary = [reading for reading in readings if reading[0]["case"] == "given"]
    stopped = next((answer["error"] for answer in answers if answer["error"] is not None), "")
    if not readings:
        raise UserError(stopped)
    # The reading with the least wrong in it: y may be meant as class numbers or as rows.
    answer, diagnosis = min(ordinary or readings, key=lambda reading: (not reading[1].right, reading[1].cost))
    console = Console()
    case = cases[answer["case"]]
    B, D, H, C = len(case.x), *case.W_I.shape, case.C
    console.print(f"{path}:{name}", style="bold", highlight=False, soft_wrap=True)
    rows = {"classes": "class numbers", "one_hot": "rows of zeros and a one"}
    y = f", y as {rows[answer['target']]}" if not case.y.is_floating_point() and response["kind"] == "backward" else ""
    console.print(
        f"g {network.hidden_activation}, f {network.output_activation}, L {case.criterion.name}; "
        f"B={B}, D={D}, H={H}, C={C}; {answer['flavour']}{y}",
        highlight=False,
    )
    if not ordinary:
        B, D, H, C = SIZES
        console.print(f"With B={B}, D={D}, H={H}, C={C} it stops: {stopped}", highlight=False, soft_wrap=True)
    console.print(_table(diagnosis, console.width))
    for sentence in diagnosis.sentences:
        console.print(sentence, highlight=False)
    is_rule = response["kind"] == "rule"
    missing = [each for each in GRADIENTS if each not in diagnosis.verdicts and not is_rule]
    if is_rule and not diagnosis.right:
        number = answers.index(answer)
        _tell_rule(console, case, results[f"{number}/delta_I"], unsloped[number], response["returns"])
    if missing:
        console.print(f"Not returned: {', '.join(missing)}.", highlight=False)
    right = diagnosis.right and bool(ordinary)
    if right:
        console.print(
            "Right: everything that it returned is what autograd gives." if not missing else "The rest is right."
        )
    elif diagnosis.right:
        console.print("With D = H = C its numbers are right; for other sizes it must not stop.")
    return 0 if right else 1


def _tell_rule(
    console: Console, case: Case, found: np.ndarray, unsloped: np.ndarray | None, returns: list[str]
) -> None:
    """Say how far a rule's δ_I is from the gradient, and which factor of it differs."""
    delta, right = torch.from_numpy(found).double(), derive(case)
    console.print("It is not the gradient.", style="bold")
    if delta.shape != right["delta_I"].shape or unsloped is None:
        return
    slope, u = derivative(case.network.g(), case.z_I), torch.from_numpy(unsloped).double()
    parts = []
    if not _near(u, right["u"]):
        times = float(u.norm() / right["u"].norm())
        at = f"at {float(angle(u, right['u'])):.0f}° to it and " if times else ""
        parts.append(f"δ_O W_Oᵀ: yours is {at}{times:.3g} times as long")
    if _near(delta, u):
        parts.append("⊙ g′(z_I): yours is not multiplied by it")
    elif not _near(delta, u * slope):
        parts.append("⊙ g′(z_I): yours depends on it in another way")
    at = f"; yours is at {float(angle(delta, right['delta_I'])):.0f}° to it" if bool(delta.any()) else ""
    console.print(f"right: δ_I = (δ_O W_Oᵀ) ⊙ g′(z_I){at}")
    for line in returns:
        console.print(Text(f"yours: {line}"), soft_wrap=True)
    for part in parts:
        console.print(f"what differs: {part}", highlight=False)


def _read(path: Path, name: str, case: Case, returned: dict[str, np.ndarray]) -> Diagnosis:
    """What is wrong with one answer."""
    tolerance = max(TOLERANCE[str(array.dtype)] for array in returned.values())
    found = {key: torch.from_numpy(array).double() for key, array in returned.items()}
    if "forward" in found:
        case = _as_handed(path, name, case, found.pop("forward"))
    return diagnose(case, found, tolerance)


def _as_handed(path: Path, name: str, case: Case, output: Tensor) -> Case:
    """The case as a Function sees it: the gradient of what it returned is handed to it.

    Raises:
        UserError: its forward pass returns neither ŷ nor z_O.
    """
    steps = derive(case)
    if _near(output, case.yhat):
        return _handed(case, case.network, steps["v"])
    if _near(output, case.z_O):
        return _handed(case, Network(case.network.hidden_activation, "identity"), steps["delta_O"])
    raise UserError(
        f"{path}: {name}.forward returns neither ŷ nor z_O{_forward_mistake(case, output)}; mend that first"
    )


def _handed(case: Case, network: Network, upstream: Tensor) -> Case:
    previous = case.previous
    if previous is not None:
        steps = derive(previous)
        handed = steps["delta_O"] if network != case.network else steps["v"]
        previous = replace(previous, network=network, upstream=handed)
    return replace(case, network=network, upstream=upstream, previous=previous)


def _forward_mistake(case: Case, output: Tensor) -> str:
    """What the forward pass may have forgotten."""
    f, h, W_O, b_O = case.network.f, case.h, case.W_O, case.b_O
    without = {
        "b_O": h @ W_O,
        "b_I": case.network.g()(case.x @ case.W_I) @ W_O + b_O,
        "g": case.z_I @ W_O + b_O,
    }
    if tuple(output.shape) != tuple(case.z_O.shape):
        return f" (its shape is {tuple(output.shape)}, and should be {tuple(case.z_O.shape)})"
    for name, z_O in without.items():
        if _near(output, z_O) or _near(output, f(z_O)):
            return f" ({name} is left out)"
    return f" (it is off by up to {float((output - case.yhat).abs().max()):.2g} from ŷ)"


def _near(output: Tensor, right: Tensor) -> bool:
    return output.shape == right.shape and torch.allclose(output, right, rtol=1e-4, atol=1e-5)


def _table(diagnosis: Diagnosis, width: int) -> Table:
    """A row a quantity; a narrow terminal does without the cosines."""
    wide = width >= 70
    table = Table()
    for column in ("", "shape"):
        table.add_column(column, overflow="fold")
    for column in ("error", *(["cosine"] if wide else [])):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict")
    for name, verdict in diagnosis.verdicts.items():
        shape = str(verdict.shape) + (f", not {verdict.expected}" if verdict.shape != verdict.expected else "")
        said = "wrong" if verdict.status == "wrong" else "right"
        table.add_row(
            name,
            shape,
            "" if verdict.error is None else f"{verdict.error:.1e}",
            *(["" if verdict.cosine is None else f"{verdict.cosine:+.4f}"] if wide else []),
            said + (f": {verdict.cause}" if verdict.cause else ""),
        )
    return table
