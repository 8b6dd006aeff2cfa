"""`errata demo`: the shop on a server, and a line in the terminal for each request."""

from __future__ import annotations

import logging
import signal
import socket
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Literal, TextIO, TypeAlias

import structlog

from errata.demo.server import (
    Visit,
    Watcher,
    create_server,
    database_at,
    logging_to,
    url_of,
)
from errata.demo.shop import SIGHTS, Sight, create_app
from errata.report import SafeReport
from errata.texts import clip, one_line


MAX_UNTOLD: Final = 100
"""Reports that wait for their request's line."""

MAX_PATH: Final = 60
"""Characters of a path on a line."""

ID_LENGTH: Final = 8
"""Characters of an error id on a line: enough to tell it from its neighbours."""

Colour: TypeAlias = Literal["bold", "dim", "red", "green", "yellow", "cyan"]

_CODES: Final = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}
"""ECMA-48, section 8.3.117."""


class Terminal:
    """Prints lines, in colours where somebody looks."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.has_colours = stream.isatty()

    def print(self, line: str = "") -> None:
        """Print one line, at once."""
        print(line, file=self.stream, flush=True)

    def paint(self, text: str, colour: Colour) -> str:
        """Return *text* in *colour*, or as it is where a program reads it."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.has_colours else text


class Inbox:
    """The sink of the demo: keeps reports until their request's line is printed."""

    def __init__(self) -> None:
        self._reports: deque[SafeReport] = deque(maxlen=MAX_UNTOLD)

    async def __call__(self, report: SafeReport) -> None:
        """Keep *report*."""
        self._reports.append(report)

    def take(self, path: str) -> list[SafeReport]:
        """Return the reports of requests for *path*, once."""
        taken = [each for each in self._reports if each.request and each.request.path == path]
        for report in taken:
            self._reports.remove(report)
        return taken


def serve(
    stream: TextIO, listener: socket.socket, *, port: int, debug: bool, database: str | None
) -> None:
    """Serve the demo on *listener* until Ctrl-C; what it prints goes to *stream*.

    *port* is what was asked for: if it became another, the first line says so.

    Raises:
        sqlite3.Error: *database* is not a file that SQLite can use.
    """
    terminal, inbox = Terminal(stream), Inbox()

    def tell(visit: Visit) -> None:
        terminal.print(visit_line(visit, inbox.take(visit.path), terminal))

    with ended_by_signals(), database_at(database) as path:
        app = create_app(path, debug=debug, report_to=[inbox])
        if port not in {0, listener.getsockname()[1]}:
            terminal.print(f"Port {port} is taken; this is another one.")
        for line in welcome(url_of(listener), terminal, debug=debug):
            terminal.print(line)
        with console_log(terminal):
            create_server(Watcher(app, tell)).run([listener])


@contextmanager
def ended_by_signals() -> Generator[None]:
    """Let Ctrl-C, and SIGTERM in the same way, end the block and nothing more."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def console_log(terminal: Terminal) -> Generator[None]:
    """Print errata's log lines so that they fit between the lines of the requests."""
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        _shorten,
        structlog.dev.ConsoleRenderer(colors=terminal.has_colours, pad_event_to=0),
    ]
    with logging_to(terminal.stream, processors, logging.StreamHandler(terminal.stream)):
        yield


def _shorten(
    logger: object, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Leave out what the request's line tells, and the traceback: some 60 lines of framework."""
    told = {"method", "path", "status", "phase", "client_ip", "duration", "exception"}
    return {key: value for key, value in event.items() if key not in told}


def welcome(url: str, terminal: Terminal, *, debug: bool) -> Iterator[str]:
    """Yield what stands above the requests: where to look, and what is to be seen there."""
    mode = "debug: this machine sees details" if debug else "production: nobody sees details"
    rows = [("/", "all of these and more, one click away")]
    rows += [(sight.path, _promise(sight, debug=debug)) for sight in SIGHTS if sight.form is None]
    width = max(len(path) for path, _ in rows)
    yield f"{terminal.paint('errata demo', 'bold')} ({mode})"
    yield ""
    for path, promise in rows:
        yield f"  {terminal.paint(url + path, 'cyan')}{'':<{width - len(path)}}  {promise}"
    yield ""
    yield "The requests, until Ctrl-C:"
    yield ""


def _promise(sight: Sight, *, debug: bool) -> str:
    page = "the debug page" if debug else "a page with an error id and no detail"
    return f"{sight.failure}: {sight.answer or page}"


def visit_line(visit: Visit, reports: Sequence[SafeReport], terminal: Terminal) -> str:
    """Return the line of one request: method, path, status, type, error id, what was done."""
    failed = bool(reports) or (visit.status or 500) >= 500
    colour: Colour = "red" if failed else "yellow" if (visit.status or 0) >= 400 else "green"
    error_id = visit.error_id or next((report.error_id for report in reports), "")
    columns = (
        f"{one_line(visit.method):<4}",
        f"{clip(one_line(visit.path), MAX_PATH):<24}",
        terminal.paint(f"{visit.status or '-':<3}", colour),
        f"{one_line(visit.media_type):<16}",
        terminal.paint(f"{error_id[:ID_LENGTH]:<{ID_LENGTH}}", "cyan"),
        deeds(visit, reports),
    )
    return "  ".join(columns).rstrip()


def deeds(visit: Visit, reports: Sequence[SafeReport]) -> str:
    """Return what errata did about *visit*, in words; nothing where there was nothing to do."""
    parts = []
    if visit.answered_by:
        parts.append(f"answered by {visit.answered_by}")
    elif visit.error_id and not reports:
        # Below 500 there is nothing to report; above, a later report of the storm stands for it.
        parts.append("answered, counted" if (visit.status or 0) >= 500 else "answered")
    if visit.close_code is not None:
        parts.append(f"closed {visit.close_code}")
    for report in reports:
        where = "" if report.phase == "request" else f" ({report.phase})"
        parts.append(f"reported {one_line(report.failure.type)}{where}")
    return ", ".join(parts)
