"""Save a W&B workspace for a project: `python scripts/dashboard.py entity=NAME project=NAME`, or `--help`."""

from backhand.reporting.dashboard import main

if __name__ == "__main__":
    main()
