"""A whole server: uvicorn, loopback, keep-alive connections, answers in a second."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp

from benchmarks.apps import Minimal, failing_on_demand
from benchmarks.figures import duration, quartiles, ratio
from benchmarks.harness import Scale, shuffled
from benchmarks.load import CONNECTIONS, put_load, tool
from benchmarks.peers import with_sentry
from benchmarks.results import Promise, Section, Table
from benchmarks.serving import Server, Wrap
from errata import ErrorMiddleware


MINIMAL: Final = "by hand: try, static 500"
ERRATA: Final = "errata, structlog's defaults"
ERRATA_JSON: Final = "errata, structlog as JSON"
ERRATA_SILENT: Final = "errata, log=False"
PATHS: Final = {"/ok": 200, "/error": 500}
WARM_UP: Final = 0.3
"""Seconds of load on each path of each server that nobody counts."""
BUSY: Final = 0.85
"""Share of a processor that a server has at least where nobody but itself is in its way."""

INTRO: Final = f"""
uvicorn (httptools, its default loop, no access log) in a process for each contestant, all of \
them up from the beginning; {CONNECTIONS} keep-alive connections of {{tool}}, in a process of its \
own; each round asks every contestant for both paths, in random order. `/ok` answers two bytes, \
`/error` raises three functions deep.

*By hand* answers a static 500 and tells nobody. *errata* has its default settings: it captures \
the first 20 of a storm whole and then a thinning sample, answers a negotiated 500 with an error \
id, and writes one line for each error, through structlog as it comes (`ConsoleRenderer`, \
`PrintLogger` on a standard output that is `/dev/null`), or as in production (`merge_contextvars`, \
`add_log_level`, ISO `TimeStamper`, `JSONRenderer`, `BytesLogger` on `/dev/null`, cached on first \
use), or not at all (`log=False`). Bare uvicorn and ServerErrorMiddleware leave the exception to \
uvicorn, which logs the traceback to `/dev/null`, as it does beside sentry-sdk, which has its \
default settings and a transport that drops the event.

Processor time is the server's own and tells more where a machine is busy: what the load generator \
and the neighbours do is not in it. *Busy* is the share of one processor that the server had.
"""


@dataclass
class Series:
    """What one contestant did on one path, one sample a round."""

    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    """Seconds of processor time for one answer."""
    shares: list[float] = field(default_factory=list)
    """Of one processor, how much the server had."""
    p99s: list[float] = field(default_factory=list)


def run(scale: Scale) -> Section:
    """Measure both paths of every contestant."""
    outcomes = _measure(scale)
    return Section(
        name="server",
        title="A whole server",
        intro=INTRO.format(tool=tool()) + _caveat(outcomes),
        tables=[_table(path, series) for path, series in outcomes.items()],
        promises=[
            _promise(outcomes[path], path, name, limit)
            for path, limit in (("/ok", 0.97), ("/error", 0.5))
            for name in (ERRATA_JSON, ERRATA)
        ],
        samples={
            f"{path} {name}: {what}": samples
            for path, series in outcomes.items()
            for name, one in series.items()
            for what, samples in (
                ("answers/s", one.rates),
                ("processor seconds", one.costs),
                ("p99 seconds", one.p99s),
            )
        },
    )


def _measure(scale: Scale) -> dict[str, dict[str, Series]]:
    outcomes = {path: {name: Series() for name in CONTESTANTS} for path in PATHS}
    with ExitStack() as stack:
        # All start at once, and then each is waited for.
        started = {name: Server(failing_on_demand, wrap) for name, wrap in CONTESTANTS.items()}
        servers = {name: stack.enter_context(server) for name, server in started.items()}
        for path, status in PATHS.items():
            for server in servers.values():
                put_load(server.port, path, WARM_UP, status=status)
        for _ in range(scale.server_rounds):
            for path, status in PATHS.items():
                for name in shuffled(servers):
                    _sample(servers[name], path, status, scale, outcomes[path][name])
    return outcomes


def _sample(server: Server, path: str, status: int, scale: Scale, series: Series) -> None:
    before = server.cpu_time()
    load = put_load(server.port, path, scale.server_seconds, status=status)
    used = server.cpu_time() - before
    series.costs.append(used / load.answers)
    series.shares.append(used * load.rate / load.answers)
    series.rates.append(load.rate)
    series.p99s.append(load.p99)


def _caveat(outcomes: Mapping[str, Mapping[str, Series]]) -> str:
    """Say so where the servers were not the bottleneck: answers/s then compare something else."""
    least = min(median(one.shares) for series in outcomes.values() for one in series.values())
    if least >= BUSY:
        return ""
    return (
        f"\n**This machine was not quiet**: one of the servers had only {least:.0%} of a processor,"
        " so that answers/s say little, and processor time says more.\n"
    )


def _table(path: str, outcome: Mapping[str, Series]) -> Table:
    minimal = outcome[MINIMAL]
    rows = []
    for name, one in outcome.items():
        low, middle, high = quartiles(one.rates)
        rows.append(
            (
                name,
                f"{middle:,.0f} ({low:,.0f} … {high:,.0f})",
                ratio(_paired(one.rates, minimal.rates)),
                f"{median(one.shares):.0%}",
                duration(median(one.costs)),
                ratio(_paired(one.costs, minimal.costs)),
                duration(median(one.p99s)),
            )
        )
    headings = ("", "answers/s (quartiles)", "× by hand", "busy", "processor", "× by hand", "p99")
    return Table(title=f"`{path}`", headings=headings, rows=rows)


def _promise(outcome: Mapping[str, Series], path: str, name: str, limit: float) -> Promise:
    return Promise(
        text=f"`{path}` behind uvicorn, answers/s: {name}, in those by hand",
        measured=_paired(outcome[name].rates, outcome[MINIMAL].rates),
        limit=limit,
        at_least=True,
    )


def _paired(samples: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios of the same rounds."""
    return median(one / other for one, other in zip(samples, others, strict=True))


# Who runs in which server; each is called in the server's own process.


def _bare(app: ASGIApp) -> Any:
    return app


def _errata_as_json(app: ASGIApp) -> Any:
    import structlog

    silence = Path(os.devnull).open("wb")  # noqa: SIM115 - open as long as the process
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(_to_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.BytesLoggerFactory(silence),
        cache_logger_on_first_use=True,
    )
    return ErrorMiddleware(app)


def _to_json(event: object, **options: Any) -> bytes:
    import json

    return json.dumps(event, **options).encode()


def _errata_silent(app: ASGIApp) -> Any:
    return ErrorMiddleware(app, log=False)


CONTESTANTS: Final[dict[str, Wrap]] = {
    "bare uvicorn": _bare,
    MINIMAL: Minimal,
    "starlette ServerErrorMiddleware": ServerErrorMiddleware,
    ERRATA: ErrorMiddleware,
    ERRATA_JSON: _errata_as_json,
    ERRATA_SILENT: _errata_silent,
    "sentry-sdk SentryAsgiMiddleware": with_sentry,
}
