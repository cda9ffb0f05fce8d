"""The command `python scripts/gradcheck.py`: the proof of everything, or a check of somebody's own derivation."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backhand.calculus.activations import ACTIVATIONS
from backhand.calculus.choices import check_choice
from backhand.calculus.losses import LOSSES
from backhand.config.arguments import parse
from backhand.config.command import script
from backhand.config.imports import import_all
from backhand.config.schema import NetworkArguments
from backhand.errors import UserError

USAGE = """
Prove every derivative, in every mode that PyTorch has:

  python scripts/gradcheck.py
  python scripts/gradcheck.py only=tanh,mse

  only=NAMES      names of activations, losses and modes, with commas between them
  folder=.        where gradcheck.json and gradcheck.png are written (those of an earlier check are replaced)
  processes=N     how many at once; all cores by default
  imports=[FILE.py]   files or modules with activations and losses of your own, to import first
  seed=0          of the networks and batches
  verbose=false   list every failure, and not the first of each mode alone

or check a derivation of your own, and have its mistake named:

  python scripts/gradcheck.py target=my_derivation.py:backward
  python scripts/gradcheck.py target=my_derivation.py:backward model.hidden_activation=relu model.loss=mse

  target=FILE:NAME    a function backward(x, y, W_I, b_I, W_O, b_O) in torch or numpy that returns a dict with some of
                      dW_I, db_I, dW_O, db_O, dx, delta_O, delta_I, or a torch.autograd.Function of
                      (x, W_I, b_I, W_O, b_O) that returns ŷ or z_O, or a rule hidden_delta(delta, W, slope, layer)
                      as model.gradient takes it.
                      Checking a file runs it, as python FILE would.
  model.KEY=VALUE     the network, as in training: hidden_activation, output_activation, loss and the loss's parameters
  sizes=[B,D,H,C]     samples, inputs, hidden units, outputs
  time_limit=20       seconds
  seed=0              of the network and the batch
"""

MODES = ("reverse", "forward", "batched", "second", "per_sample", "jacobian", "hessian", "forms", "samples", "autocast")


@dataclass
class GradcheckArguments:
    """What `scripts/gradcheck.py` takes; `USAGE` says what each means."""

    only: str | None = None
    folder: str = "."
    processes: int | None = None
    seed: int = 0
    target: str | None = None
    model: NetworkArguments = field(default_factory=NetworkArguments)
    sizes: Any = None
    time_limit: float = 20.0
    imports: list[str] = field(default_factory=list)
    verbose: bool = False


@script
def main(command_line: list[str]) -> int:
    """The command."""
    return gradcheck(command_line)


def gradcheck(command_line: list[str]) -> int:
    """Prove, or check the target.

    Returns:
        The exit status: 0 where everything is right.

    Raises:
        UserError: what is wrong with the arguments, in one line.
    """
    arguments = parse(GradcheckArguments, command_line, USAGE)
    import_all(arguments.imports)
    given = {argument.partition("=")[0] for argument in command_line}
    if arguments.target is not None:
        _refuse(given & {"only", "folder", "processes", "verbose"}, "is for the proof of everything, not for a target")
        _positive("time_limit", arguments.time_limit)
        # The seconds that torch takes to import are spent only now, here and below.
        from backhand.checking.target import check_target

        return check_target(arguments.target, arguments.model, arguments.sizes, arguments.seed, arguments.time_limit)
    targets_own = {key for key in given if key.startswith("model.") or key in ("sizes", "time_limit")}
    _refuse(targets_own, "is for a derivation of your own; name it with target=FILE:NAME")
    names = _names(arguments.only)
    if arguments.processes is not None:
        _positive("processes", arguments.processes)
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise UserError(f"folder={folder}: no such folder")

    from backhand.checking.prover import prove_everything

    return prove_everything(names, folder, arguments.processes, arguments.seed, arguments.imports, arguments.verbose)


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
