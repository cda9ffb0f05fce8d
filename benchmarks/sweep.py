"""Whole sweeps, imports, folders, checkpoints, CSV and W&B (offline) included, and what one more run of them takes."""

from functools import partial

import numpy as np

from backhand.config.validation import can_compile
from report import TRAIN, Report, arguments, in_turn, positive, process

POPULATION, ONE_BY_ONE = "hydra/launcher=population", "hydra/launcher=basic"
COMPILED = "hydra/launcher=population compile=true"


def main() -> None:
    """The command."""
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--runs", type=positive, nargs=2, default=[64, 256], help="of a small and a large population")
    parser.add_argument("--one-by-one", type=positive, nargs=2, default=[8, 32], help="runs of the sweeps without one")
    parser.add_argument("--epochs", type=positive, default=30, help="of each run")
    given = parser.parse_args()
    trainer = f"trainer={'gpu' if given.device == 'cuda' else 'cpu'}"
    sweeps = {POPULATION: given.runs, COMPILED: given.runs, ONE_BY_ONE: given.one_by_one}
    if not can_compile():
        del sweeps[COMPILED]
    options = ("model.hidden=[32]", f"trainer.max_epochs={given.epochs}", "hydra.sweep.dir=sweep", trainer)
    contenders = {
        f"{name}, {count} runs": partial(process, TRAIN, "-m", f"seed=range({count})", *name.split(), *options)
        for name, counts in sweeps.items()
        for count in counts
    }
    times = in_turn(contenders, given.rounds)
    report, case = Report("Sweeps", given), f"64-32-10 on digits, {given.epochs} epochs"
    one_more = {}
    for name, (few, many) in sweeps.items():
        less, more = times[f"{name}, {few} runs"], times[f"{name}, {many} runs"]
        one_more[name] = list(np.subtract(more, less) / (many - few))
        report.add(f"{case}, {few} runs", "s", {name: less}, {})
        report.add(f"{case}, {many} runs", "s", {name: more}, {})
    report.add(f"{case}: one more run", "s", one_more, {ONE_BY_ONE: 0.1})
    report.write("sweep")


if __name__ == "__main__":
    main()
