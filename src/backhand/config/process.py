"""A command as a process: how it begins, and how it ends. It imports nothing of the package."""

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Python's own exit status where what is printed last cannot be written.
UNWRITTEN = 120


def run(module: str) -> None:
    """Run a module's `main` as all that this process does.

    The garbage collector is off but in `collecting`: the imports make half a million objects, which it would look at
    again and again, 1.0 s of 4.0. At the end they are not taken apart one by one, another 1.1 s: once everything that
    is registered for the end has run (`atexit`), the process is left at once. What Python's own start registers, a
    `sitecustomize` say, does not run.
    """
    gc.disable()
    status = 1
    atexit.register(lambda: _leave(status))  # the first to be registered is the last to run
    try:
        importlib.import_module(module).main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except KeyboardInterrupt:
        status = 130
        sys.exit(status)


def _leave(status: int) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        status = UNWRITTEN
    os._exit(status)


@contextmanager
def collecting() -> Iterator[None]:
    """Have the garbage collector at work in the body, which is where a command computes.

    In a process of `run`, what is there when the first body begins stays as it is: to look at it once takes 0.7 s.
    """
    was_at_work = gc.isenabled()
    if not was_at_work and not gc.get_freeze_count():
        gc.freeze()
    gc.enable()
    try:
        yield
    finally:
        if not was_at_work:
            gc.disable()
