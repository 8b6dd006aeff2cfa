"""What it costs to understand an error: from the live exception to data that can leave."""

from __future__ import annotations

import atexit
import tempfile
import traceback
from collections.abc import Callable, Sequence
from itertools import count
from time import perf_counter
from typing import Any, Final

from structlog.tracebacks import ExceptionDictTransformer

from benchmarks import deep
from benchmarks.deep import Raiser
from benchmarks.harness import Burst, Contestant, Group, Scale, Series, measure
from benchmarks.peers import init_sentry
from benchmarks.results import Promise, Section, added_ratio, samples_of, timing_table
from errata import Redactor
from errata.capture import capture, fingerprint


SHARE: Final = 4
"""Of the rounds: an operation takes up to 0.1 s here."""

BASES: Final = ("raise alone", "raise alone, beside sentry")
FINGERPRINT: Final = "errata fingerprint"
REPEATED: Final = "errata capture, repeated error (frames=False)"
CAPTURE: Final = "errata capture"
REDACTED: Final = "errata capture, redaction"
DATA: Final = "errata capture, redaction, to_dict()"
UNSEEN: Final = "errata capture, files never seen before"
FORMAT: Final = "traceback.format_exception"
STRUCTLOG: Final = "structlog ExceptionDictTransformer(show_locals=True)"
SENTRY: Final = "sentry-sdk capture_exception"
LONG: Final = ", lists of 10,000"
NESTED: Final = ", dictionaries 5 deep"

INTRO: Final = f"""
An error {deep.DEPTH} functions deep; in each frame some numbers and texts and two lists of 10, \
or two lists of 10,000, or a dictionary nested five deep with five keys each in the place of a \
list. It is raised anew for each operation, and what raising takes is the base. sentry-sdk has its \
default settings, locals included, and a transport that drops the event: it is built, scrubbed and \
serialised. `format_exception` shows no locals, the others do. Files are known to everybody's \
caches, except in the row that says otherwise.
"""


def run(scale: Scale) -> Section:
    """Measure what capturing costs, alone and beside its peers."""
    series = measure(
        (Group(build=_ours), Group(build=_sentry, separate=True)),
        scale,
        rounds=-(-scale.rounds // SHARE),
    )
    reference = SENTRY if SENTRY in series else FORMAT
    return Section(
        name="capture",
        title="An error is understood",
        intro=INTRO,
        tables=[
            timing_table("One error", series, bases=BASES, reference=reference),
        ],
        promises=_promises(series),
        samples=samples_of(series),
    )


def _promises(series: dict[str, Series]) -> list[Promise]:
    promises = [
        Promise(
            text="capture: lists of 10,000 in captures of lists of 10",
            measured=added_ratio(series, CAPTURE + LONG, CAPTURE),
            limit=1.2,
        ),
        Promise(
            text="capture: dictionaries 5 deep in captures of lists of 10",
            measured=added_ratio(series, CAPTURE + NESTED, CAPTURE),
            limit=2.5,
        ),
    ]
    if SENTRY in series:
        beside_sentry = Promise(
            text="capture of lists of 10 in sentry-sdk captures",
            measured=added_ratio(series, CAPTURE, SENTRY),
            limit=1 / 12,
        )
        promises.insert(0, beside_sentry)
    return promises


def _ours() -> Sequence[Contestant]:
    short, long, nested = _raisers()
    redact = Redactor().report
    transform = ExceptionDictTransformer(show_locals=True)

    def to_data(exc: Exception) -> object:
        return redact(capture(exc)).to_dict()

    return [
        Contestant("raise alone", _burst(short, _nothing)),
        Contestant(FINGERPRINT, _burst(short, fingerprint)),
        Contestant(REPEATED, _burst(short, lambda exc: capture(exc, frames=False))),
        Contestant(CAPTURE, _burst(short, capture)),
        Contestant(CAPTURE + LONG, _burst(long, capture)),
        Contestant(CAPTURE + NESTED, _burst(nested, capture)),
        Contestant(REDACTED, _burst(short, lambda exc: redact(capture(exc)))),
        Contestant(REDACTED + NESTED, _burst(nested, lambda exc: redact(capture(exc)))),
        Contestant(DATA, _burst(short, to_data)),
        Contestant(UNSEEN, _unseen_burst(), once=True),
        Contestant(FORMAT, _burst(short, traceback.format_exception)),
        Contestant(
            STRUCTLOG, _burst(short, lambda exc: transform((type(exc), exc, exc.__traceback__)))
        ),
    ]


def _sentry() -> Sequence[Contestant]:
    init_sentry()
    from sentry_sdk import capture_exception

    short, long, nested = _raisers()
    return [
        Contestant("raise alone, beside sentry", _burst(short, _nothing)),
        Contestant(SENTRY, _burst(short, capture_exception)),
        Contestant(SENTRY + LONG, _burst(long, capture_exception)),
        Contestant(SENTRY + NESTED, _burst(nested, capture_exception)),
    ]


def _raisers() -> tuple[Raiser, Raiser, Raiser]:
    folder = _folder()
    return (
        Raiser(folder, "errata_benchmark_short", deep.lists(10)),
        Raiser(folder, "errata_benchmark_long", deep.lists(10_000)),
        Raiser(folder, "errata_benchmark_nested", deep.trees()),
    )


def _folder() -> str:
    """Return a folder that is there as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="errata-benchmark-")
    atexit.register(folder.cleanup)
    return folder.name


def _nothing(exc: Exception) -> None:
    """Do nothing about it."""


def _burst(raise_anew: Raiser, operate: Callable[[Any], object]) -> Burst:
    def burst(times: int) -> float:
        began = perf_counter()
        for _ in range(times):
            operate(raise_anew())
        return perf_counter() - began

    return burst


def _unseen_burst() -> Burst:
    """Return a burst that writes and imports a new module each time, outside of the clock."""
    folder, numbers, values = _folder(), count(), deep.lists(10)

    def burst(times: int) -> float:
        seconds = 0.0
        for _ in range(times):
            raise_anew = Raiser(folder, f"errata_benchmark_{next(numbers)}", values)
            seconds += _burst(raise_anew, capture)(1)
        return seconds

    return burst
