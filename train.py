"""Train a network with the backward pass derived by hand: `python train.py [key=value ...]`, or `--help`."""

from backhand.training.command import main

if __name__ == "__main__":
    main()
