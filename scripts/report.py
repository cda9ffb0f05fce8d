"""Report on a run or a sweep in one HTML file: `python scripts/report.py FOLDER [FOLDER ...]`, or `--help`."""

from backhand.reporting.report import main

if __name__ == "__main__":
    main()
