"""Exceptions that a framework swallows: seen through its hooks, raised again behind its back.

A framework that answers its own errors lets nothing out. A hook of the framework hands the
exception to `witness()`, which keeps it in the request's cell; when the framework is done the
exception is raised as if it had let it out. The cell is a mutable object in a ContextVar: a
task or thread of the request that copied the context fills the same one.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from errata.exceptions import http_status
from errata.report import Mechanism


class Cell:
    """What was seen in one request: the first exception, until somebody takes it."""

    __slots__ = ("exc", "mechanism")

    def __init__(self) -> None:
        self.exc: Exception | None = None
        self.mechanism: Mechanism = "escaped"

    def take(self) -> Exception | None:
        """Return the exception that was seen, once."""
        exc, self.exc = self.exc, None
        return exc


current_cell: Final[ContextVar[Cell | None]] = ContextVar("errata_cell", default=None)


def witness(exc: BaseException | None, mechanism: Mechanism = "hook") -> None:
    """Remember an exception that a framework is about to swallow; the first one counts.

    Outside of a request, for anything but an `Exception`, and for an HTTP exception below
    500, which is an answer and no error, nothing happens.
    """
    cell = current_cell.get()
    if cell is None or cell.exc is not None or not isinstance(exc, Exception):
        return
    http = http_status(exc)
    if http is None or http.status >= 500:
        cell.exc, cell.mechanism = exc, mechanism


def with_cell(app: ASGIApp) -> ASGIApp:
    """Return *app* with a cell around each request; what the cell holds at the end is raised."""

    async def app_with_cell(scope: Scope, receive: Receive, send: Send) -> None:
        cell = Cell()
        current_cell.set(cell)
        await app(scope, receive, send)
        exc = cell.take()
        if exc is not None:
            raise exc

    return app_with_cell
