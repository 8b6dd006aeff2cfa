"""A report as a document to read without a browser: text, markdown, JSON.

Pure and bounded. Nothing here raises on any report, and all of it is fit for UTF-8.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from errata.report import Failure, Frame, Query, SafeReport
from errata.responses import phrase
from errata.texts import brief, clip, headline, marked_columns, one_line, visible
from errata.tracebacks import traceback_text


MAX_FRAMES: Final = 20
"""Frames of the app with source and variables in a document; the traceback has them all."""

MAX_ROWS: Final = 100
"""Headers, variables, queries, log lines of one kind: what a trail keeps."""

MAX_VALUE: Final = 500
"""Characters of one header, variable or log line."""

MAX_BLOCK: Final = 8_192
"""Characters of a message or a body."""

MAX_STATEMENT: Final = 2_000
"""Characters of a database statement."""

MAX_DOCUMENT: Final = 500_000
"""Characters of a document, whatever the report holds; most have a tenth of it."""


def facts(report: SafeReport) -> list[tuple[str, str]]:
    """Return what is known of the error as a whole: names and values, in order."""
    request = report.request
    rows = [
        ("Request", f"{request.method} {request.path}" if request else ""),
        ("Route", (request and request.route) or ""),
        ("Status", f"{report.status} {phrase(report.status)}" if report.status else ""),
        ("Error ID", report.error_id),
        ("Time", when(report.timestamp, "%Y-%m-%d %H:%M:%S UTC") if report.timestamp else ""),
        ("After", milliseconds(report.duration)),
        ("Client", (request and request.client) or ""),
        ("Occurrences", f"{report.count:,}" if report.count != 1 else ""),
        ("Phase", "" if report.phase == "request" else report.phase.replace("_", " ")),
        ("Handled", "by a handler of the app" if report.handled else ""),
    ]
    return [(name, _value(value)) for name, value in rows if value]


def milliseconds(seconds: float | None) -> str:
    """Return a duration as milliseconds; empty if there is none."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    return f"{seconds * 1000:,.1f} ms"


def when(timestamp: float, form: str) -> str:
    """Return seconds since the epoch by `strftime`, in UTC; empty for what is no time."""
    try:
        return datetime.fromtimestamp(timestamp, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return ""


def queries_summary(queries: Iterable[Query]) -> str:
    """Return how many queries there are, and their time if all is known."""
    durations = [query.duration for query in queries]
    known = [duration for duration in durations if duration is not None]
    took = milliseconds(sum(known)) if len(known) == len(durations) else ""
    return f"{len(durations)} before the error{', ' * bool(took)}{took}"


def text_report(report: SafeReport) -> str:
    """Return the report as plain text: traceback, variables, request, queries and log."""
    lines = (visible(line) for line in _text_lines(report))
    return clip("\n".join(lines), MAX_DOCUMENT) + "\n"


def _text_lines(report: SafeReport) -> Iterator[str]:
    yield clip(headline(report.failure), MAX_BLOCK)
    yield ""
    for name, value in facts(report):
        yield f"{name + ':':<13}{value}"
    yield ""
    yield traceback_text(report)
    for frame in islice(_app_frames(report.failure), 1):
        yield from _section(f"Variables in {one_line(frame.function)}", _locals(frame))
    for title, rows in _request_rows(report):
        yield from _section(title, rows)
    yield from _section("Queries", _query_rows(report))
    yield from _section("Log", _crumb_rows(report))


def _section(title: str, rows: Iterable[str]) -> Iterator[str]:
    lines = list(rows)
    if lines:
        yield ""
        yield title
        yield from (f"    {line}" for line in lines)


def _app_frames(failure: Failure) -> Iterator[Frame]:
    """Yield the app's frames, the most recent call first, then those of what led to it."""
    link: Failure | None = failure
    while link is not None:
        yield from (frame for frame in reversed(link.frames) if frame.in_app and frame.file)
        link = link.cause or link.context


def _locals(frame: Frame) -> list[str]:
    values = islice(frame.locals.items(), MAX_ROWS)
    return [f"{one_line(name)} = {brief(value, MAX_VALUE)}" for name, value in values]


def _request_rows(report: SafeReport) -> Iterator[tuple[str, list[str]]]:
    request = report.request
    if request is not None:
        for title in ("query", "headers", "cookies"):
            pairs = getattr(request, title)[:MAX_ROWS]
            rows = [f"{one_line(name)}: {_value(value)}" for name, value in pairs]
            yield title.capitalize(), rows
        yield "Body", clip(request.body or "", MAX_BLOCK).splitlines()


def _query_rows(report: SafeReport) -> list[str]:
    rows = []
    for query in report.queries[:MAX_ROWS]:
        params = "" if query.params is None else f"  -- {brief(query.params, MAX_VALUE)}"
        rows.append(
            f"{milliseconds(query.duration):>10}  {_value(query.sql, MAX_STATEMENT)}{params}"
        )
    return rows


def _crumb_rows(report: SafeReport) -> list[str]:
    rows = []
    for crumb in report.crumbs[-MAX_ROWS:]:
        fields = "".join(
            f" {one_line(name)}={brief(value)}"
            for name, value in islice(crumb.fields.items(), MAX_ROWS)
        )
        source = " ".join((when(crumb.timestamp, "%H:%M:%S"), crumb.level, crumb.logger))
        rows.append(f"{one_line(source.strip())}: {_value(crumb.message)}{fields}")
    return rows


def _value(text: str, limit: int = MAX_VALUE) -> str:
    return one_line(clip(text, limit))


def markdown_report(report: SafeReport) -> str:
    """Return the report as markdown, for an issue, a chat or a language model.

    Every text of the error stands in code, within a fence that is longer than any in it.
    """
    return clip("\n".join(_markdown_lines(report)), MAX_DOCUMENT)


def _markdown_lines(report: SafeReport) -> Iterator[str]:
    failure = report.failure
    yield f"# {_code(failure.type)}"
    yield ""
    yield from _fenced(clip(headline(failure), MAX_BLOCK))
    yield from (f"- {name}: {_code(value)}" for name, value in facts(report))
    yield ""
    yield "## Stack"
    yield ""
    for frame in islice(_app_frames(failure), MAX_FRAMES):
        yield f"### {_code(frame.function)} in {_code(frame.file)}, line {frame.line}"
        yield ""
        yield from _fenced("\n".join(_source_lines(frame)), "python")
        yield from _fenced("\n".join(_locals(frame)))
    yield "## Traceback"
    yield ""
    yield from _fenced(traceback_text(report))
    for title, rows in (
        *_request_rows(report),
        ("Queries", _query_rows(report)),
        ("Log", _crumb_rows(report)),
    ):
        if rows:
            yield f"## {title}"
            yield ""
            yield from _fenced("\n".join(rows))


def _source_lines(frame: Frame) -> Iterator[str]:
    for number, text in frame.source:
        here = marked_columns(frame, number, text) or number == frame.line
        yield f"{'>' if here else ' '} {number:>4} {one_line(clip(text, MAX_VALUE))}"


def _fenced(text: str, language: str = "text") -> Iterator[str]:
    if text:
        fence = _backticks(text, 3)
        yield f"{fence}{language}"
        yield visible(text)
        yield fence
        yield ""


def _code(text: str) -> str:
    text = _value(text) or " "
    fence = _backticks(text, 1)
    pad = " " * (text[0] == "`" or text[-1] == "`")
    return f"{fence}{pad}{text}{pad}{fence}"


def _backticks(text: str, least: int) -> str:
    """Return *least* backticks, or more than *text* has in a row (CommonMark 4.5 and 6.1)."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)


def debug_json(report: SafeReport) -> dict[str, Any]:
    """Return the report as a problem (RFC 9457): JSON data, with what is shown in debug.

    Members: `type`, `title`, `status` (500 where the report has none), `detail` (type and
    message), `error_id`, and the report's `failure`, `request` and `queries`.
    """
    status = report.status or 500
    problem = {
        "type": "about:blank",
        "title": phrase(status),
        "status": status,
        "detail": headline(report.failure),
        "error_id": report.error_id,
    }
    try:
        data = report.to_dict()
        parts = {part: data[part] for part in ("failure", "request", "queries")}
        return dict(_encodable(problem | parts))
    except RecursionError:  # a longer chain than any capture draws
        return dict(_encodable(problem))


def _encodable(value: Any) -> Any:
    """Return JSON data without lone surrogates and numbers that JSON does not have."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_encodable(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
