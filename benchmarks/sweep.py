"""Complete sweeps, including imports, folders, checkpoints, CSV and offline W&B, and the cost of one more run."""

from functools import partial

import numpy as np

from backhand.config.validation import can_compile
from measuring import TRAIN, BenchmarkTable, arguments, in_turn, positive, process

POPULATION, ONE_BY_ONE = "hydra/launcher=population", "hydra/launcher=basic"
COMPILED = "hydra/launcher=population compile=true"


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, rounds=1)
    parser.add_argument(
        "--runs", type=positive, nargs=2, default=[64, 256], help="runs of a small and of a large population"
    )
    parser.add_argument(
        "--one-by-one", type=positive, nargs=2, default=[8, 32], help="runs of the sweeps without a population"
    )
    parser.add_argument("--epochs", type=positive, default=30, help="epochs of each run")
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
    table, case = BenchmarkTable("Sweeps", given), f"64-32-10 on digits, {given.epochs} epochs"
    one_more = {}
    for name, (few, many) in sweeps.items():
        less, more = times[f"{name}, {few} runs"], times[f"{name}, {many} runs"]
        one_more[name] = list(np.subtract(more, less) / (many - few))
        table.add(f"{case}, {few} runs", "s", {name: less}, {})
        table.add(f"{case}, {many} runs", "s", {name: more}, {})
    table.add(f"{case}: one more run", "s", one_more, {ONE_BY_ONE: 0.1})
    table.write("sweep")


if __name__ == "__main__":
    main()
