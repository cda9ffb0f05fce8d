"""Save a W&B workspace for a project: `python scripts/dashboard.py entity=NAME project=NAME`, or `--help`."""

from backhand.config.process import run

if __name__ == "__main__":
    run("backhand.reporting.dashboard")
