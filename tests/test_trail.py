"""The trail: what led to an error, bounded, and seen by nobody else."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from errata import ErrorMiddleware, note, record_query
from errata.testing import MemorySink
from errata.trail import MAX_CRUMBS, MAX_QUERIES, MAX_TEXT, current_trail
from tests.asgi import call, http_scope, respond


pytestmark = pytest.mark.anyio


def log(message, *args):
    """Make the record of `logging.getLogger("shop").warning()`, which no handler formats."""
    make = logging.getLogRecordFactory()
    make("shop", logging.WARNING, "shop.py", 1, message, args, None)


class Unprintable:
    def __repr__(self):
        raise AssertionError

    __str__ = __repr__


def failing_after(steps):
    async def app(scope, receive, send):
        steps()
        raise ValueError("x")

    return app


async def trail_of(steps, **options):
    sink = MemorySink()
    options.setdefault("trail", True)
    app = ErrorMiddleware(failing_after(steps), report_to=[sink], log=False, **options)
    await call(app, http_scope())
    assert current_trail.get() is None
    assert await app.drain()
    return sink.reports[0]


async def test_notes_queries_and_log_lines_are_in_the_report():
    """What the request wrote down before the error stands in its report, in order."""

    def steps():
        note("paying", amount=12, card=Unprintable())
        log("slow: %s %s", 7, Unprintable())
        log("%(a)s", {"a": 1})
        log("100 %")
        log("%d", "no number")
        record_query("SELECT 1", [Unprintable()], duration=0.5)

    report = await trail_of(steps)
    paying, slow, *others = report.crumbs
    assert (paying.message, paying.logger, paying.fields["amount"]) == ("paying", "note", 12)
    assert (slow.message, slow.level, slow.logger) == ("slow: 7 <Unprintable>", "warning", "shop")
    assert [crumb.message for crumb in others] == ["1", "100 %", "%d"]
    assert (report.queries[0].sql, report.queries[0].duration) == ("SELECT 1", 0.5)
    assert report.crumbs[0].timestamp > 1_700_000_000


async def test_trail_is_bounded():
    """Only the last of each are kept, and long texts are cut."""

    def steps():
        for number in range(MAX_CRUMBS + 50):
            note(f"{number}")
            record_query(f"{number}")
        note("x" * 1_000_000)

    report = await trail_of(steps)
    assert len(report.crumbs) == MAX_CRUMBS
    assert len(report.queries) == MAX_QUERIES
    assert report.queries[-1].sql == str(MAX_CRUMBS + 49)
    assert len(report.crumbs[-1].message) <= MAX_TEXT + 100


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ({"trail": None}, 0),
        ({"debug": True, "trail": None}, 1),
        ({"debug": True, "trail": False}, 0),
    ],
)
async def test_trail_is_on_in_debug_only_unless_told(options, recorded):
    """Production records nothing by default."""
    assert len((await trail_of(lambda: note("x"), **options)).crumbs) == recorded


async def test_successful_request_leaves_nothing_behind():
    """The trail ends with its request."""
    await call(ErrorMiddleware(respond(), trail=True), http_scope())
    assert current_trail.get() is None


async def test_recording_outside_of_a_request_does_nothing():
    """Code that runs elsewhere may call note() and record_query() as well."""
    note("x")
    record_query("SELECT 1")


async def test_nested_middlewares_share_the_trail():
    """The outer one's report has what was noted before the inner one began."""
    sink = MemorySink()
    inner = ErrorMiddleware(failing_after(lambda: note("inside")), trail=True, report_to=[sink])

    async def between(scope, receive, send):
        note("outside")
        await inner(scope, receive, send)

    await call(ErrorMiddleware(between, trail=True), http_scope())
    assert await inner.drain()
    assert [crumb.message for crumb in sink.reports[0].crumbs] == ["outside", "inside"]


SCRIPT = """
import logging
from errata import ErrorMiddleware
for _ in range(3):
    ErrorMiddleware(lambda scope, receive, send: None, debug=True)
logging.getLogger("shop").warning("seen without configuration")
logging.basicConfig(level="INFO", format="%(name)s configured: %(message)s")
logging.getLogger("shop").info("hello")
"""


def test_recording_leaves_the_apps_logging_alone():
    """Neither `basicConfig()` nor the output of last resort is taken away by the trail."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines() == ["seen without configuration", "shop configured: hello"]
