"""An answer of ours on its way to the client: made legal, marked and never cached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias, TypeGuard

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from errata.exceptions import ASGIProtocolError


RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]

# These describe the body that is replaced; every other header of a held answer survives
# (access-control-*, vary, request ids, cookies, allow, retry-after, security headers).
_OF_THE_BODY: Final = frozenset(
    {
        b"accept-ranges",
        b"age",
        b"cache-control",
        b"content-disposition",
        b"content-encoding",
        b"content-language",
        b"content-length",
        b"content-location",
        b"content-md5",
        b"content-range",
        b"content-security-policy",
        b"content-type",
        b"digest",
        b"etag",
        b"expires",
        b"last-modified",
        b"pragma",
        b"trailer",
        b"transfer-encoding",
    }
)

# The answer may hold these as well: a browser takes every line of them.
_REPEATABLE: Final = frozenset({b"set-cookie", b"vary", b"link", b"www-authenticate"})


class Reply:
    """The `send` of one answer: passes on a legal response with the headers ours must have.

    `started`, `complete` and `status` tell how far it came; `broken`, that the server
    refused a message, as it does when the client has gone.
    """

    def __init__(
        self,
        send: Send,
        *,
        error_id: str | None,
        held_headers: RawHeaders = (),
        head: bool = False,
        prefix: str = "",
    ) -> None:
        self._send = send
        self._error_id = error_id
        self._held_headers = held_headers
        self._head = head
        self._start = f"{prefix}http.response.start"
        self._body = f"{prefix}http.response.body"
        self.started = False
        self.complete = False
        self.broken = False
        self.status = 0

    async def run(self, answer: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Let *answer* answer the request; whatever it raises comes out.

        The answer sees no server extensions, so that start and body are all it can send,
        and an `http` scope also for a refused websocket.
        """
        if _is_ready(answer):
            await self._send_ready(answer)
            return
        plain = {**scope, "type": "http", "method": scope.get("method", "GET"), "extensions": {}}
        await answer(plain, receive, self)
        if not self.complete:
            raise ASGIProtocolError(
                f"the answer {answer!r:.200} ended before its response was complete"
            )

    async def _send_ready(self, answer: Response) -> None:
        """Send a response that is one piece of bytes: most are, and a storm sends many."""
        headers = self._headers(answer.raw_headers)
        self.status = answer.status_code
        self.started = True
        body = b"" if self._head else answer.body
        try:
            await self._send({"type": self._start, "status": self.status, "headers": headers})
            self.complete = True
            await self._send({"type": self._body, "body": body, "more_body": False})
        except Exception:
            self.broken = True
            raise

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and not self.started:
            headers = self._headers(message.get("headers", ()))
            self.status = int(message["status"])
            self.started = True
            start = {"type": self._start, "status": self.status, "headers": headers}
            await self._pass(start)
        elif kind == "http.response.body" and self.started and not self.complete:
            more = bool(message.get("more_body", False))
            self.complete = not more
            body = b"" if self._head else message.get("body", b"")
            if more and self._head:
                return
            await self._pass({"type": self._body, "body": body, "more_body": more})
        else:
            raise ASGIProtocolError(f"an answer sent {kind!r} where ASGI does not allow it")

    async def _pass(self, message: Message) -> None:
        try:
            await self._send(message)
        except Exception:
            self.broken = True
            raise

    def _headers(self, own: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = [
            (name.lower(), bytes(value)) for name, value in own if name.lower() != b"x-error-id"
        ]
        present = {name for name, _ in headers}
        if self._error_id is not None:
            headers.append((b"x-error-id", self._error_id.encode("ascii")))
        if b"cache-control" not in present:
            headers.append((b"cache-control", b"no-store"))
        for held_name, value in self._held_headers:
            name = held_name.lower()
            if name in _OF_THE_BODY:
                continue
            if name not in present or (name in _REPEATABLE and (name, value) not in headers):
                headers.append((name, value))
        return headers


def _is_ready(answer: ASGIApp) -> TypeGuard[Response]:
    """Tell whether *answer* is a plain Starlette response without a background task."""
    return (
        isinstance(answer, Response)
        and type(answer).__call__ is Response.__call__
        and answer.background is None
        and type(getattr(answer, "body", None)) is bytes
    )
