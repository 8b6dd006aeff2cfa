"""The ASGI apps that everybody wraps, and the least that a middleware of one's own must do."""

from __future__ import annotations

from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send


HEADERS: Final = ((b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"2"))
FAILED: Final = b'{"error":"Internal server error"}'
FAILED_HEADERS: Final = (
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(FAILED)),
)


async def not_reading(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without a look at the request's body."""
    await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
    await send({"type": "http.response.body", "body": b"ok"})


async def reading_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Receive the request's body, in one piece, and answer."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
    await send({"type": "http.response.body", "body": b"ok"})


async def failing_on_demand(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, or fail where the path is `/error`: what a server is measured with."""
    if scope["type"] != "http":
        raise RuntimeError(f"no {scope['type']} here")
    if scope["path"] == "/error":
        _check_order({"order": 42, "items": ["a", "b", "c"]})
    await not_reading(scope, receive, send)


def _check_order(order: dict[str, Any]) -> None:
    total = len(order["items"])
    _check_stock(order["order"], total)


def _check_stock(number: int, total: int) -> None:
    if total > 2:
        raise LookupError(f"order {number} asks for {total} items")


class Minimal:
    """What everybody writes first: catch it, answer a static 500, tell nobody."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        def watch(message: Message) -> Any:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
            return send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception:
            if scope["type"] != "http" or started:
                raise
            start = {"type": "http.response.start", "status": 500, "headers": list(FAILED_HEADERS)}
            await send(start)
            await send({"type": "http.response.body", "body": FAILED})
