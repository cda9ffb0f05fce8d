"""Print a network's derivation with an example in numbers: `python scripts/derive.py [key=value ...]`, or `--help`."""

from backhand.config.process import run

if __name__ == "__main__":
    run("backhand.checking.derive")
