"""The results as Markdown: `docs/benchmarks.md` is written by this and by nobody's hand."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Final

from benchmarks.figures import ratio
from benchmarks.harness import Scale
from benchmarks.results import Promise, Section, Table


PACKAGES: Final = (
    "errata",
    "starlette",
    "structlog",
    "sentry-sdk",
    "uvicorn",
    "httptools",
    "uvloop",
)
"""Whose versions a result depends on."""

TITLE: Final = "# Benchmarks"
INTRO: Final = """\
Written by `scripts/bench --write`, not by hand: run `scripts/bench` to measure on your machine, \
`scripts/bench --quick` for a first look in two minutes.

The ratios are what counts. Times are rough: machines differ, and drift. A round is three laps; \
in a lap every contestant runs for about a millisecond, in random order and without the garbage \
collector, and its best lap counts (what takes 0.1 s has one lap). *Added* is the median of what a \
contestant takes more than the base in the same round. What patches its surroundings (sentry-sdk) \
runs in a process of its own, with a base of its own, and the rounds take the processes in turn.
"""


def environment() -> dict[str, str]:
    """Return what the results depend on; nothing that tells whose machine it was."""
    found = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def render(
    sections: Sequence[Section], *, command: str, scale: Scale, versions: Mapping[str, str]
) -> str:
    """Return the whole document."""
    promises = [promise for section in sections for promise in section.promises]
    parts = [TITLE, INTRO, _setting(command, scale, versions)]
    if promises:
        parts += ["## Promises", _render_promises(promises)]
    for section in sections:
        parts += [f"## {section.title}", section.intro.strip()]
        for table in section.tables:
            parts += [f"### {table.title}", render_table(table)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def render_table(table: Table) -> str:
    """Return *table* in Markdown."""
    return _lines(table.headings, table.rows)


def _setting(command: str, scale: Scale, versions: Mapping[str, str]) -> str:
    rows = [(name, value) for name, value in versions.items()]
    rows.append(("command", f"`{command}`"))
    rows.append(("rounds", f"{scale.rounds}; against servers {scale.server_rounds}"))
    return _lines(("", ""), rows)


def _render_promises(promises: Iterable[Promise]) -> str:
    rows = [
        (promise.text, promise.rule, ratio(promise.measured), promise.verdict)
        for promise in promises
    ]
    return _lines(("errata promises", "limit", "measured", ""), rows)


def _lines(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(headings) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))
