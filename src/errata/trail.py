"""What led here: the log lines, notes and queries of one request, bounded.

A `Trail` lives in one ContextVar slot for the length of a request. Where there is none
(production, unless asked for), recording costs one lookup and keeps nothing.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from errata.describe import Budget, describe
from errata.report import Crumb, Query


MAX_CRUMBS: Final = 100
MAX_QUERIES: Final = 100
"""The last of each a request: enough to see what led here, and constant memory."""

MAX_TEXT: Final = 4_000
"""Characters of a message or a statement."""

current_trail: Final[ContextVar[Trail | None]] = ContextVar("errata_trail", default=None)


class Trail:
    """The crumbs and queries of one request, the oldest forgotten first."""

    __slots__ = ("crumbs", "owner", "queries")

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.crumbs: deque[Crumb] = deque(maxlen=MAX_CRUMBS)
        self.queries: deque[Query] = deque(maxlen=MAX_QUERIES)


def with_trail(app: ASGIApp, owner: object) -> ASGIApp:
    """Return *app* with a trail around each of its requests, begun by *owner*.

    A request that raises leaves its trail behind for the report of the exception; whoever
    reports it calls `end_trail()`. An outer middleware's trail serves the inner one too.
    """

    async def app_with_trail(scope: Scope, receive: Receive, send: Send) -> None:
        if current_trail.get() is None:
            current_trail.set(Trail(id(owner)))
        await app(scope, receive, send)
        end_trail(owner)

    return app_with_trail


def end_trail(owner: object) -> None:
    """Forget this request's trail, if *owner* has begun it."""
    trail = current_trail.get()
    if trail is not None and trail.owner == id(owner):
        current_trail.set(None)


def note(message: str, **fields: Any) -> None:
    """Put a crumb on this request's trail; without a trail, nothing happens.

    Fields are described at once and bounded: no object of the caller is kept.
    """
    trail = current_trail.get()
    if trail is None:
        return
    budget = Budget()
    trail.crumbs.append(
        Crumb(
            message=budget.text(str(message), MAX_TEXT),
            logger="note",
            timestamp=time.time(),
            fields={name: describe(value, budget) for name, value in fields.items()},
        )
    )


def record_query(sql: str, params: Any = None, duration: float | None = None) -> None:
    """Put a database statement on this request's trail; without a trail, nothing happens.

    Args:
        sql: the statement's text, at most 4,000 characters of it are kept.
        params: what was bound to it; described at once and bounded.
        duration: seconds.
    """
    trail = current_trail.get()
    if trail is None:
        return
    budget = Budget()
    trail.queries.append(
        Query(
            sql=budget.text(str(sql), MAX_TEXT),
            params=describe(params, budget),
            duration=duration,
            timestamp=time.time(),
        )
    )


class TrailRecords:
    """A factory of log records that puts each on the trail of its request.

    Not a handler: one on the root logger makes `logging.basicConfig()` do nothing and takes
    away the output that warnings have where nobody has configured logging.
    """

    def __init__(self, factory: Callable[..., logging.LogRecord]) -> None:
        self._factory = factory

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        """Return a new record; its own arguments are formatted only where that is safe."""
        record = self._factory(*args, **kwargs)
        trail = current_trail.get()
        if trail is not None:
            trail.crumbs.append(
                Crumb(
                    message=Budget().text(_message(record), MAX_TEXT),
                    level=record.levelname.lower(),
                    logger=record.name,
                    timestamp=record.created,
                )
            )
        return record


def record_logging() -> None:
    """Let the standard library's log records leave crumbs, however often this is called."""
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, TrailRecords):
        logging.setLogRecordFactory(TrailRecords(factory))


_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


def _message(record: logging.LogRecord) -> str:
    """Format like `getMessage()`, but without calling an argument's own `__str__`."""
    message = record.msg if type(record.msg) is str else f"<{type(record.msg).__qualname__}>"
    if not record.args:
        return message
    args: Any = record.args
    if isinstance(args, dict):
        args = {key: _plain(value) for key, value in args.items()}
    else:
        args = tuple(_plain(value) for value in args)
    try:
        return str(message % args)
    except Exception:
        return message


def _plain(value: Any) -> Any:
    return value if type(value) in _PLAIN else f"<{type(value).__qualname__}>"
