"""`errata demo --once`: every kind of error over real sockets, a checked line for each."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Final, Protocol, Self, TextIO
from urllib.parse import urlsplit

import structlog

from errata.demo.console import ID_LENGTH, Terminal
from errata.demo.server import Visit, Watcher, database_at, logging_to, serving
from errata.demo.shop import create_app
from errata.demo.steps import STEPS, Answer, Evidence, Step, complaints
from errata.middleware import ErrorMiddleware
from errata.report import Sink
from errata.testing import MemorySink
from errata.texts import one_line


PATIENCE: Final = 15.0
"""Seconds that any one thing may take; it takes milliseconds, but for a busy machine."""

CLIENTS: Final = 8
"""Requests of one step that are on their way at once."""


class AppFactory(Protocol):
    """Makes what the tour is to look at; `errata.demo.shop.create_app` is one."""

    def __call__(
        self, database: str, /, *, debug: bool, report_to: Sequence[Sink]
    ) -> ErrorMiddleware: ...


def run(
    stream: TextIO,
    *,
    database: str | None = None,
    steps: Sequence[Step] = STEPS,
    create: AppFactory = create_app,
) -> int:
    """Go through *steps*, print a line for each and a summary to *stream*.

    Returns:
        0 if everything was as it is expected, else 1.

    Raises:
        sqlite3.Error: *database* is not a file that SQLite can use.
    """
    terminal, log, tally = Terminal(stream), LogCollector(), Tally()
    with database_at(database) as path, logging_to(stream, [log.collect], log):
        for debug in (False, True):
            chosen = [step for step in steps if step.debug is debug]
            if chosen:
                heading = "Debug, for this machine only" if debug else "Production"
                terminal.print(terminal.paint(heading, "bold"))
            for evidence, found in Stage(create, path, log, debug=debug).perform(chosen):
                terminal.print(step_line(evidence, found, terminal))
                tally.add(evidence, found)
    for record in log.records:
        tally.failed += 1
        failed = terminal.paint("FAILED", "red")
        terminal.print(f"  {failed}: the server has something to log: {one_line(record)}")
    terminal.print(tally.summary(terminal))
    return 1 if tally.failed else 0


@dataclass(slots=True)
class Tally:
    """What the tour comes to."""

    began: float = field(default_factory=time.perf_counter)
    steps: int = 0
    failed: int = 0
    errors: int = 0
    reports: int = 0

    def add(self, evidence: Evidence, found: Sequence[str]) -> None:
        """Count one step."""
        self.steps += 1
        self.failed += bool(found)
        self.errors += evidence.occurrences
        self.reports += len(evidence.reports)

    def summary(self, terminal: Terminal) -> str:
        """Return the last line."""
        seconds = time.perf_counter() - self.began
        verdict = (
            terminal.paint(f"{self.failed} FAILED", "red")
            if self.failed
            else terminal.paint("all as expected", "green")
        )
        return (
            f"{self.steps} steps in {seconds:.1f} s, {verdict}:"
            f" {self.errors} errors in {self.reports} reports"
        )


class LogCollector(logging.Handler):
    """Collects errata's log lines, and what the server has to complain about."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Mapping[str, Any]] = []
        self.records: list[str] = []

    def collect(self, logger: object, name: str, event: structlog.typing.EventDict) -> str:
        """Keep an event of structlog, and let nothing of it be printed."""
        self.lines.append(event)
        raise structlog.DropEvent

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what the server complains about: errata has logged it already, or should have."""
        self.records.append(record.getMessage())


class Stage:
    """One server of the tour, and all that can be seen of it."""

    def __init__(
        self, create: AppFactory, database: str, log: LogCollector, *, debug: bool
    ) -> None:
        self._sink = MemorySink()
        self._app = create(database, debug=debug, report_to=[self._sink])
        self._log = log
        self._visits: SimpleQueue[Visit] = SimpleQueue()
        self._watcher = Watcher(self._app, self._visits.put)

    def perform(self, steps: Sequence[Step]) -> Iterator[tuple[Evidence, list[str]]]:
        """Take *steps*; yield for each what came of it, and what is wrong with that.

        The last is judged when the server has stopped: by then all must be delivered, and
        nobody but the shutdown has seen to it.
        """
        if not steps:
            return
        *others, last = steps
        with serving(self._watcher) as url, Client(url) as client:
            for step in others:
                take = self._take(client, step)
                self._drain()
                yield self._judge(take)
            take = self._take(client, last)
        yield self._judge(take)

    def _take(self, client: Client, step: Step) -> Take:
        take = Take(step, len(self._sink.reports), len(self._log.lines))
        try:
            take.answers = client.send(step)
            # The client has its answer before the report is made; the app returns after it.
            for _ in range(step.times):
                self._visits.get(timeout=PATIENCE)
        except Exception as error:
            take.trouble.append(f"{type(error).__qualname__}: {error}")
        return take

    def _drain(self) -> None:
        if self._watcher.loop is not None:
            draining = self._app.drain(PATIENCE)
            asyncio.run_coroutine_threadsafe(draining, self._watcher.loop).result()

    def _judge(self, take: Take) -> tuple[Evidence, list[str]]:
        evidence = Evidence(
            step=take.step,
            answers=take.answers,
            reports=self._sink.reports[take.first_report :],
            log=self._log.lines[take.first_line :],
        )
        return evidence, take.trouble or complaints(evidence)


@dataclass(slots=True)
class Take:
    """A step that is on its way."""

    step: Step
    first_report: int
    first_line: int
    answers: list[Answer] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)


class Client:
    """Sends what the steps say over real sockets; no proxy of the environment is asked."""

    def __init__(self, url: str) -> None:
        import httpx

        self._url = urlsplit(url)
        self._http = httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._http.close()

    def send(self, step: Step) -> list[Answer]:
        """Send *step* as often as it says; return the answers."""
        ask = self._converse if step.method == "WS" else self._request
        with ThreadPoolExecutor(CLIENTS) as threads:
            return list(threads.map(ask, [step] * step.times))

    def _request(self, step: Step) -> Answer:
        import httpx

        body, broken = bytearray(), False
        with self._http.stream(
            step.method, step.path, headers=step.headers, data=step.form, json=step.json
        ) as response:
            try:
                for chunk in response.iter_bytes():
                    body += chunk
            except httpx.RemoteProtocolError:
                broken = True
        headers = dict(response.headers)
        return Answer(response.status_code, headers, bytes(body), broken=broken)

    def _converse(self, step: Step) -> Answer:
        from websockets.exceptions import ConnectionClosed, InvalidStatus
        from websockets.sync.client import connect

        address = (self._url.hostname, self._url.port)
        connection = socket.create_connection(address, PATIENCE)
        received: list[str | bytes] = []
        try:
            with connect(f"ws://{self._url.netloc}{step.path}", sock=connection) as websocket:
                while True:
                    received.append(websocket.recv(PATIENCE))
        except InvalidStatus as refusal:
            denial = refusal.response
            headers = {name.lower(): value for name, value in denial.headers.raw_items()}
            return Answer(denial.status_code, headers, bytes(denial.body or b""))
        except ConnectionClosed as end:
            close = end.rcvd
            return Answer(
                101,
                {},
                b"".join(each.encode() if isinstance(each, str) else each for each in received),
                close_code=close.code if close else None,
                close_reason=close.reason if close else "",
            )


# ── the lines ─────────────────────────────────────────────────────────────────────────────


def step_line(evidence: Evidence, found: Sequence[str], terminal: Terminal) -> str:
    """Return the line of a step: what was sent, what came back, what was reported."""
    step = evidence.step
    times = f"{step.times} x " if step.times > 1 else ""
    verdict = terminal.paint("ok", "green")
    if found:
        verdict = terminal.paint("FAILED", "red") + f": {one_line('; '.join(found))}"
    columns = (
        f"{step.title:<30}",
        f"{times + step.request:<27}",
        f"{_came_back(evidence):<31}",
        f"{_reported(evidence):<37}",
        verdict,
    )
    return "  " + " ".join(columns)


def _came_back(evidence: Evidence) -> str:
    if not evidence.answers:
        return "nothing"
    answer = evidence.answers[-1]
    what = answer.media_type
    if answer.broken:
        what += ", broken"
    if answer.close_code is not None:
        what = f"closed {answer.close_code}"
    # Where the answer came too early for it, the report alone has the id.
    ids = [answer.error_id, *(report.error_id for report in evidence.reports)]
    return f"{answer.status} {what:<17} {next(filter(None, ids), '')[:ID_LENGTH]}"


def _reported(evidence: Evidence) -> str:
    reports = evidence.reports
    if not reports:
        return "-"
    first = reports[0]
    where = "" if first.phase == "request" else f" ({first.phase})"
    if len(reports) == evidence.occurrences == 1:
        return one_line(first.failure.type) + where
    return (
        f"{one_line(first.failure.type)}{where}: {evidence.occurrences} in {len(reports)} reports"
    )
