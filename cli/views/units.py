"""Quantities formatted for people: durations, sizes, speeds, small curves."""

from __future__ import annotations

import math
import time

_LONGEST = 1e11
"""Seconds, some thousand years: a calendar has no later time."""
_BARS = "▁▂▃▄▅▆▇█"


def duration(seconds: float | None) -> str:
    """Format seconds as `42 s`, `3 m 20 s`, `5 h 12 m` or `2 d 3 h`; an unknown duration is a dash."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = max(0, round(seconds))
    for size, name, part_size, part in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // part_size} {part}"
    return f"{whole} s"


def finish_time(seconds: float | None) -> str:
    """Format the remaining seconds and the time of day when they end: `3 m 20 s (Tue 03:40)`."""
    if seconds is None or not abs(seconds) < _LONGEST:
        return "-"
    return f"{duration(seconds)} ({time.strftime('%a %H:%M', time.localtime(time.time() + seconds))})"


def size(num_bytes: float) -> str:
    """Format bytes as `312 B`, `4.2 kB` or `1.8 GB`, in powers of a thousand."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 999.5:
            return f"{num_bytes:.0f} {unit}" if unit == "B" or num_bytes >= 99.5 else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} TB"


def speed(tokens_per_second: float) -> str:
    """Format a speed as `812 tok/s`, `41.2k tok/s` or `1.3M tok/s`."""
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if tokens_per_second >= limit:
            return f"{tokens_per_second / (1e6 if unit == 'M' else 1e3):.1f}{unit} tok/s"
    return f"{tokens_per_second:,.0f} tok/s"


def perplexity(value: float | None) -> str:
    """Format a perplexity with about five significant digits; one that was not computed is a dash."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "-" if value is None else str(value)
    return f"{value:,.0f}" if value >= 10_000 else f"{value:,.1f}" if value >= 1000 else f"{value:,.2f}"


def sparkline(values: list[float]) -> str:
    """Draw values as bars between the lowest and the highest value; fewer than two values give an empty text."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    if not math.isfinite(high - low):
        return ""
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)
