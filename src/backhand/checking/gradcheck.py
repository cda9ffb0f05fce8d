"""The command `python scripts/gradcheck.py`: check every derivative, or your own derivation."""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backhand.calculus.activations import ACTIVATIONS
from backhand.calculus.choices import check_choice, closest
from backhand.calculus.losses import LOSSES
from backhand.config.arguments import parse
from backhand.config.command import report, script
from backhand.config.errors import USER_ERRORS
from backhand.config.imports import import_modules
from backhand.config.schema import NetworkArguments
from backhand.errors import UserError

USAGE = """
Check every derivative, in every mode of differentiation of PyTorch:

  python scripts/gradcheck.py
  python scripts/gradcheck.py only=tanh,mse

  only=NAMES      names of activations, losses and modes, separated by commas
  folder=.        folder for gradcheck.json and gradcheck.png; those of an earlier check are replaced
  processes=N     number of processes; one per core by default
  imports=[FILE.py]   files or modules with your own activations and losses, imported first
  seed=0          seed of the networks and batches
  verbose=false   list every failure, not only the first of each mode

or check your own derivation, unchanged, and name its mistake:

  python scripts/gradcheck.py target=my_derivation.py:backward
  python scripts/gradcheck.py target=homework.ipynb model.hidden_activation=relu model.loss=mse
  python scripts/gradcheck.py target=net.py call='n=Net(D,H,C); n.W1,n.W2=W1,W2; n.backward(x,y); vars(n)'

  target=FILE[:NAME]  a Python file or a notebook, and in it a function, a class, Class.method, a
                      torch.autograd.Function, a single operation (f and f_grad, a class with forward and backward), a
                      rule hidden_delta(delta, W, slope, layer) as model.gradient takes it, or a weight of a script
                      without functions. Imports, definitions and constants of the file are executed; of such a script
                      one turn of its loop.
  call='PYTHON'       one line whose last value is judged: gradients, or weights after a step. x, y, W1, b1, W2, b2, …
                      and the sizes B, D, H (H1, H2, … of several hidden layers), C are given in the file's own
                      layout, which is found by trial.
  loss=NAME           the file's function, or a line of Python, that gives the loss whose gradient it should be
  model.KEY=VALUE     the network, as in training: hidden, hidden_activation, output_activation, loss and the loss's
                      parameters
  sizes=[B,D,H,C]     samples, inputs, hidden units, outputs; B = 1 for a derivation of one sample
  time_limit=20       seconds
  seed=0              of the networks and batches

  Exit status: 0 right, 1 wrong, 2 not judged. docs/check_your_derivation.md explains it.
"""

# Arguments that are Python or paths, not YAML.
VERBATIM = ("target", "call", "loss")
# The exit status where a target is neither right nor wrong.
NOT_JUDGED = 2

MODES = ("reverse", "forward", "batched", "second", "per_sample", "jacobian", "hessian", "forms", "samples", "autocast")


@dataclass
class GradcheckArguments:
    """The arguments of `scripts/gradcheck.py`, explained in `USAGE`."""

    only: str | None = None
    folder: str = "."
    processes: int | None = None
    seed: int = 0
    target: str | None = None
    call: str | None = None
    loss: str | None = None
    model: NetworkArguments = field(default_factory=NetworkArguments)
    sizes: Any = None
    time_limit: float = 20.0
    imports: list[str] = field(default_factory=list)
    verbose: bool = False


@script
def main(command_line: list[str]) -> int:
    """Run the command."""
    return gradcheck(command_line)


def gradcheck(command_line: list[str]) -> int:
    """Check every derivative, or the target.

    Returns:
        The exit status: 0 if everything is right, 1 if something is wrong, 2 if a target cannot be judged.

    Raises:
        UserError: a wrong argument, in one line.
    """
    # Python must not be parsed as YAML.
    split = [each.partition("=") for each in command_line]
    python = {key: value for key, equals, value in split if equals and key in VERBATIM}
    without_python = [each for each in command_line if each.partition("=")[0] not in python]
    files = [each for each in command_line if re.search(r"^[^=-][^=]*\.(py|ipynb)(:[^=]*)?$", each)]
    given = {argument.partition("=")[0] for argument in command_line}
    for_targets = {key for key in given if key.startswith("model.") or key in ("sizes", "time_limit", "call", "loss")}
    is_help = {"--help", "-h"} & given
    # `mine.py` and `taget=mine.py` are meant for a target, too.
    if for_targets or (files and not is_help) or any(closest(key, ("target",)) for key in given):
        try:
            if files and not is_help:
                raise UserError(f"{files[0]}: must be key=value; did you mean target={files[0]}?")
            for key in VERBATIM:
                if sum(each.startswith(f"{key}=") for each in command_line) > 1:
                    raise UserError(f"{key}: is given twice")
            arguments = parse(GradcheckArguments, without_python, USAGE)
            if "target" not in python:
                _refuse(for_targets, "is for a derivation of your own; name it with target=FILE:NAME")
            _refuse(
                given & {"only", "folder", "processes", "verbose"},
                "is for the check of every derivative, not for a target",
            )
            _positive("time_limit", arguments.time_limit)
            import_modules(arguments.imports)
            from backhand.derivations.target import check_target

            return check_target(
                python["target"], python.get("call"), python.get("loss"), arguments.model, "model.hidden" in given,
                arguments.sizes, arguments.seed, arguments.time_limit, arguments.imports,
            )  # fmt: skip
        except USER_ERRORS as error:
            print(report(error), file=sys.stderr)
            return NOT_JUDGED
    arguments = parse(GradcheckArguments, without_python, USAGE)
    import_modules(arguments.imports)
    names = _names(arguments.only)
    if arguments.processes is not None:
        _positive("processes", arguments.processes)
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise UserError(f"folder={folder}: no such folder")

    from backhand.checking.verification import verify_everything

    return verify_everything(names, folder, arguments.processes, arguments.seed, arguments.imports, arguments.verbose)


def _refuse(keys: set[str], reason: str) -> None:
    if keys:
        raise UserError(f"{min(keys)}: {reason}")


def _positive(key: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise UserError(f"{key}={value}: must be above 0")


def _names(only: str | None) -> list[str]:
    names = [name.strip() for name in only.split(",")] if only is not None else []
    for name in names:
        check_choice("only", name, (*ACTIVATIONS, *LOSSES, *MODES))
    return names
