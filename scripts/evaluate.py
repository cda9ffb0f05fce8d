"""Evaluate a run's best checkpoint: `python scripts/evaluate.py run=FOLDER`, or `--help`."""

from backhand.training.evaluate import main

if __name__ == "__main__":
    main()
