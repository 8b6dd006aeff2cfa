"""Numbers, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final


UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
ROUNDING: Final = 0.9995
"""What three digits round up to 1: 999.6 ns are 1.00 µs."""


def quartiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    return quantile(samples, 0.25), quantile(samples, 0.5), quantile(samples, 0.75)


def quantile(samples: Sequence[float], share: float) -> float:
    """Return the value that *share* of the samples do not exceed, between two if need be."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def duration(seconds: float) -> str:
    """Return *seconds* with three digits in the unit that fits."""
    size, unit = next((pair for pair in UNITS if abs(seconds) >= pair[0] * ROUNDING), UNITS[-1])
    value = seconds / size
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:,.{digits}f} {unit}"


def ratio(value: float) -> str:
    """Return *value* as people say it: 0.97, 3.1, 1/60."""
    if 0 < value < 0.2:
        return f"1/{1 / value:,.0f}" if value < 0.1 else f"1/{1 / value:.1f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"
