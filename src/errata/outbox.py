"""Delivery to the sinks: off the request's path, bounded, each sink on its own.

Each sink has a lane: a bounded queue and at most one worker. The worker is a task on the
event loop that put the report, so that a sink may use the app's own pools; where no
asyncio runs (trio, a plain thread), it runs on the loop of a private daemon thread. A
worker ends when its queue is empty: nothing idles between errors.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import replace
from typing import Any, Final

import anyio

from errata.report import SafeReport, Sink


QUEUE_SIZE: Final = 256
"""Reports that wait for one sink. At 100 KB each that is 25 MB: a sink that is down must not
become the app's memory problem."""

SINK_TIMEOUT: Final = 30.0
"""Seconds for one delivery: longer than any sane mail or database round trip."""

_DRAIN_POLL: Final = 0.005

_log: Final = logging.getLogger("errata")


class Outbox:
    """Hands every report to every sink; `put` never waits and never raises.

    A sink that fails, hangs or raises loses its own report only: it is counted in
    `stats()` and complained about once until it works again.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        for sink in sinks:
            if not callable(sink):
                raise TypeError(
                    f"report_to holds {sink!r}, which cannot be called; a sink is a function"
                    " of one report, async or plain"
                )
        private_loop = _PrivateLoop()
        self._lanes = [_Lane(sink, private_loop) for sink in sinks]

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def put(self, report: SafeReport) -> None:
        """Queue *report* for every sink."""
        for lane in self._lanes:
            lane.put(report)

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 - returns, never raises
        """Wait until every queue is empty; return False if *timeout* seconds were too few."""
        deadline = time.monotonic() + timeout
        while any(lane.busy for lane in self._lanes):
            if time.monotonic() >= deadline:
                return False
            # Polling: the workers may live on other loops and threads than the caller.
            await anyio.sleep(_DRAIN_POLL)
        return True

    def stats(self) -> list[dict[str, Any]]:
        """Return for each sink its `sink`, `delivered`, `failed`, `dropped` and `queued`.

        Counts are occurrences, not reports: a report counts as `report.count`.
        """
        return [lane.stats() for lane in self._lanes]


class _Lane:
    def __init__(self, sink: Sink, private_loop: _PrivateLoop) -> None:
        self._sink = sink
        self._private_loop = private_loop
        self._name = getattr(sink, "__qualname__", type(sink).__qualname__)
        self._queue: deque[SafeReport] = deque()
        self._lock = threading.Lock()
        self._worker: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self._complained = False
        self._delivered = self._failed = self._dropped = 0

    @property
    def busy(self) -> bool:
        with self._lock:
            return bool(self._queue) or self._working()

    def stats(self) -> dict[str, Any]:
        with self._lock:
            return {
                "sink": self._name,
                "delivered": self._delivered,
                "failed": self._failed,
                "dropped": self._dropped,
                "queued": sum(report.count for report in self._queue),
            }

    def put(self, report: SafeReport) -> None:
        with self._lock:
            if len(self._queue) < QUEUE_SIZE:
                self._queue.append(report)
            elif not self._merge(report):
                self._dropped += report.count
            if self._working():
                return
            loop = self._worker = _running_loop() or self._private_loop.get()
        self._start(loop)

    def _working(self) -> bool:
        return self._worker is not None and not self._worker.is_closed()

    def _merge(self, report: SafeReport) -> bool:
        """Let a queued report of the same error stand for this one too: no count is lost."""
        for index in range(len(self._queue) - 1, -1, -1):
            queued = self._queue[index]
            if queued.fingerprint == report.fingerprint:
                merged = replace(queued, count=queued.count + report.count)
                self._queue[index] = SafeReport(merged)
                return True
        return False

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is _running_loop():
            self._spawn(loop)
        else:
            self._spawn_elsewhere(loop)

    def _spawn_elsewhere(self, loop: asyncio.AbstractEventLoop) -> None:
        # In an empty context: trio's says that trio runs, and anyio would believe it.
        loop.call_soon_threadsafe(self._spawn, loop, context=Context())

    def _spawn(self, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(self._work(), name=f"errata: reports to {self._name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        try:
            while (report := self._next()) is not None:
                await self._deliver(report)
        except asyncio.CancelledError:
            # The loop is being torn down (a test client's, asyncio.run's): what is left goes
            # on elsewhere, and so does what the next error puts.
            self._hand_over()
            raise

    def _next(self) -> SafeReport | None:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._worker = None
            return None

    def _hand_over(self) -> None:
        with self._lock:
            self._worker = loop = self._private_loop.get() if self._queue else None
        if loop is not None:
            self._spawn_elsewhere(loop)

    async def _deliver(self, report: SafeReport) -> None:
        try:
            async with asyncio.timeout(SINK_TIMEOUT):
                if _is_async(self._sink):
                    result: Any = self._sink(report)
                else:
                    result = await self._call_in_thread(report)
                if inspect.isawaitable(result):
                    await result
        except asyncio.CancelledError:
            with self._lock:
                if _is_async(self._sink):
                    self._queue.appendleft(report)
                else:
                    # Its thread goes on and finishes by itself.
                    self._delivered += report.count
            raise
        except Exception as exc:
            self._count_failure(report, type(exc).__qualname__)
        else:
            with self._lock:
                self._delivered += report.count
                self._complained = False

    async def _call_in_thread(self, report: SafeReport) -> Any:
        """Run a plain sink in a daemon thread of its own.

        Not in the loop's executor: that is the app's, and a hung sink in it would keep the
        process from ending. While one call hangs no second is started.
        """
        if self._thread is not None and self._thread.is_alive():
            raise TimeoutError
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def resolve(result: Any, failure: Exception | None) -> None:
            if not future.done():
                future.set_exception(failure) if failure else future.set_result(result)

        def run() -> None:
            result, failure = None, None
            try:
                result = self._sink(report)
            except Exception as exc:
                failure = exc
            # The loop may be closed by now: then nobody waits for the result.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(resolve, result, failure)

        self._thread = threading.Thread(target=run, name="errata-sink", daemon=True)
        self._thread.start()
        return await future

    def _count_failure(self, report: SafeReport, error: str) -> None:
        with self._lock:
            self._failed += report.count
            first, self._complained = not self._complained, True
        if first:
            # Never the exception's text: it may hold what the report had redacted.
            _log.warning(
                "the sink %s failed with %s; report %s is lost", self._name, error, report.error_id
            )


def _is_async(sink: Any) -> bool:
    return inspect.iscoroutinefunction(sink) or inspect.iscoroutinefunction(
        getattr(sink, "__call__", None)  # noqa: B004 - the attribute, not the question
    )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _PrivateLoop:
    """An asyncio loop in a daemon thread, started when first asked for."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=_run_and_close, args=(self._loop,), name="errata-outbox", daemon=True
                ).start()
                weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)
            return self._loop


def _run_and_close(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
