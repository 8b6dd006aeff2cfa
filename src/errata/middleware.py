"""The middleware: one error's journey from the app's fall to the people who must know.

Theory of operation. `__call__` gives the app a watched conversation (`exchange`,
`websocket`, `lifespan`) and waits. Whatever does not end well comes to one of these:

- `_failed`: an exception came out. One from before the response is answered, one from
  within it aborts it, one from after it is only reported.
- `_returned`: the app came back; its response may be held back, or not even finished.
- `settle`: an error answer of the app's own is complete and held back, and nothing was
  raised. It is a framework's default, and then ours takes its place, or it is released.

`_answer` asks the handlers, then the debug page, then the generic answer; the report goes
on its way when the client has its answer.

Rules for whoever edits this file: the app's exception goes out again only where the table
"what happens when" says so, and the very same object does; no fault of our own reaches the
app or the server, other than as a plain 500 where nothing was sent yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from os import PathLike
from time import perf_counter
from traceback import walk_tb
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from errata.answers import Answers
from errata.asgi2 import as_asgi3
from errata.client import TrustedProxies
from errata.connect import connect as connect_framework
from errata.exceptions import (
    ASGIProtocolError,
    UnexplainedError,
    forget_traceback,
    is_disconnect,
    meet,
    raised_in,
)
from errata.exchange import (
    BODY,
    DONE,
    HELD,
    NEW,
    TAIL,
    Exchange,
    Slate,
    engage,
    watch,
)
from errata.handlers import NO_ERRORS, Claim, ExceptionHandlers, Key
from errata.journey import Aside, Journey, sight
from errata.lifespan import Lifespan
from errata.logging import attach_server_filter, let_out
from errata.redaction import Redactor
from errata.report import Mechanism, Sink
from errata.reporter import Reporter
from errata.trail import end_trail, record_logging, with_trail
from errata.websocket import CONNECTING, DENYING, INTERNAL_ERROR, REASON, Conversation
from errata.witness import current_cell, with_cell


if TYPE_CHECKING:
    import jinja2

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

DRAIN_TIMEOUT: Final = 5.0
"""Seconds that a shutdown waits for the sinks: half of what servers give it by default."""

_log: Final = logging.getLogger("errata")


class ErrorMiddleware:
    """Catch, answer, log and report what the wrapped ASGI app lets fall.

    Args:
        app: any ASGI application.
        handlers: who answers for which exception or status; `exception_handler` adds to it.
        debug: show *debug_clients* what went wrong.
        report_to: sinks, async or plain functions of one `SafeReport`.
        redactor: what every report passes before it leaves; None: `Redactor()`.
        raise_unhandled: raise again, after the answer, what no handler claimed.
        body_limit: bytes of the request's body that are kept for handlers and reports.
        trusted_proxies: networks, or a `TrustedProxies`, whose forwarding headers count.
        debug_clients: networks and literal peer names that may see the debug page.
        problem_json: answer RFC 9457 problem details wherever JSON is accepted.
        templates: a directory or Jinja2 environment with `404.html`, `500.html`, `error.html`.
        editor: `"vscode"`, `"pycharm"`, `"cursor"`, `"zed"`, `"vim"` or a URL template.
        path_map: pairs of container and host prefix for the editor's links.
        trail: record log lines and queries of each request; None: in debug only.
        log: write one line for each error through structlog.
        report_handled: report also what a handler answered below 500.
        connect: hook into a framework that swallows its exceptions.

    Raises:
        TypeError: *app*, *handlers*, *redactor* or a sink is of the wrong kind.
        ValueError: a network, editor, limit or template directory that cannot be used.
    """

    def __init__(
        self,
        app: Any,
        *,
        handlers: ExceptionHandlers | None = None,
        debug: bool = False,
        report_to: Sequence[Sink] = (),
        redactor: Redactor | None = None,
        raise_unhandled: bool = False,
        body_limit: int = 65_536,
        trusted_proxies: Iterable[str] | TrustedProxies = (),
        debug_clients: Iterable[str] = ("127.0.0.0/8", "::1"),
        problem_json: bool = False,
        templates: str | PathLike[str] | jinja2.Environment | None = None,
        editor: str | None = None,
        path_map: Iterable[tuple[str, str]] = (),
        trail: bool | None = None,
        log: bool = True,
        report_handled: bool = False,
        connect: bool = True,
    ) -> None:
        self.app = as_asgi3(app)
        given = _check_kind("handlers", handlers, ExceptionHandlers, "register on one")
        self.handlers: ExceptionHandlers = given or ExceptionHandlers()
        self.body_limit = _check_limit(body_limit)
        self.disconnects = 0
        """Requests that ended because the client went away: other servers log them as 499."""
        self._raise_unhandled = raise_unhandled
        proxies = TrustedProxies.of(trusted_proxies)
        self._answers = Answers(
            debug=debug,
            debug_clients=debug_clients,
            problem_json=problem_json,
            templates=templates,
            editor=editor,
            path_map=path_map,
        )
        self._reporter = Reporter(
            owner=self,
            sinks=_check_sinks(report_to),
            redactor=_check_kind("redactor", redactor, Redactor, "give a Redactor") or Redactor(),
            trusted_proxies=proxies,
            log=log,
        )
        self._journey = Journey(
            owner=self,
            answers=self._answers,
            reporter=self._reporter,
            trusted_proxies=proxies,
            raise_unhandled=raise_unhandled,
            report_handled=report_handled,
        )
        self.passing = NO_ERRORS
        if not debug and templates is None:
            self.handlers.follow(self)
        self._app = self.app
        self._framework = connect_framework(self.app, log=log) if connect else None
        if self._framework not in {None, "starlette"}:
            self._app = with_cell(self._app, self._report_task, logs=log)
        if debug if trail is None else trail:
            record_logging()
            self._app = with_trail(self._app, self)
        if log:
            attach_server_filter()

    def exception_handler(self, *keys: Key) -> Callable[[HandlerT], HandlerT]:
        """Register the decorated function, as `ExceptionHandlers.exception_handler` does."""
        return self.handlers.exception_handler(*keys)

    def __repr__(self) -> str:
        connected = f", connected to {self._framework}" if self._framework else ""
        return f"<ErrorMiddleware around {self.app!r:.200}{connected}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._serve_other(scope, receive, send)
            return
        slate: Slate = [self, scope, receive, send, perf_counter(), None, None, None, None]
        relay = MethodType(watch, slate)
        try:
            await self._app(scope, relay, relay)
            body = slate[BODY]
            # Not `get`: most bodies have no such key, and a look is half of a call.
            if body is None or ("more_body" in body and body["more_body"]):  # noqa: RUF019
                await self._returned(engage(slate))
        except Exception as exc:
            again = await self._failed(engage(slate), exc)
            end_trail(self)
            if again:
                let_out(exc)
                raise
            forget_traceback(exc)
        except BaseException:
            engage(slate).abandon()
            end_trail(self)
            raise

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._serve_websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._serve_lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def drain(self, timeout: float = DRAIN_TIMEOUT) -> bool:  # noqa: ASYNC109 - never raises
        """Wait until the sinks have every report; return False if *timeout* was too short.

        The shutdown of the lifespan does it by itself; this is for tests and scripts.
        """
        return await self._reporter.drain(timeout)

    # ── http ────────────────────────────────────────────────────────────────────────

    async def _returned(self, exchange: Exchange) -> None:
        await exchange.quiesce()
        if exchange.state != DONE and exchange.disconnected:
            self.disconnects += 1
        if exchange.state == HELD and exchange.held_complete:
            await self.settle(exchange)
        elif exchange.state == TAIL:
            await exchange.finish()
        elif exchange.state != DONE and not exchange.disconnected:
            what = "starting" if exchange.state == NEW else "completing"
            raise ASGIProtocolError(f"the application returned without {what} its response")

    async def _failed(self, exchange: Exchange, exc: Exception) -> bool:
        """Deal with an exception of the app; return True if it must go out again."""
        await exchange.quiesce()
        if _is_gone(exchange, exc):
            self.disconnects += 1
            return False
        if meet(exc, by=self) is not None:
            # An inner middleware has reported it, and answered or begun to.
            await exchange.release()
        elif exchange.state in {NEW, HELD}:
            return await self._answer_safely(exchange, exc)
        else:
            await self._journey.report(sight(exchange, exc))
        return exchange.state != DONE or self._raise_unhandled

    async def settle(self, exchange: Exchange) -> None:
        """Release a complete held answer, or answer in its place if it is a default."""
        try:
            exc = _swallowed(exchange)
            if exc is not None:
                await self._journey.answer(exchange, exc, self.handlers.claims(exc))
            elif exchange.has_own_answer or exchange.scope.get("method") == "HEAD":
                await exchange.release()
            else:
                await self._answer_default(exchange, exchange.app_status)
        except Exception as fault:
            _log_fault(fault, "an error answer of the application")
            await exchange.release()

    async def _answer_default(self, exchange: Exchange, status: int) -> None:
        """Answer in the place of a framework's default: no exception was to be seen."""
        default = HTTPException(status)
        handler = self.handlers.resolve_default(default)
        claims = [] if handler is None else [Claim(handler, default)]
        if status == 500:
            unexplained = UnexplainedError(
                "the application answered with its framework's default 500 and raised nothing"
            )
            await self._journey.answer(exchange, unexplained, claims, mechanism="unexplained")
        elif claims:
            await self._journey.answer(exchange, default, claims, is_error=False)
        elif status > 500:
            await self._journey.send(exchange, self._answers.generic(exchange.scope, status))
        elif page := self._answers.page_for_default(exchange.scope, status):
            await self._journey.send(exchange, page)
        else:
            await exchange.release()

    # ── websocket and lifespan ──────────────────────────────────────────────────────

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        conversation = Conversation(scope, receive, send)
        try:
            await self._app(scope, conversation.receive, conversation.send)
            if conversation.state in {CONNECTING, DENYING} and not conversation.disconnected:
                raise ASGIProtocolError("the application returned without accepting or closing")
        except Exception as exc:
            again = await self._failed_websocket(conversation, exc)
            end_trail(self)
            if again:
                let_out(exc)
                raise
            forget_traceback(exc)

    async def _failed_websocket(self, conversation: Conversation, exc: Exception) -> bool:
        if _is_gone(conversation, exc):
            self.disconnects += 1
            return False
        if meet(exc, by=self) is None:
            if conversation.state == CONNECTING:
                return await self._answer_safely(conversation, exc)
            sighting = sight(conversation, exc)
            with suppress(Exception):
                await conversation.close(INTERNAL_ERROR, f"{REASON} {sighting.error_id}")
            await self._journey.report(sighting)
        return conversation.state == DENYING or self._raise_unhandled

    async def _serve_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def drain() -> None:
            await self.drain()

        lifespan = Lifespan(scope, receive, send, drain)
        try:
            await self.app(scope, lifespan.receive, lifespan.send)
        except Exception as exc:
            text = None
            if lifespan.begun and meet(exc, by=self) is None:
                sighting = sight(lifespan, exc)
                text = f"{type(exc).__qualname__} (errata {sighting.error_id})"
                await self._journey.report(sighting)
            await lifespan.pass_on_failure(text)
            await self.drain()
            raise
        await lifespan.pass_on_failure()

    async def _report_task(self, scope: Scope, exc: Exception, mechanism: Mechanism) -> None:
        """Report the exception of a task that the framework runs beside its request."""
        if meet(exc, by=self) is None:
            await self._journey.report(sight(Aside(scope), exc, mechanism=mechanism))

    async def _answer_safely(self, channel: Exchange | Conversation, exc: Exception) -> bool:
        try:
            return await self._journey.answer(channel, exc, self.handlers.claims(exc))
        except Exception as fault:
            _log_fault(fault, type(exc).__qualname__)
            response = JSONResponse({"error": "Internal server error"}, 500)
            await self._journey.send(channel, response)
            return self._raise_unhandled


def _log_fault(fault: Exception, subject: str) -> None:
    """Log a fault of our own: where it is, and never what the exceptions say."""
    places = walk_tb(fault.__traceback__)
    path = " > ".join(f"{frame.f_code.co_qualname}:{line}" for frame, line in places)
    _log.error("errata failed with %s on %s (%s)", type(fault).__qualname__, subject, path)


def _swallowed(exchange: Exchange) -> Exception | None:
    """Return the exception behind a 5xx that the framework swallowed, if a hook has shown it."""
    cell = current_cell.get()
    return cell.take() if cell is not None and exchange.app_status >= 500 else None


def _is_gone(channel: Exchange | Conversation, exc: Exception) -> bool:
    """Tell whether *exc* only says that the client went away."""
    if is_disconnect(exc):
        return True
    if isinstance(exc, OSError):
        # ASGI: a server's send may raise an OSError of its own once the client has gone.
        return channel.disconnected or raised_in(exc, channel.server_send)
    # Starlette's BaseHTTPMiddleware, when the client leaves before the response.
    return channel.disconnected and isinstance(exc, RuntimeError) and exc.args == (_NO_RESPONSE,)


_NO_RESPONSE: Final = "No response returned."


def _check_kind(name: str, value: Any, kind: type, example: str) -> Any:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r:.200}, not {kind.__qualname__}; {example}")
    return value


def _check_sinks(sinks: Any) -> Sequence[Sink]:
    if callable(sinks) or not isinstance(sinks, Iterable):
        raise TypeError(
            f"report_to is {sinks!r:.200}; give a list of sinks, as in report_to=[sink]"
        )
    return tuple(sinks)


def _check_limit(limit: Any) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ValueError(f"body_limit is {limit!r}; give a number of bytes, 0 or more")
    return limit
