"""The peak memory of a block of code in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

PROCESS = Path("/proc/self")


def _status(name: str) -> int:
    """An entry of /proc/self/status in KiB."""
    line = next(line for line in (PROCESS / "status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


@contextmanager
def peak_memory() -> Iterator[SimpleNamespace]:
    """Measure the peak memory of the body in KiB, minus the memory before it, as `kib`.

    The peak of the process is reset first, because an earlier one could be higher. Only Linux can do that; elsewhere
    the result is 0.
    """
    peak = SimpleNamespace(kib=0)
    can_reset = (PROCESS / "clear_refs").exists()
    if can_reset:
        (PROCESS / "clear_refs").write_text("5")
        before = _status("VmRSS")
    yield peak
    if can_reset:
        peak.kib = _status("VmHWM") - before
