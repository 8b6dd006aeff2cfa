"""What a case has to say: tables, and promises that hold or do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.figures import duration, quartiles, ratio
from benchmarks.harness import Series


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under their headings, the first column a name."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Promise:
    """A ratio that errata keeps to."""

    text: str
    measured: float
    limit: float
    at_least: bool = False
    """Whether more is better."""

    @property
    def kept(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def verdict(self) -> str:
        return "PASS" if self.kept else "FAIL"

    @property
    def rule(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {ratio(self.limit)}"


@dataclass(frozen=True, kw_only=True)
class Section:
    """The outcome of one case."""

    name: str
    title: str
    intro: str
    """How it was measured, in Markdown."""
    tables: Sequence[Table]
    promises: Sequence[Promise]
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """What was measured, each round, for whoever wants to look closer."""


def timing_table(
    title: str,
    series: Mapping[str, Series],
    *,
    bases: Iterable[str],
    reference: str,
) -> Table:
    """Return medians, quartiles, and what is added in multiples of *reference*'s added."""
    unit = median(series[reference].added)
    rows = []
    for name, one in series.items():
        low, middle, high = quartiles(one.samples)
        row = [name, f"{duration(middle)} ({duration(low)} … {duration(high)})", "", ""]
        if name not in bases:
            low, middle, high = quartiles(one.added)
            row[2] = f"{duration(middle)} ({duration(low)} … {duration(high)})"
            row[3] = ratio(middle / unit) if unit else ""
        rows.append(row)
    headings = ("", "median (quartiles)", "added to the base", f"added, × {reference}")
    return Table(title=title, headings=headings, rows=rows)


def added_ratio(series: Mapping[str, Series], name: str, reference: str) -> float:
    """Return how much of what *reference* adds *name* adds: medians of paired differences."""
    return median(series[name].added) / median(series[reference].added)


def samples_of(series: Mapping[str, Series], prefix: str = "") -> dict[str, list[float]]:
    """Return the samples of each contestant, in seconds."""
    return {f"{prefix}{name}": one.samples for name, one in series.items()}
