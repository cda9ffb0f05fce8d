"""Train a network with the backward pass derived by hand: `python train.py [key=value ...]`, or `--help`."""

from backhand.config.process import run

if __name__ == "__main__":
    run("backhand.training.command")
