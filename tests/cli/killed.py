"""A command that ends itself by a signal at one moment: `python killed.py SCRIPT MOMENT COUNT SIGNAL key=value ...`.

At the moments at which a file is written, half of it is there by then.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

import torch

script, moment, count, name = sys.argv[1:5]
sys.argv = [script, *sys.argv[5:]]
left = int(count)


def end(*_, **__):
    """Send the signal, the last time that this is asked for."""
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.Signals[name])


def before(owner, function, act=end):
    """Let something happen before a function is called."""
    original = getattr(owner, function)

    def replaced(*arguments, **named):
        act(*arguments, **named)
        return original(*arguments, **named)

    setattr(owner, function, replaced)


def half(path, contents):
    if left == 1:
        Path(path).write_bytes(contents[: len(contents) // 2])
    end()


def half_a_checkpoint(checkpoint, path):
    half(path, os.urandom(20_000))


def half_a_result(path, text):
    if path.name == "result.json":
        half(path.with_name("result.json.tmp"), text.encode())


if moment == "start-up":
    from backhand.training import train

    before(train, "build_module")
elif moment == "step":
    from backhand.calculus.mlp import MLP

    before(MLP, "backpropagate")
elif moment == "validation":
    from backhand.training.module import LightningMLP

    before(LightningMLP, "validation_step")
elif moment == "checkpoint":
    before(torch, "save", half_a_checkpoint)
elif moment == "between two names":
    from backhand.training import checkpoint

    before(checkpoint, "_keep")
elif moment == "result":
    from backhand.reporting import result

    before(result, "write_whole", half_a_result)
else:
    raise SystemExit(f"{moment}: no such moment")
runpy.run_path(script, run_name="__main__")
