"""Start and end of a command's process. This module imports nothing else of the package."""

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Python's exit status if the last output cannot be written.
OUTPUT_FAILED = 120


def run(module: str) -> None:
    """Run a module's `main`, and exit.

    The garbage collector is off outside `garbage_collection`: it would take 1.0 s of 4.0 s for the half million objects
    of the imports. After the `atexit` functions the process exits at once, because deleting these objects takes another
    1.1 s. `atexit` functions of Python's startup, such as those of a `sitecustomize`, do not run.
    """
    gc.disable()
    status = 1
    atexit.register(lambda: _exit(status))  # registered first, runs last
    try:
        importlib.import_module(module).main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except KeyboardInterrupt:
        status = 130
        sys.exit(status)


def _exit(status: int) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        status = OUTPUT_FAILED
    os._exit(status)


@contextmanager
def garbage_collection() -> Iterator[None]:
    """Enable the garbage collector in the body of the `with` statement, where a command computes.

    In a process of `run`, the first call freezes all existing objects: one collection of them takes 0.7 s.
    """
    was_enabled = gc.isenabled()
    if not was_enabled and not gc.get_freeze_count():
        gc.freeze()
    gc.enable()
    try:
        yield
    finally:
        if not was_enabled:
            gc.disable()
