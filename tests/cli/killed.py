"""Run a command that sends itself a signal at a moment: `python killed.py SCRIPT MOMENT COUNT SIGNAL key=value ...`.

At the moments at which a file is written, half of it is there by then.
"""

import os
import runpy
import signal
import sys

script, moment, count, name = sys.argv[1:5]
sys.argv = [script, *sys.argv[5:]]
left = int(count)


def end(*_, **__):
    """Send the signal at the last of COUNT calls."""
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.Signals[name])


def before(owner, function, act=end):
    """Call `act` before a function."""
    original = getattr(owner, function)

    def replaced(*arguments, **named):
        act(*arguments, **named)
        return original(*arguments, **named)

    setattr(owner, function, replaced)


def half(kind):
    """End when half of a file of this kind is written, before it is renamed."""

    def act(path):
        if path.name.endswith(kind):
            if left == 1:
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            end()

    return act


if moment == "start-up":
    from backhand.training import train

    before(train, "build_module")
elif moment == "step":
    from backhand.calculus import backpropagation

    before(backpropagation, "backward")
elif moment == "validation":
    from backhand.training.module import LightningMLP

    before(LightningMLP, "validation_step")
elif moment == "checkpoint":
    from backhand.config import files

    before(files, "fsync", half(".ckpt.tmp"))
elif moment == "between two names":
    from backhand.training import checkpoint

    before(checkpoint, "atomic_write")
elif moment == "result":
    from backhand.config import files

    before(files, "fsync", half("result.json.tmp"))
else:
    raise SystemExit(f"{moment}: no such moment")
runpy.run_path(script, run_name="__main__")
