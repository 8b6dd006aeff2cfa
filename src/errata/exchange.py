"""One HTTP request and its response: watched while the app talks, held back where needed.

Theory of operation. The states follow the response, and only these steps exist:

    NEW ──start──▶ OPEN ──last body──▶ DONE
     │               └──empty last body after chunks──▶ TAIL ──timer or return──▶ DONE
     └──start of an error answer──▶ HELD ──settled, or over HOLD_LIMIT──▶ OPEN or DONE

In NEW and HELD the client has nothing yet: an answer of ours can take the app's place.
In OPEN and TAIL it has a part: only an abort tells it so. In DONE it has everything.

TAIL exists because a middleware inside may close a body properly although the stream
behind it failed (Starlette's BaseHTTPMiddleware does), and raise only then. The end of a
streamed body therefore waits until the app returns, or for `GRACE` where it goes on with
a background task; if the app raises first, the end is never sent and the client knows.

A plain answer in one piece never needs all this. Until anything else happens a request is a
`Slate`, a list watched by two functions, because it counts nanoseconds there: a list and
two bound functions cost half of what an object or a handful of closure cells do.
`engage()` makes the Exchange of it.

Whoever edits this file keeps one rule: a state is changed before the first await of its
step, so that a timer and the app never take the same step twice.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Any, Final, Protocol, TypeAlias

from starlette.types import Message, Receive, Scope, Send

from errata.defaults import is_default_body
from errata.exceptions import ASGIProtocolError
from errata.reply import Reply
from errata.report import Phase
from errata.request import BodyReplay
from errata.timers import Timer, start_timer
from errata.witness import nothing_seen


NEW: Final = 0
HELD: Final = 1
OPEN: Final = 2
TAIL: Final = 3
DONE: Final = 4

HOLD_LIMIT: Final = 65_536
"""Bytes of an error answer that are held back; a framework's default is far shorter."""

WITNESSED_HOLD_LIMIT: Final = 131_072
"""The same where a framework's hook has shown an exception: Sanic's own page has 70 KB."""

GRACE: Final = 0.05
"""Seconds that a complete answer waits for an exception to follow it. The exception comes in
microseconds where there is one; a client of an app with background tasks waits this long."""

_PHASES: Final[dict[int, Phase]] = {
    NEW: "request",
    HELD: "request",
    OPEN: "streaming",
    TAIL: "streaming",
    DONE: "background",
}


class Owner(Protocol):
    """Who decides about held answers."""

    passing: frozenset[int]
    """The statuses whose answers need not be held back."""
    body_limit: int

    async def settle(self, exchange: Exchange) -> None:
        """Release or replace the complete held answer of *exchange*."""


Slate: TypeAlias = list[Any]
"""What is known of a request that goes well; the places have names:"""

OWNER: Final = 0
SCOPE: Final = 1
RECEIVE: Final = 2
SEND: Final = 3
BEGAN: Final = 4
START: Final = 5
BODY: Final = 6
RECEIVED: Final = 7
EXCHANGE: Final = 8

ENGAGED: Final[Message] = {"more_body": True}
"""Stands in the places of the messages once there is an exchange, which then has them."""


_NOTHING: Final[Any] = object()


def watch(slate: Slate, message: Message = _NOTHING) -> Awaitable[Any]:
    """Send *message*, or receive if there is none: both in one, to bind only one function.

    A start and one body pass on from here; everything else is the exchange's.
    """
    # The places by number: eight global names are a thirtieth of what a request pays for us.
    if message is _NOTHING:
        return _watch_receive(slate)
    if slate[5] is None:  # START
        if message["type"] == "http.response.start" and message["status"] in slate[0].passing:
            slate[5] = message
            return slate[3](message)  # type: ignore[no-any-return]
    elif slate[6] is None and message["type"] == "http.response.body":  # BODY
        slate[6] = message
        return slate[3](message)  # type: ignore[no-any-return]
    return engage(slate).send(message)


async def _watch_receive(slate: Slate) -> Message:
    """Keep the first message by reference; leave the others to the exchange."""
    if slate[RECEIVED] is not None:
        return await engage(slate).receive()
    message: Message = await slate[RECEIVE]()
    if slate[RECEIVED] is None:
        slate[RECEIVED] = message
    else:
        # While this call waited, another one received or an exchange began.
        engage(slate).note(message)
    return message


def engage(slate: Slate) -> Exchange:
    """Return the exchange of *slate*; it is made when it is first needed."""
    exchange: Exchange | None = slate[EXCHANGE]
    if exchange is None:
        exchange = slate[EXCHANGE] = Exchange(slate)
        slate[START] = slate[BODY] = slate[RECEIVED] = ENGAGED
    return exchange


class Exchange:
    """What passes between the server and the app in one HTTP request."""

    state = NEW
    held_complete = False
    disconnected = False
    body_complete = False
    body_size = 0
    _chunked = False
    _trailers_complete = False
    _chunks: list[bytes] | None = None
    _held: list[Message] | None = None
    _held_size = 0
    _timer: Timer | None = None
    _tail: Message | None = None

    def __init__(self, slate: Slate) -> None:
        self._owner: Owner = slate[OWNER]
        self.scope: Scope = slate[SCOPE]
        self._receive: Receive = slate[RECEIVE]
        self.server_send: Send = slate[SEND]
        self._began: float = slate[BEGAN]
        self.start: Message | None = slate[START]
        if slate[RECEIVED] is not None:
            self.note(slate[RECEIVED])
        if slate[BODY] is not None:
            self._chunked = bool(slate[BODY].get("more_body", False))
            self.state = OPEN if self._chunked else DONE
        elif self.start is not None:
            self.state = OPEN

    @property
    def phase(self) -> Phase:
        """Where an exception that comes now happened."""
        return _PHASES[self.state]

    # ── the app's side ──────────────────────────────────────────────────────────────

    async def receive(self) -> Message:
        """Receive for the app, and remember the body's chunks by reference."""
        message = await self._receive()
        self.note(message)
        return message

    def note(self, message: Message) -> None:
        """Take note of a message from the client."""
        kind = message["type"]
        if kind == "http.request":
            chunk = message.get("body")
            if chunk:
                if self.body_size < self._owner.body_limit:
                    if self._chunks is None:
                        self._chunks = []
                    self._chunks.append(chunk)
                self.body_size += len(chunk)
            if not message.get("more_body", False):
                self.body_complete = True
        elif kind == "http.disconnect":
            self.disconnected = True

    def send(self, message: Message) -> Awaitable[None]:
        """Send for the app: at once, later, or never."""
        if message["type"] == "http.response.body" and self.state == OPEN:
            if message.get("more_body", False):
                self._chunked = True
                return self.server_send(message)
            if not self._chunked or message.get("body"):
                self.state = DONE
                return self.server_send(message)
        return self._send_unusual(message)

    async def _send_unusual(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and self.state == NEW:
            await self._hold(message)
        elif kind == "http.response.body" and self.state == HELD and not self.held_complete:
            await self._hold_body(message)
        elif kind == "http.response.body" and self.state == OPEN:
            self._defer(message)
        elif kind == "http.response.trailers" and self._expects_trailers:
            await self.release()
            await self.finish()
            self._trailers_complete = not message.get("more_trailers", False)
            await self.server_send(message)
        elif self._is_extension(kind):
            await self._send_extension(message)
        else:
            raise ASGIProtocolError(
                f"the application sent {kind!r} in the phase {self.phase!r}; ASGI allows one"
                " http.response.start, then http.response.body until more_body is false"
            )

    # ── holding back ────────────────────────────────────────────────────────────────

    async def _hold(self, start: Message) -> None:
        status = start["status"]
        if not isinstance(status, int) or not 100 <= status <= 599:
            raise ASGIProtocolError(
                f"the application sent the status {status!r}; HTTP has 100 to 599"
            )
        # Sanic's headers are a generator: whoever looks at them must keep them.
        self.start = start = {**start, "headers": list(start.get("headers", ()))}
        if status in self._owner.passing or _is_event_stream(start):
            self.state = OPEN
            await self.server_send(start)
            return
        self._held = []
        self.state = HELD

    async def _hold_body(self, message: Message) -> None:
        held = self._held if self._held is not None else []
        held.append(message)
        self._held_size += len(message.get("body", b""))
        self.held_complete = not message.get("more_body", False)
        if self._held_size > (HOLD_LIMIT if nothing_seen() else WITNESSED_HOLD_LIMIT):
            await self.release()
        elif self.held_complete:
            if self.app_status >= 500:
                self._timer = start_timer(GRACE, self._settle)
            else:
                # Nothing follows a 4xx: an exception behind it is a background task's.
                await self._settle()

    async def _settle(self) -> None:
        if self.state == HELD:
            await self._owner.settle(self)

    @property
    def app_status(self) -> int:
        """The status of the app's own answer, sent or held back; 0 before its start."""
        return self.start["status"] if self.start is not None else 0

    @property
    def has_own_answer(self) -> bool:
        """Whether a complete answer is held back that no framework writes by default."""
        return (
            self.state == HELD
            and self.held_complete
            and not is_default_body(self.app_status, self.held_headers, self.held_body)
        )

    @property
    def held_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the app's own answer while it is held back, else none."""
        if self.state != HELD or self.start is None:
            return []
        return [(bytes(name), bytes(value)) for name, value in self.start.get("headers", ())]

    @property
    def held_body(self) -> bytes:
        """What the app has sent of the held answer's body."""
        return b"".join(message.get("body", b"") for message in self._held or ())

    async def release(self, extra_headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send the held answer as the app wrote it, with *extra_headers* added."""
        start, held = self.start, self._held
        if self.state != HELD or start is None or held is None:
            return
        self.state = DONE if self.held_complete else OPEN
        self._chunked = True
        extra = list(extra_headers)
        if extra:
            start = {**start, "headers": [*start.get("headers", ()), *extra]}
        self._held = None
        await self.server_send(start)
        for message in held:
            await self.server_send(message)

    # ── the end of a streamed body ──────────────────────────────────────────────────

    def _defer(self, tail: Message) -> None:
        self._tail = tail
        self.state = TAIL
        self._timer = start_timer(GRACE, self._send_tail)

    async def _send_tail(self) -> None:
        if self.state == TAIL and self._tail is not None:
            self.state = DONE
            await self.server_send(self._tail)

    async def finish(self) -> None:
        """Send the deferred end of the body, if there is one."""
        await self.quiesce()
        await self._send_tail()

    async def quiesce(self) -> None:
        """Stop the timer; if it has begun its step, wait for the step's end."""
        timer, self._timer = self._timer, None
        if timer is not None and not timer.cancel():
            with suppress(Exception):
                await timer.wait()

    # ── extensions ──────────────────────────────────────────────────────────────────

    @property
    def _expects_trailers(self) -> bool:
        if self.start is None or not self.start.get("trailers") or self._trailers_complete:
            return False
        return self.state in {TAIL, DONE} or self.held_complete

    def _is_extension(self, kind: str) -> bool:
        extensions = self.scope.get("extensions") or {}
        return kind in extensions and kind != "http.response.trailers" and self.state < TAIL

    async def _send_extension(self, message: Message) -> None:
        kind = message["type"]
        if kind in {"http.response.pathsend", "http.response.zerocopysend"}:
            if self.state == NEW:
                raise ASGIProtocolError(f"the application sent {kind!r} before the start")
            await self.release()
            if not message.get("more_body", False):
                self.state = DONE
        await self.server_send(message)

    # ── our side ────────────────────────────────────────────────────────────────────

    @property
    def body(self) -> bytes:
        """The request's body as far as the app has read it, at most `body_limit` bytes."""
        return b"".join(self._chunks or ())[: self._owner.body_limit]

    @property
    def duration(self) -> float:
        """Seconds since the request came in."""
        return time.perf_counter() - self._began

    def replay(self) -> BodyReplay:
        """Return a `receive` for a handler: what the app has read, then what is left."""
        return BodyReplay(
            self.body,
            size=self.body_size,
            complete=self.body_complete,
            limit=self._owner.body_limit,
            receive=self.receive,
        )

    def reply(self, error_id: str | None) -> Reply:
        """Return the sender of an answer in the place of the app's own."""
        return Reply(
            self.server_send,
            error_id=error_id,
            held_headers=self.held_headers,
            head=self.scope.get("method") == "HEAD",
        )

    async def replied(self, reply: Reply) -> None:
        """Take note of how far *reply* came."""
        if reply.started:
            self.state = DONE if reply.complete else OPEN
            self._held = None

    def abandon(self) -> None:
        """Let go on the way out of a cancellation: nothing new is begun."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def _is_event_stream(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in start.get("headers", ())
    )
