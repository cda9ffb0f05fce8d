"""`scripts/evaluate.py`: metrics and predictions of a run's best checkpoint on one of its splits, or on new rows."""

import csv
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from backhand.calculus.choices import check_choice
from backhand.config.arguments import parse
from backhand.config.command import script
from backhand.config.errors import one_line
from backhand.config.files import replace_file
from backhand.config.imports import split_gradient
from backhand.config.schema import TrainConfig
from backhand.config.stored import read_stored
from backhand.config.validation import check_checkpoint_file, parse_config
from backhand.errors import UserError

USAGE = """
Evaluate a run's best checkpoint.

  python scripts/evaluate.py run=outputs/2026-01-31/12-00-00
  python scripts/evaluate.py run=outputs/2026-01-31/12-00-00 split=val predict=predictions.csv

  run=FOLDER     a run's folder (or one job's in a sweep)
  split=test     or val, train
  predict=FILE   also write one row a sample: id, target, prediction, and the probabilities where there are any;
                 id is the row in the data set as it is shipped, from 0
  input=FILE     new rows, CSV or Parquet, for a run that was trained on a table: in place of a split; with
                 predict=FILE, or for the metrics where the file has the target column
  unknown=refuse a category or a column of the new rows that training did not have is refused; with unknown=zeros
                 the category becomes zeros, the column is ignored, and a line says so
  allow_targets=[my_pkg.MyData,my_functions.py]
                 what the run's configuration may name as data._target_ and in imports: your own code, as you know it

  python scripts/evaluate.py run=outputs/2026-01-31/12-00-00 input=new.csv predict=out.csv
"""


@dataclass
class EvaluateArguments:
    """The arguments of `scripts/evaluate.py`."""

    run: str = MISSING
    split: str | None = None
    input: str | None = None
    predict: str | None = None
    unknown: str = "refuse"
    allow_targets: list[str] = field(default_factory=list)


# Formats in which predictions are not written.
OTHER_FORMATS = (".parquet", ".pq", ".json", ".xls", ".xlsx")


@script
def main(command_line: list[str]) -> int:
    """Run the command."""
    evaluate(parse(EvaluateArguments, command_line, USAGE))
    return 0


def evaluate(arguments: EvaluateArguments) -> dict[str, float]:
    """Evaluate, print the metrics, and write the predictions if `predict` is given.

    Returns:
        The metrics by name, such as `test/acc`.

    Raises:
        UserError: not a run's folder, no readable checkpoint in it, an unknown split, or a file that exists already.
    """
    split = arguments.split or "test"
    check_choice("split", split, ("train", "val", "test"))
    check_choice("unknown", arguments.unknown, ("refuse", "zeros"))
    if arguments.unknown != "refuse" and arguments.input is None:
        raise UserError(f"unknown={arguments.unknown}: is for new rows; give input=FILE, too")
    if arguments.input is not None and arguments.split is not None:
        raise UserError(f"split={split}: with input={arguments.input} there is no split; give one of the two")
    folder = Path(arguments.run)
    config = read_config(folder, arguments.allow_targets)
    config = replace(config, model=replace(config.model, gradient="hand"))  # the rule's file may be gone
    if arguments.input is not None and config.data.name != "table":
        raise UserError(
            f"input={arguments.input}: new rows are for a run with data=table; this one has {config.data.name}"
        )
    checkpoint = folder / "checkpoints" / "best.ckpt"
    check_checkpoint_file("run", checkpoint)
    if arguments.predict is not None:
        if Path(arguments.predict).suffix in OTHER_FORMATS:
            raise UserError(f"predict={arguments.predict}: a CSV file is written; name it FILE.csv")
        if Path(arguments.predict).exists():
            raise UserError(f"predict={arguments.predict}: exists already, and nothing is overwritten")
        if not Path(arguments.predict).absolute().parent.is_dir():
            raise UserError(f"predict={arguments.predict}: there is no folder {Path(arguments.predict).parent}")

    # torch and Lightning take seconds to import.
    from backhand.training.evaluation import evaluate_new_rows, evaluate_split

    if arguments.input is not None:
        metrics, table = evaluate_new_rows(config, checkpoint, Path(arguments.input), arguments.unknown)
    else:
        metrics, table = evaluate_split(config, checkpoint, cast(Literal["train", "val", "test"], split))
    if not metrics and arguments.predict is None:
        print("the file has no target column, so there are no metrics; predict=FILE writes the predictions")
    if arguments.predict is not None:
        try:
            with replace_file(Path(arguments.predict)) as aside, aside.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(table)
        except OSError as error:
            raise UserError(f"predict={arguments.predict}: cannot be written ({error.strerror})") from None
        rows = len(table) - 1  # without the header
        print(f"predictions: {arguments.predict} ({rows:,} {'row' if rows == 1 else 'rows'})")
    return metrics


def read_config(folder: Path, allowed: Collection[str] = ()) -> TrainConfig:
    """The configuration that a run's folder was made with.

    Args:
        folder: the run's.
        allowed: what may be imported, as in `read_stored`.

    Raises:
        UserError: not a run's folder, or its configuration is damaged or of another version.
    """
    path = folder / ".hydra" / "config.yaml"
    if not path.is_file():
        reason = "no such folder" if not folder.exists() else "is not a run's folder: it has no .hydra/config.yaml"
        if (folder / "multirun.yaml").exists():
            reason = "is a sweep's folder; name one of its jobs, such as " + str(folder / "0")
        raise UserError(f"run={folder}: {reason}")
    try:
        stored = read_stored(path, allowed)
        ckpt_path, stored.ckpt_path = stored.get("ckpt_path"), None  # the file may be gone
        gradient = OmegaConf.select(stored, "model.gradient")
        if isinstance(gradient, str) and split_gradient(gradient) is not None:
            stored.model.gradient = "hand"  # this file may be gone, too
        config = parse_config(stored)
        return replace(config, ckpt_path=ckpt_path, model=replace(config.model, gradient=gradient))
    except (OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        raise UserError(f"{path}: {one_line(error)}") from None
