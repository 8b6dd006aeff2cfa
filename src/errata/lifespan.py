"""The lifespan: its errors, and the last chance to deliver reports."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from starlette.types import Message, Receive, Scope, Send

from errata.report import Phase


class Lifespan:
    """What passes between the server and the app at startup and shutdown.

    A message that says it is over, or that it failed, waits: servers stop the loop once they
    have it. A failure waits until the app has raised what failed (or returned, or waits for
    more), the end of the shutdown until *drain* has delivered the reports.
    """

    phase: Phase = "lifespan"
    body = b""
    body_size = 0
    app_status = 0

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, drain: Callable[[], Awaitable[None]]
    ) -> None:
        self.scope = scope
        self._started = time.perf_counter()
        self._receive = receive
        self._send = send
        self._drain = drain
        self._failure: Message | None = None
        self.begun = False
        """Whether the app has received `lifespan.startup`: else it has no lifespan."""

    @property
    def duration(self) -> float:
        """Seconds since the lifespan began."""
        return time.perf_counter() - self._started

    async def receive(self) -> Message:
        """Receive for the app."""
        await self.pass_on_failure()
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            self.begun = True
        return message

    async def send(self, message: Message) -> None:
        """Send for the app."""
        if message["type"] in {"lifespan.startup.failed", "lifespan.shutdown.failed"}:
            self._failure = message
            return
        if message["type"] == "lifespan.shutdown.complete":
            await self._drain()
        await self._send(message)

    async def pass_on_failure(self, text: str | None = None) -> None:
        """Send the failure that waits; *text* takes the place of the app's own.

        An app writes its traceback into the message and the server logs it: a second time
        where errata has logged the error already.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            await self._drain()
            await self._send(failure if text is None else {**failure, "message": text})
