"""Ctrl-C and the order to terminate: granted at the end of a step, with a checkpoint, and soon in any case."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# Seconds that the step at hand has to come to its end.
PATIENCE = 3.0


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
        first = self.asked is None
        if number != signal.SIGALRM:
            self.asked = signal.Signals(number)
        if not (first and self.training):
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
