"""Prove every derivative, or check your own: `python scripts/gradcheck.py [key=value ...]`, or `--help`."""

from backhand.checking.gradcheck import main

if __name__ == "__main__":
    main()
