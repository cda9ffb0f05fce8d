"""Verify every derivative, or check your own: `python scripts/gradcheck.py [key=value ...]`, or `--help`."""

from backhand.config.process import run

if __name__ == "__main__":
    run("backhand.checking.gradcheck")
