"""SIGINT (Ctrl-C) and SIGTERM: the run ends after the current step, with a checkpoint, or after a few seconds."""

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

# Seconds that the current step may still take after a signal.
GRACE_SECONDS = 3.0


@contextlib.contextmanager
def exiting_on_signal(end: Callable[[], None]) -> Iterator[None]:
    """Exit at once when a signal arrives in the body, in which nothing is computed yet.

    It does not raise an exception, because some libraries handle one badly while they are imported.

    Args:
        end: called before the exit.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        end()
        logging.shutdown()
        os._exit(128 + number)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(each, handle)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class Interruption:
    """The signals that a run receives.

    Attributes:
        received: the last signal, or None.
        training: whether `received` is checked after every step; if not, the first signal raises `KeyboardInterrupt`,
            as the second one always does.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.training = False
        self._process = os.getpid()
        self._handlers: dict[signal.Signals, object] = {}

    @property
    def exit_status(self) -> int:
        """128 plus the signal's number, as in a shell."""
        return 128 + (self.received or signal.SIGINT)

    @contextlib.contextmanager
    def handling_signals(self) -> Iterator["Interruption"]:
        """Handle the signals while the body runs; does nothing in a thread other than the main one."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
        self._handlers = dict.fromkeys(before, self._handle)
        if before[signal.SIGINT] == signal.SIG_IGN:  # a shell does so for background jobs
            del self._handlers[signal.SIGINT]
        if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            # Slurm sends SIGTERM along with the signal on which submitit requeues the job.
            self._handlers[signal.SIGTERM] = before[signal.SIGTERM]
        self.install()
        try:
            yield self
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for each, handler in before.items():
                signal.signal(each, handler)

    def install(self) -> None:
        """Install the handlers; again when the training starts, because `Trainer.fit` replaces them."""
        for each, handler in self._handlers.items():
            signal.signal(each, handler)  # type: ignore[arg-type]

    def cancel_timer(self) -> None:
        """Give the current work as much time as it needs."""
        if self._handlers:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a DataLoader's worker, which inherited the handler and ends with the run
            return
        first = self.received is None
        if number != signal.SIGALRM:
            self.received = signal.Signals(number)
        if not (first and self.training):
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)


def resume_command(folder: Path) -> str:
    """The command line that resumes an interrupted run in its folder."""
    arguments = [each for each in sys.argv[1:] if not each.startswith(("hydra.run.dir=", "ckpt_path="))]
    where = relative_to_cwd(folder)
    # Hydra parses it after the shell, and reads some words and numbers as other types than text.
    if not re.fullmatch(r"(?!(true|false|null|nan|inf)$)[a-z/][\w./:-]*", where, re.ASCII | re.IGNORECASE):
        escaped = re.sub(r"(\\+)('|\$\{|$)", r"\1\1\2", where)  # backslashes that would escape the next character
        where = "'" + escaped.replace("'", "\\'").replace("${", "\\${") + "'"
    return shlex.join(["python", sys.argv[0], *arguments, f"hydra.run.dir={where}", f"ckpt_path={AUTO}"])
