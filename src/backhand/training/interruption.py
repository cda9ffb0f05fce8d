"""Ctrl-C and the order to terminate: granted at the end of a step, with a checkpoint, and soon in any case."""

import contextlib
import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from backhand.config.schema import AUTO
from backhand.reporting.terminal import relative_to_cwd

# Seconds that the step at hand has to come to its end.
PATIENCE = 3.0


@contextlib.contextmanager
def ending_at_once(end: Callable[[], None]) -> Iterator[None]:
    """End the program as soon as one of the signals comes: while the body runs, nothing has been computed.

    Not by an exception, which libraries that are being imported do not always survive.

    Args:
        end: called before.
    """

    def answer(number: int, frame: FrameType | None) -> None:
        end()
        logging.shutdown()
        os._exit(128 + number)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(each, answer)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class Interruption:
    """What the user, or the machine, asked a run for.

    Attributes:
        asked: the signal that came, or None.
        training: whether somebody looks at `asked` after every step; else a signal interrupts at once, as a second one
            does.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self.training = False
        self._process = os.getpid()
        self._handlers: dict[signal.Signals, object] = {}

    @property
    def exit_status(self) -> int:
        """As shells have it: 128 and the signal's number."""
        return 128 + (self.asked or signal.SIGINT)

    @contextlib.contextmanager
    def watched(self) -> Iterator["Interruption"]:
        """Answer the signals while the body runs; in a thread other than the main one, nothing is changed."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
        self._handlers = dict.fromkeys(before, self._answer)
        if before[signal.SIGINT] == signal.SIG_IGN:  # as a shell has it for what it runs in the background
            del self._handlers[signal.SIGINT]
        if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            # Slurm sends one along with the signal that submitit puts the job into the queue again on.
            self._handlers[signal.SIGTERM] = before[signal.SIGTERM]
        self.install()
        try:
            yield self
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for each, handler in before.items():
                signal.signal(each, handler)

    def install(self) -> None:
        """Answer the signals; Lightning puts an answer of its own in place of this one when it begins to fit."""
        for each, handler in self._handlers.items():
            signal.signal(each, handler)  # type: ignore[arg-type]

    def take_time(self) -> None:
        """Let what the run does now come to its end."""
        if self._handlers:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a DataLoader's worker, which has this from the run, and ends with it
            return
        first = self.asked is None
        if number != signal.SIGALRM:
            self.asked = signal.Signals(number)
        if not (first and self.training):
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)


def command_to_go_on(folder: Path) -> str:
    """What makes a run that was cut off go on in its folder."""
    arguments = [each for each in sys.argv[1:] if not each.startswith(("hydra.run.dir=", "ckpt_path="))]
    where = relative_to_cwd(folder)
    # Hydra reads it as well as the shell, and takes some words and numbers for what they mean.
    if not re.fullmatch(r"(?!(true|false|null|nan|inf)$)[a-z/][\w./:-]*", where, re.ASCII | re.IGNORECASE):
        escaped = re.sub(r"(\\+)('|\$\{|$)", r"\1\1\2", where)  # of a backslash, what would be part of a sign's own
        where = "'" + escaped.replace("'", "\\'").replace("${", "\\${") + "'"
    return shlex.join(["python", sys.argv[0], *arguments, f"hydra.run.dir={where}", f"ckpt_path={AUTO}"])
