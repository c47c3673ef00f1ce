"""How the benchmark counts and shows."""

from statistics import median

MIB = 1 << 20
GIB = 1 << 30


def spread(values: list[float], digits: int = 2) -> str:
    """The median, and the least and the greatest behind it."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
