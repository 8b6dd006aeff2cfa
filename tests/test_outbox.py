"""Delivery to sinks: each on its own, bounded, and never in the request's way."""

from __future__ import annotations

import asyncio
import logging
import threading

import trio

from errata import ErrorMiddleware
from errata.outbox import QUEUE_SIZE, Outbox
from errata.report import Failure, Report, SafeReport
from errata.testing import MemorySink, failing_app
from tests.asgi import http_scope, receive_nothing


def report(fingerprint="f", count=1, error_id="e"):
    failure = Failure(type="ValueError", module="builtins", message="x")
    return SafeReport(
        Report(error_id=error_id, failure=failure, fingerprint=fingerprint, count=count)
    )


def test_async_sink_runs_on_the_loop_of_the_app():
    """A sink may use what belongs to the app's loop, such as a database pool."""
    loops = []

    async def sink(report):
        loops.append(asyncio.get_running_loop())

    async def main():
        outbox = Outbox([sink])
        outbox.put(report())
        assert await outbox.drain(5)
        return asyncio.get_running_loop()

    assert asyncio.run(main()) in loops


def test_simple_sink_is_done_when_the_request_is():
    """A sink that waits for nothing has its report when the call returns."""
    sink = MemorySink()

    async def main():
        app = ErrorMiddleware(failing_app(ValueError("x")), report_to=[sink], log=False)

        async def send(message):
            pass

        await app(http_scope(), receive_nothing, send)
        assert len(sink.reports) == 1

    asyncio.run(main())


def test_plain_sink_runs_in_a_thread():
    """A plain function may block: it never blocks the loop."""
    threads = []

    async def main():
        outbox = Outbox([lambda report: threads.append(threading.current_thread())])
        outbox.put(report())
        assert await outbox.drain(5)

    asyncio.run(main())
    assert threads[0] is not threading.main_thread()


def test_sink_without_asyncio_runs_on_a_private_thread():
    """Under trio, and where no loop runs at all, delivery works as well."""
    sink = MemorySink()
    outbox = Outbox([sink])
    outbox.put(report(error_id="no loop"))

    async def main():
        outbox.put(report(error_id="trio"))
        assert await outbox.drain(5)

    trio.run(main)
    assert [report.error_id for report in sink.reports] == ["no loop", "trio"]


def test_failing_sink_disturbs_no_other(caplog):
    """It complains once, without the exception's text, and counts what it lost."""
    good = MemorySink()

    async def bad(report):
        raise ValueError("secret of the report")

    async def main():
        outbox = Outbox([bad, good])
        for number in range(3):
            outbox.put(report(error_id=str(number), count=2))
        assert await outbox.drain(5)
        return outbox.stats()

    with caplog.at_level(logging.WARNING, "errata"):
        stats = asyncio.run(main())
    assert [row["failed"] for row in stats] == [6, 0]
    assert [row["delivered"] for row in stats] == [0, 6]
    assert len(good.reports) == 3
    assert len(caplog.records) == 1
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_sink_that_works_again_may_complain_again(caplog):
    """The next failure after a success is news."""
    outcomes = iter([True, False, True, True])

    async def flaky(report):
        if next(outcomes):
            raise ValueError

    async def main():
        outbox = Outbox([flaky])
        for _ in range(4):
            outbox.put(report())
        assert await outbox.drain(5)

    with caplog.at_level(logging.WARNING, "errata"):
        asyncio.run(main())
    assert len(caplog.records) == 2


def test_hanging_sink_is_given_up(monkeypatch):
    """A sink that never returns loses its own report only, after the timeout."""
    monkeypatch.setattr("errata.outbox.SINK_TIMEOUT", 0.01)
    good, hung = MemorySink(), threading.Event()

    def blocks(report):
        hung.wait()

    async def hangs(report):
        await asyncio.Event().wait()

    async def main():
        outbox = Outbox([hangs, blocks, good])
        outbox.put(report())
        outbox.put(report())
        assert await outbox.drain(5)
        return outbox.stats()

    try:
        stats = asyncio.run(main())
    finally:
        hung.set()
    assert [row["failed"] for row in stats] == [2, 2, 0]
    assert len(good.reports) == 2


def test_full_queue_merges_equal_errors_and_counts_the_rest():
    """Memory is bounded, no count of a queued error is lost, and what is dropped is counted."""
    release, delivered = asyncio.Event(), []

    async def slow(report):
        await release.wait()
        delivered.append(report)

    async def main():
        outbox = Outbox([slow])
        for number in range(QUEUE_SIZE):
            outbox.put(report(fingerprint=str(number)))
        outbox.put(report(fingerprint="7", count=5))
        outbox.put(report(fingerprint="new", count=3))
        release.set()
        assert await outbox.drain(5)
        return outbox.stats()[0]

    stats = asyncio.run(main())
    assert stats["delivered"] == QUEUE_SIZE + 5
    assert stats["dropped"] == 3
    assert [report.count for report in delivered if report.fingerprint == "7"] == [6]


def test_reports_survive_the_end_of_their_loop():
    """When the loop is torn down in mid-delivery the report goes on in a private thread."""
    delivered = threading.Event()

    async def slow(report):
        await asyncio.sleep(0.01)
        delivered.set()

    outbox = Outbox([slow])

    async def main():
        outbox.put(report())
        await asyncio.sleep(0)

    asyncio.run(main())
    assert delivered.wait(5)


def test_drain_gives_up_in_time():
    """Draining a stuck sink returns False instead of hanging."""

    async def stuck(report):
        await asyncio.Event().wait()

    async def main():
        outbox = Outbox([stuck])
        outbox.put(report())
        return await outbox.drain(0.02)

    assert asyncio.run(main()) is False
