"""The request that handlers get: readable although the app has read it before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import anyio
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from errata.client import TrustedProxies, client_ip


READ_ON_TIMEOUT: Final = 5.0
"""Seconds that a handler waits for the part of the body that the app did not read: a slow
upload must not hold an error answer back for longer."""


class BodyReplay:
    """A `receive` that begins with the chunks that the app has read and then reads on.

    At most *limit* bytes are kept. `truncated` is true once more than that was sent, the
    client went away, or `READ_ON_TIMEOUT` passed before the end.
    """

    def __init__(
        self, read: bytes, *, size: int, complete: bool, limit: int, receive: Receive
    ) -> None:
        self._chunks = [read]
        self._size = size
        self._limit = limit
        self._receive = receive
        self._complete = complete
        self._replayed = False
        self.truncated = size > limit

    async def __call__(self) -> Message:
        if self._replayed:
            return await self._receive()
        self._replayed = True
        if not self._complete and not self.truncated:
            self.truncated = True
            with anyio.move_on_after(READ_ON_TIMEOUT):
                self.truncated = not await self._read_on()
        body = b"".join(self._chunks)[: self._limit]
        return {"type": "http.request", "body": body, "more_body": False}

    async def _read_on(self) -> bool:
        """Read to the end; return False if the limit or the client's leaving came first."""
        while self._size <= self._limit:
            message = await self._receive()
            if message["type"] != "http.request":
                return False
            chunk = message.get("body", b"")
            self._chunks.append(chunk)
            self._size += len(chunk)
            if not message.get("more_body", False):
                return self._size <= self._limit
        return False


class ErrorRequest(Request):
    """A Starlette request whose `body()`, `json()` and `form()` work in an error handler."""

    def __init__(
        self,
        scope: Scope,
        body: BodyReplay,
        *,
        error_id: str,
        trusted_proxies: Iterable[str] | TrustedProxies = (),
    ) -> None:
        super().__init__(scope, receive=body)
        self._replay = body
        self._trusted_proxies = trusted_proxies
        self.error_id = error_id

    @property
    def body_truncated(self) -> bool:
        """Whether `body()` is only the beginning of what the client sent.

        Final once the body has been read: the limit is `ErrorMiddleware`'s `body_limit`.
        """
        return self._replay.truncated

    @property
    def client_ip(self) -> str | None:
        """The client's address, proxies honoured as `trusted_proxies` says."""
        return client_ip(self.scope, self._trusted_proxies)
