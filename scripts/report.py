"""Report on a run or a sweep in one HTML file: `python scripts/report.py FOLDER [FOLDER ...]`, or `--help`."""

from backhand.config.process import run

if __name__ == "__main__":
    run("backhand.reporting.report")
