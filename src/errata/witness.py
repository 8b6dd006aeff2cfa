"""Exceptions that a framework swallows: seen through its hooks, raised again behind its back.

A framework that answers its own errors lets nothing out. A hook of the framework hands the
exception to `witness()`, which keeps it in the request's cell; when the framework is done the
exception is raised as if it had let it out. The cell is a mutable object in a ContextVar: a
task or thread of the request that copied the context fills the same one.

The framework has the last word: an exception that it answers below 500 was handled, and is
forgotten. What it says to a websocket about an exception is a default of its own, some with
the exception's message in it: it is dropped, so that ours takes its place.

A task that a framework runs beside a request may fail before it, after it, or together with
it. Such an exception says nothing about the request's answer, and is reported by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from errata.defaults import MAX_DEFAULT_BODY, is_default_body
from errata.exceptions import http_status
from errata.report import Mechanism


TaskReport: TypeAlias = Callable[[Scope, Exception, Mechanism], Awaitable[None]]
"""Reports the exception of a task that was begun by the request of that scope."""

_log: Final = logging.getLogger("errata")


class Cell:
    """What was seen in one request: the first exception, until somebody takes it."""

    __slots__ = ("_ended", "exc", "logs", "mechanism", "report_task", "scope")

    def __init__(self, scope: Scope, report_task: TaskReport | None, *, logs: bool) -> None:
        self.exc: Exception | None = None
        self.mechanism: Mechanism = "escaped"
        self.scope = scope
        self.report_task = report_task
        self.logs = logs
        self._ended = False

    def see(self, exc: Exception, mechanism: Mechanism) -> None:
        """Remember the first exception that comes before the end."""
        if self.exc is None and not self._ended:
            self.exc, self.mechanism = exc, mechanism

    def take(self) -> Exception | None:
        """Return the exception that was seen, once."""
        exc, self.exc = self.exc, None
        return exc

    def forget(self) -> None:
        """Forget the exception that was seen: the framework has handled it."""
        self.exc, self.mechanism = None, "escaped"

    def end(self, escaped: Exception | None = None) -> Exception | None:
        """Return what the request must raise, and remember nothing from now on.

        An exception that got out comes first: it is what was seen, or followed upon it.
        """
        self._ended = True
        exc = self.take()
        if escaped is None:
            return exc
        self.mechanism = self.mechanism if escaped is exc else "escaped"
        return _unwrap(escaped)


class Sender:
    """The `send` of a request whose exceptions are watched.

    It is not a part of the cell, which lives as long as any task that copied the context.
    """

    __slots__ = ("_cell", "_denial", "_send")

    def __init__(self, cell: Cell, send: Send) -> None:
        self._cell = cell
        self._send = send
        self._denial: list[Message] | None = []
        """What is held back of a denial response; None once it is known to be the app's own."""

    def send(self, message: Message) -> Awaitable[None]:
        """Send for the app: at once, where no exception was seen."""
        return self._send(message) if self._cell.exc is None else self._send_after(message)

    async def _send_after(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and message["status"] < 500:
            self._cell.forget()
        if kind.startswith("websocket.http.response.") and self._denial is not None:
            await self._deny(self._denial, message)
        elif kind != "websocket.close":
            await self._send(message)

    async def _deny(self, held: list[Message], message: Message) -> None:
        """Hold a denial response back until it is known to be no default."""
        held.append(message)
        body = b"".join(each.get("body", b"") for each in held)
        is_whole = message["type"].endswith("body") and not message.get("more_body", False)
        if len(body) > MAX_DEFAULT_BODY or (is_whole and not _is_default(held[0], body)):
            self._denial = None
            for each in held:
                await self._send(each)


def _is_default(start: Message, body: bytes) -> bool:
    return is_default_body(start["status"], start.get("headers", ()), body)


current_cell: Final[ContextVar[Cell | None]] = ContextVar("errata_cell", default=None)


def nothing_seen() -> bool:
    """Tell whether no hook has shown an exception of this request so far."""
    cell = current_cell.get()
    return cell is None or cell.exc is None


def witness(exc: BaseException | None, mechanism: Mechanism = "hook") -> None:
    """Remember an exception that a framework is about to swallow; the first one counts.

    Outside of a request, for anything but an `Exception`, and for an HTTP exception of any
    status but 500, nothing happens: those are answers. 500 is what a framework's own faults
    have, as a default answer of 500 has that nobody explains.
    """
    cell = current_cell.get()
    if cell is not None and isinstance(exc, Exception) and _is_error(exc):
        cell.see(exc, mechanism)


async def witness_task(exc: BaseException | None, mechanism: Mechanism = "hook") -> None:
    """Report an exception of a task that a request has begun, be the request over or not."""
    cell = current_cell.get()
    if cell is None or cell.report_task is None or not isinstance(exc, Exception):
        return
    try:
        if _is_error(exc):
            await cell.report_task(cell.scope, exc, mechanism)
    except Exception:
        _log.exception("errata failed to report the exception of a task")


def _is_error(exc: Exception) -> bool:
    http = http_status(exc)
    return http is None or http.status == 500


def will_be_logged(exc: BaseException) -> bool:
    """Tell whether *exc* waits in this request's cell for somebody who logs it."""
    cell = current_cell.get()
    return cell is not None and cell.logs and cell.exc is exc


def with_cell(
    app: ASGIApp, report_task: TaskReport | None = None, *, logs: bool = False
) -> ASGIApp:
    """Return *app* with a cell around each request; what the cell holds at the end is raised.

    Without *report_task* the exceptions of tasks are nobody's. *logs*: whoever gets what is
    raised writes it to the log.
    """

    async def app_with_cell(scope: Scope, receive: Receive, send: Send) -> None:
        cell = Cell(scope, report_task, logs=logs)
        current_cell.set(cell)
        try:
            await app(scope, receive, Sender(cell, send).send)
        except Exception as exc:
            failure = cell.end(exc)
            if failure is exc:
                raise
        except BaseException:
            cell.end()
            raise
        else:
            failure = cell.end()
        if failure is not None:
            try:
                # Outside of the `except`: what it stood behind is not its context.
                raise failure
            finally:
                del failure

    return app_with_cell


# What Litestar raises in the place of an exception that comes after the response's start; from
# within several of its layers, each around the last.
_LITESTAR: Final = ("litestar.exceptions.base_exceptions", "LitestarException")
_LITESTAR_DETAIL: Final = "Exception caught after response started"
_LITESTAR_LAYERS: Final = 20


def _unwrap(exc: Exception) -> Exception:
    """Return the exception behind one with which a framework only says that it was too late."""
    for _ in range(_LITESTAR_LAYERS):
        cls, cause = type(exc), exc.__cause__
        if (cls.__module__, cls.__qualname__) != _LITESTAR or not isinstance(cause, Exception):
            break
        if getattr(exc, "detail", None) != _LITESTAR_DETAIL:
            break
        exc = cause
    return exc
