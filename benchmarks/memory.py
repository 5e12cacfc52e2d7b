"""How much a call adds to the memory of this process at its peak; only on Linux."""

from collections.abc import Callable
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_kilobytes(call: Callable[[], object]) -> int:
    """Runs a call once. What earlier calls have freed may be used again, and is not counted."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _kilobytes("VmRSS")
    call()
    return _kilobytes("VmHWM") - before


def _kilobytes(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])
