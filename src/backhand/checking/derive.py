"""The command `python scripts/derive.py`: the configured network's derivation, and an example in numbers."""

from dataclasses import dataclass, field
from pathlib import Path

from backhand.calculus.choices import check_choice
from backhand.calculus.losses import LOSSES
from backhand.checking import document
from backhand.config.arguments import parse
from backhand.config.command import script
from backhand.config.files import atomic_write
from backhand.config.imports import import_modules
from backhand.config.schema import NetworkArguments
from backhand.config.validation import check_network, loss_parameters
from backhand.errors import UserError

USAGE = """
Print the derivation of a network's gradients: each equation with its reason, its shape, and its value in an example.

Every value is compared with autograd. One weight is nudged, and all parameters are updated once.

  python scripts/derive.py
  python scripts/derive.py model.hidden=[32,16] model.hidden_activation=relu model.loss=mse
  python scripts/derive.py format=html output=derivation.html

  model.KEY=VALUE   the network, as in training: hidden, hidden_activation, output_activation, loss and the loss's
                    parameters
  format=terminal   or latex, markdown, html (one page with MathML)
  output=FILE       write to this file, not to the terminal
  seed=0            seed of the example's numbers
  imports=[FILE.py] files or modules with your own activations and losses, imported first
"""


@dataclass
class DeriveArguments:
    """The arguments of `scripts/derive.py`, explained in `USAGE`."""

    model: NetworkArguments = field(default_factory=NetworkArguments)
    format: str = "terminal"
    output: str | None = None
    seed: int = 0
    imports: list[str] = field(default_factory=list)


@script
def main(command_line: list[str]) -> int:
    """Run the command."""
    return derive(parse(DeriveArguments, command_line, USAGE))


def derive(arguments: DeriveArguments) -> int:
    """Print or write the derivation.

    Returns:
        The exit status: 0 where every number of the example agrees with autograd and with the nudge, else 1.

    Raises:
        UserError: a wrong name or value, or a file that exists already.
    """
    import_modules(arguments.imports)
    model = arguments.model
    parameters = loss_parameters(model)
    class_weight = parameters.get(LOSSES[model.loss].tensor_parameter or "") if model.loss in LOSSES else None
    check_choice("format", arguments.format, document.FORMATS)
    check_network(model, len(class_weight) if isinstance(class_weight, list) else 1)
    if class_weight == "balanced":
        raise UserError("model.class_weight=balanced: there are no data to balance; give one number per class")
    if arguments.output is not None:
        if Path(arguments.output).exists():
            raise UserError(f"output={arguments.output}: exists already, and nothing is overwritten")
        if not Path(arguments.output).absolute().parent.is_dir():
            raise UserError(f"output={arguments.output}: there is no folder {Path(arguments.output).parent}")

    # Importing torch takes seconds, so it is imported after the checks.
    import torch

    from backhand.calculus.backpropagation import Criterion, Network
    from backhand.checking.derivation import derivation
    from backhand.checking.example import C

    network = Network(model.hidden_activation, model.output_activation or LOSSES[model.loss].matched)
    settings = tuple((name, float(value)) for name, value in parameters.items() if value is not class_weight)
    criterion = Criterion(model.loss, settings)
    tensor = None
    if class_weight is not None:
        numbers = class_weight if isinstance(class_weight, list) else [class_weight] * C
        tensor = torch.tensor((numbers * C)[:C], dtype=torch.float64)
    blocks, wrong = derivation(network, criterion, tensor, parameters, model.hidden, arguments.seed)
    if tensor is not None and tensor.tolist() != class_weight:
        note = f"With its {C} outputs the example uses {LOSSES[model.loss].tensor_parameter}={tensor.tolist()}."
        blocks.insert(3, document.Prose(note))
    text = document.FORMATS[arguments.format](blocks)
    if arguments.output is None:
        print(text, end="")
    else:
        try:
            atomic_write(Path(arguments.output), text)
        except OSError as error:
            raise UserError(f"output={arguments.output}: cannot be written ({error.strerror})") from None
        print(f"written to {arguments.output}")
    return 1 if wrong else 0
