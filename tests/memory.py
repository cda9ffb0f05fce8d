"""The most memory that something takes in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

PROCESS = Path("/proc/self")


def _status(name: str) -> int:
    """In KiB, as the system counts it."""
    line = next(line for line in (PROCESS / "status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


@contextmanager
def peak_memory() -> Iterator[SimpleNamespace]:
    """Take the most memory that the process has in the body, beyond what it began with, as `kib`.

    What the process has had at most is forgotten first, or an earlier test's peak would hide this one's. Linux alone
    can do that; elsewhere the peak is 0.
    """
    peak = SimpleNamespace(kib=0)
    counts = (PROCESS / "clear_refs").exists()
    if counts:
        (PROCESS / "clear_refs").write_text("5")
        before = _status("VmRSS")
    yield peak
    if counts:
        peak.kib = _status("VmHWM") - before
