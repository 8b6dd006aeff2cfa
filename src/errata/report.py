"""What errata knows of one error: plain, frozen, bounded values, and nothing that lives.

A `Report` holds text, numbers and JSON containers only: no exception, frame, local or
request survives in it. `to_dict()` and `from_dict()` round-trip through JSON.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, Protocol, TypeAlias


JSON: TypeAlias = bool | int | float | str | list["JSON"] | dict[str, "JSON"] | None
"""What `json.loads` can return."""

Description: TypeAlias = JSON
"""A bounded picture of one Python value, as `errata.describe` draws it.

None, booleans, 64-bit integers, finite floats and short text stand for themselves.
Everything else is an object with `type` and, where they apply: `text` (how the value
reads), `size` (its full length), `items` (a sequence's first elements), `entries` (a
mapping's first pairs), `attributes` (an object's own, by name), `address` (hexadecimal).
"""

Phase: TypeAlias = Literal[
    "request", "streaming", "background", "websocket_handshake", "websocket", "lifespan"
]
"""Where in the conversation the error happened."""

Mechanism: TypeAlias = Literal["escaped", "hook", "log", "manual", "unexplained"]
"""How it was seen.

`escaped`: raised out of the app; `hook`: shown by a framework's own hook; `log`: found in
a log record; `manual`: captured by hand; `unexplained`: a default 500 and no exception.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One place in the stack, outermost first in a `Failure`.

    `repeated` counts the further passes through this very place that recursion made and
    that are folded into it. A frame whose `file` is empty stands for `repeated` different
    frames that were left out in the middle of a deep stack.
    """

    file: str
    function: str
    module: str
    line: int
    columns: tuple[int, int, int, int] | None = None
    """First line, last line, first column, end column (PEP 657; columns count UTF-8 bytes)."""
    source: tuple[tuple[int, str], ...] = ()
    """Lines around the error, with their numbers."""
    locals: Mapping[str, Description] = field(default_factory=dict)
    in_app: bool = True
    repeated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One exception of the chain or group."""

    type: str
    module: str
    message: str
    notes: tuple[str, ...] = ()
    frames: tuple[Frame, ...] = ()
    cause: Failure | None = None
    context: Failure | None = None
    suppressed: Failure | None = None
    """The context that `raise … from` hid."""
    members: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInfo:
    """The request as far as the app had read it."""

    method: str
    """The HTTP method; `WEBSOCKET` for a websocket."""
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    cookies: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    client: str | None = None
    """The client's address, as `errata.client_ip` derives it."""
    route: str | None = None
    """The matched route's template, where the framework tells it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A database statement that ran before the error."""

    sql: str
    params: Description = None
    duration: float | None = None
    """Seconds."""
    timestamp: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crumb:
    """A log line or a note that was written before the error."""

    message: str
    level: str = "info"
    logger: str = ""
    timestamp: float = 0.0
    """Seconds since the epoch."""
    fields: Mapping[str, Description] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One error, and how many equal ones it stands for."""

    error_id: str
    failure: Failure
    fingerprint: str = ""
    count: int = 1
    timestamp: float = 0.0
    """Seconds since the epoch."""
    phase: Phase = "request"
    mechanism: Mechanism = "escaped"
    handled: bool = False
    """True when a handler claimed the exception."""
    status: int | None = None
    """The status that the client got; None where there was no answer to give."""
    duration: float | None = None
    """Seconds from the request's start to the capture."""
    request: RequestInfo | None = None
    queries: tuple[Query, ...] = ()
    crumbs: tuple[Crumb, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_outline(self) -> bool:
        """Whether nothing stands in it under a name: no locals, headers, fields."""
        failure, request = self.failure, self.request
        return not (
            failure.frames
            or failure.members
            or failure.cause
            or failure.context
            or failure.suppressed
            or self.queries
            or self.crumbs
            or (request and (request.headers or request.query or request.cookies or request.body))
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON data: containers, text and numbers only."""
        return {
            "error_id": self.error_id,
            "fingerprint": self.fingerprint,
            "count": self.count,
            "timestamp": self.timestamp,
            "phase": self.phase,
            "mechanism": self.mechanism,
            "handled": self.handled,
            "status": self.status,
            "duration": self.duration,
            "failure": _failure_to_dict(self.failure),
            "request": None if self.request is None else _request_to_dict(self.request),
            "queries": [
                {
                    "sql": query.sql,
                    "params": query.params,
                    "duration": query.duration,
                    "timestamp": query.timestamp,
                }
                for query in self.queries
            ],
            "crumbs": [
                {
                    "message": crumb.message,
                    "level": crumb.level,
                    "logger": crumb.logger,
                    "timestamp": crumb.timestamp,
                    "fields": dict(crumb.fields),
                }
                for crumb in self.crumbs
            ],
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Return the report that `to_dict()` made *data* of.

        Raises:
            KeyError: a required key is missing.
            TypeError: a key is unknown.
        """
        fields = dict(data)
        fields["failure"] = _failure_from_dict(fields["failure"])
        if fields.get("request") is not None:
            fields["request"] = _request_from_dict(fields["request"])
        fields["queries"] = tuple(Query(**query) for query in fields.get("queries", ()))
        fields["crumbs"] = tuple(Crumb(**crumb) for crumb in fields.get("crumbs", ()))
        return cls(**fields)


SafeReport = NewType("SafeReport", Report)
"""A report that a redactor has passed: only a redactor makes one, all that leaves takes it."""


class Sink(Protocol):
    """Where reports go: a tracker, a notifier, an SDK, any async or plain function."""

    def __call__(self, report: SafeReport, /) -> Awaitable[None] | None: ...


def _failure_to_dict(failure: Failure) -> dict[str, Any]:
    return {
        "type": failure.type,
        "module": failure.module,
        "message": failure.message,
        "notes": list(failure.notes),
        "frames": [_frame_to_dict(frame) for frame in failure.frames],
        "cause": failure.cause and _failure_to_dict(failure.cause),
        "context": failure.context and _failure_to_dict(failure.context),
        "suppressed": failure.suppressed and _failure_to_dict(failure.suppressed),
        "members": [_failure_to_dict(member) for member in failure.members],
    }


def _failure_from_dict(data: Mapping[str, Any]) -> Failure:
    fields = dict(data)
    fields["notes"] = tuple(fields.get("notes", ()))
    fields["frames"] = tuple(_frame_from_dict(frame) for frame in fields.get("frames", ()))
    fields["members"] = tuple(_failure_from_dict(member) for member in fields.get("members", ()))
    for link in ("cause", "context", "suppressed"):
        if fields.get(link) is not None:
            fields[link] = _failure_from_dict(fields[link])
    return Failure(**fields)


def _frame_to_dict(frame: Frame) -> dict[str, Any]:
    return {
        "file": frame.file,
        "function": frame.function,
        "module": frame.module,
        "line": frame.line,
        "columns": None if frame.columns is None else list(frame.columns),
        "source": [[number, text] for number, text in frame.source],
        "locals": dict(frame.locals),
        "in_app": frame.in_app,
        "repeated": frame.repeated,
    }


def _frame_from_dict(data: Mapping[str, Any]) -> Frame:
    fields = dict(data)
    if fields.get("columns") is not None:
        fields["columns"] = tuple(fields["columns"])
    fields["source"] = tuple((number, text) for number, text in fields.get("source", ()))
    return Frame(**fields)


def _request_to_dict(request: RequestInfo) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "query": [list(pair) for pair in request.query],
        "headers": [list(pair) for pair in request.headers],
        "cookies": [list(pair) for pair in request.cookies],
        "body": request.body,
        "client": request.client,
        "route": request.route,
    }


def _request_from_dict(data: Mapping[str, Any]) -> RequestInfo:
    fields = dict(data)
    for name in ("query", "headers", "cookies"):
        fields[name] = tuple((key, value) for key, value in fields.get(name, ()))
    return RequestInfo(**fields)
