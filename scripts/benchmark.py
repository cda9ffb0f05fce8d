"""Measure the program beside its peers: `python scripts/benchmark.py step [key=value ...]`, or `--help`."""

from backhand.benchmarks.command import main

if __name__ == "__main__":
    main()
