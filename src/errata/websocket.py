"""One websocket: watched while the app talks, refused or closed when it fails."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from errata.exceptions import ASGIProtocolError
from errata.reply import Reply
from errata.report import Phase
from errata.request import BodyReplay


CONNECTING: Final = 0
CONNECTED: Final = 1
DENYING: Final = 2
CLOSED: Final = 3

INTERNAL_ERROR: Final = 1011
POLICY_VIOLATION: Final = 1008
"""Close codes of RFC 6455, section 7.4.1."""

REASON: Final = "Internal server error"
"""Tells nothing; with an error id behind it 55 of the 123 bytes that a reason may have."""

_LEGAL: Final = {
    (CONNECTING, "websocket.accept"): CONNECTED,
    (CONNECTING, "websocket.close"): CLOSED,
    (CONNECTING, "websocket.http.response.start"): DENYING,
    (CONNECTED, "websocket.send"): CONNECTED,
    (CONNECTED, "websocket.close"): CLOSED,
    (DENYING, "websocket.http.response.body"): DENYING,
}


class Conversation:
    """What passes between the server and the app in one websocket."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.state = CONNECTING
        self.disconnected = False
        self.started = time.perf_counter()
        self._receive = receive
        self.server_send = send

    async def receive(self) -> Message:
        """Receive for the app, and notice when the client leaves."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.disconnected = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Send for the app, if ASGI allows the message here."""
        kind = message["type"]
        state = _LEGAL.get((self.state, kind))
        if state is None or (state == DENYING and not self.can_deny):
            raise ASGIProtocolError(
                f"the application sent {kind!r} in the phase {self.phase!r}; ASGI allows accept,"
                " close or a denial response first, then send and one close"
            )
        if state == DENYING and kind.endswith("body") and not message.get("more_body", False):
            state = CLOSED
        self.state = state
        return self.server_send(message)

    body_size = 0
    has_own_answer = False
    app_status = 0

    @property
    def phase(self) -> Phase:
        """Where an exception that comes now happened."""
        return "websocket_handshake" if self.state == CONNECTING else "websocket"

    @property
    def duration(self) -> float:
        """Seconds since the handshake began."""
        return time.perf_counter() - self.started

    @property
    def body(self) -> bytes:
        """A handshake has no body."""
        return b""

    def replay(self) -> BodyReplay:
        """Return the empty body that a handler of a failed handshake may read."""
        return BodyReplay(b"", size=0, complete=True, limit=0, receive=self._receive)

    async def release(self, extra_headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Do nothing: a handshake's answer is never held back."""

    @property
    def can_deny(self) -> bool:
        """Whether the server can answer the handshake with an HTTP response."""
        return "websocket.http.response" in (self.scope.get("extensions") or {})

    def reply(self, error_id: str | None) -> Reply:
        """Return the sender of a denial response.

        Where the server has none, the answer goes nowhere and only its status counts:
        `refuse()` then closes.
        """
        if not self.can_deny:
            return Reply(_discard, error_id=error_id)
        return Reply(self.server_send, error_id=error_id, prefix="websocket.")

    async def replied(self, reply: Reply) -> None:
        """Take note of how far *reply* came; close where it could not be sent."""
        if not reply.started:
            return
        if self.can_deny:
            self.state = CLOSED if reply.complete else DENYING
        else:
            await self.close(INTERNAL_ERROR if reply.status >= 500 else POLICY_VIOLATION)

    async def close(self, code: int, reason: str = "") -> None:
        """Close, unless it is closed, being refused, or the client has left."""
        if self.state in {CONNECTING, CONNECTED} and not self.disconnected:
            self.state = CLOSED
            await self.server_send({"type": "websocket.close", "code": code, "reason": reason})


async def _discard(message: Message) -> None:
    """Send nowhere."""
