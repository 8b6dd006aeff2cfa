"""An ASGI server in miniature: drives an app by direct call and holds it to the protocol."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio


def http_scope(
    path: str = "/",
    *,
    method: str = "GET",
    headers: dict[str, str] | Iterable[tuple[str, str]] = (),
    client: tuple[str, int] | None = ("127.0.0.1", 50_000),
    query: str = "",
    **extra: Any,
) -> dict[str, Any]:
    """Return a fresh HTTP scope."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in pairs],
        "client": client,
        "server": ("127.0.0.1", 8000),
        **extra,
    }


def websocket_scope(path: str = "/ws", *, denial: bool = True, **extra: Any) -> dict[str, Any]:
    """Return a fresh websocket scope, of a server with or without denial responses."""
    scope = http_scope(path, **extra)
    del scope["method"]
    extensions: dict[str, Any] = {"websocket.http.response": {}} if denial else {}
    return {**scope, "type": "websocket", "subprotocols": [], "extensions": extensions}


@dataclass
class Outcome:
    """What the server got, and what came out of the app."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    raised: BaseException | None = None

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]

    @property
    def start(self) -> dict[str, Any]:
        (start,) = (m for m in self.messages if m["type"].endswith("http.response.start"))
        return start

    @property
    def status(self) -> int:
        return self.start["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.start["headers"]}

    @property
    def body(self) -> bytes:
        bodies = (m for m in self.messages if m["type"].endswith("http.response.body"))
        return b"".join(message.get("body", b"") for message in bodies)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def complete(self) -> bool:
        last = self.messages[-1] if self.messages else {}
        return last.get("type", "").endswith("body") and not last.get("more_body", False)


class Violation(AssertionError):
    """The conversation that reached the server is not legal ASGI."""


HTTP = {
    ("new", "http.response.start"): "started",
    ("started", "http.response.body"): "started",
}
WEBSOCKET = {
    ("new", "websocket.accept"): "accepted",
    ("new", "websocket.close"): "closed",
    ("new", "websocket.http.response.start"): "started",
    ("started", "websocket.http.response.body"): "started",
    ("accepted", "websocket.send"): "accepted",
    ("accepted", "websocket.close"): "closed",
}


class Server:
    """Takes messages in the order that ASGI allows; anything else is a `Violation`."""

    def __init__(self, scope: dict[str, Any], incoming: Iterable[dict[str, Any]] | None = None):
        self.legal = WEBSOCKET if scope["type"] == "websocket" else HTTP
        if incoming is None:
            incoming = (
                [{"type": "websocket.connect"}]
                if scope["type"] == "websocket"
                else [{"type": "http.request", "body": b"", "more_body": False}]
            )
        self.incoming = deque(incoming)
        self.state = "new"
        self.outcome = Outcome()
        self.violations: list[str] = []

    async def receive(self) -> dict[str, Any]:
        if self.incoming:
            return self.incoming.popleft()
        await anyio.sleep_forever()
        raise AssertionError

    async def send(self, message: Any) -> None:
        self._check(message)
        self.outcome.messages.append(message)

    def _check(self, message: Any) -> None:
        kind = message["type"]
        state = self.legal.get((self.state, kind))
        if state is None:
            self.violations.append(f"{kind} in state {self.state}")
            raise Violation(self.violations[-1])
        if kind.endswith("start"):
            legal = isinstance(message["status"], int) and 100 <= message["status"] <= 599
            for name, value in message.get("headers", ()):
                legal = legal and isinstance(name, bytes) and isinstance(value, bytes)
            if not legal:
                self.violations.append(f"bad start {message}")
        elif kind.endswith("body"):
            if not isinstance(message.get("body", b""), bytes):
                self.violations.append(f"bad body {message}")
            state = "started" if message.get("more_body", False) else "closed"
        self.state = state


async def call(
    app: Any, scope: dict[str, Any], incoming: Iterable[dict[str, Any]] | None = None
) -> Outcome:
    """Call *app* once; whatever it raises is in the outcome."""
    server = Server(scope, incoming)
    try:
        await app(scope, server.receive, server.send)
    except Exception as exc:
        server.outcome.raised = exc
    assert not server.violations, server.violations
    return server.outcome


async def receive_nothing() -> Any:
    """Receive where the app is not expected to."""
    raise AssertionError("the app received")


def respond(status: int = 200, body: bytes = b"ok", headers: dict[str, str] | None = None) -> Any:
    """Return an app that always answers the same."""
    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    return app
