"""From the command to the first training step, beside the imports that nobody can do without."""

from functools import partial

from report import TRAIN, Report, arguments, in_turn, process

IMPORTS = "import torch, lightning, hydra, wandb"
# The command as it is, ended where the first step would begin.
UNTIL_FIRST_STEP = """
import os, runpy, sys
import backhand.training.module as module
module.LightningMLP.training_step = lambda *_: os._exit(0)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def main() -> None:
    """The command."""
    given = arguments(__doc__, rounds=5).parse_args()
    train = ("-c", UNTIL_FIRST_STEP, TRAIN, f"trainer={'gpu' if given.device == 'cuda' else 'cpu'}")
    contenders = {
        "train.py to its first step": partial(process, *train),
        "the same with logger=none": partial(process, *train, "logger=none"),
        IMPORTS: partial(process, "-c", IMPORTS),
    }
    report = Report("Start-up", given)
    report.add("a whole process", "s", in_turn(contenders, given.rounds), {IMPORTS: 1.25})
    report.write("startup")


if __name__ == "__main__":
    main()
