"""Time from the command to the first training step, compared with the imports that it needs."""

from functools import partial

from measuring import TRAIN, BenchmarkTable, arguments, in_turn, process

IMPORTS = "import torch, lightning, hydra, wandb"
# Runs the command unchanged until the first training step.
UNTIL_FIRST_STEP = """
import os, runpy, sys
import backhand.training.module as module
module.LightningMLP.training_step = lambda *_: os._exit(0)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def main() -> None:
    """Run the benchmark."""
    given = arguments(__doc__, rounds=5).parse_args()
    train = ("-c", UNTIL_FIRST_STEP, TRAIN, f"trainer={'gpu' if given.device == 'cuda' else 'cpu'}")
    contenders = {
        "train.py to its first step": partial(process, *train),
        "the same with logger=none": partial(process, *train, "logger=none"),
        IMPORTS: partial(process, "-c", IMPORTS),
    }
    table = BenchmarkTable("Start-up", given)
    table.add("a whole process", "s", in_turn(contenders, given.rounds), {IMPORTS: 1.25})
    table.write("startup")


if __name__ == "__main__":
    main()
