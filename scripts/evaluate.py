"""Evaluate a run's best checkpoint: `python scripts/evaluate.py run=FOLDER`, or `--help`."""

from backhand.config.process import run

if __name__ == "__main__":
    run("backhand.training.evaluate")
