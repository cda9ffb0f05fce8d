"""Print a network's derivation with an example in numbers: `python scripts/derive.py [key=value ...]`, or `--help`."""

from backhand.checking.derive import main

if __name__ == "__main__":
    main()
