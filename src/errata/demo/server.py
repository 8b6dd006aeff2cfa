"""The demo on a real server: its socket, its file, its log, and what it is asked."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, TextIO

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send


if TYPE_CHECKING:
    import uvicorn

LOOPBACK: Final = "127.0.0.1"

STARTUP_TIMEOUT: Final = 15.0
"""Seconds that a server in a thread has to start; it takes milliseconds, but for a busy machine."""

SHUTDOWN_TIMEOUT: Final = 3
"""Seconds that open connections have to end."""


@dataclass(slots=True)
class Visit:
    """One request or websocket, as the server saw it."""

    method: str
    """`WS` for a websocket."""
    path: str
    status: int | None = None
    """101 for an accepted websocket; None: there was no answer."""
    media_type: str = ""
    error_id: str = ""
    answered_by: str = ""
    """The handler's name."""
    close_code: int | None = None


class Watcher:
    """An ASGI app whose every request and websocket is told of once it is over.

    `started` is set, and `loop` known, when the startup of the lifespan is complete.
    """

    def __init__(self, app: ASGIApp, tell: Callable[[Visit], None]) -> None:
        self.started = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._app = app
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, partial(self._announce, send))
            return
        visit = Visit(scope.get("method", "WS"), scope["path"])
        state = scope.setdefault("state", {})
        try:
            await self._app(scope, receive, partial(self._note, visit, send))
        finally:
            visit.answered_by = state.get("answered_by", "")
            self._tell(visit)

    async def _announce(self, send: Send, message: Message) -> None:
        await send(message)
        if message["type"] == "lifespan.startup.complete":
            self.loop = asyncio.get_running_loop()
            self.started.set()

    async def _note(self, visit: Visit, send: Send, message: Message) -> None:
        kind = message["type"]
        if kind.endswith("http.response.start"):
            headers = {name.lower(): value.decode("latin-1") for name, value in message["headers"]}
            visit.status = message["status"]
            visit.media_type = headers.get(b"content-type", "").split(";")[0]
            visit.error_id = headers.get(b"x-error-id", "")
        elif kind == "websocket.accept":
            visit.status = 101
        elif kind == "websocket.close":
            visit.close_code = message.get("code", 1000)
        await send(message)


def listen(host: str = LOOPBACK, port: int = 0) -> socket.socket:
    """Return a listening socket on *port*, or on a free one if that is taken.

    Raises:
        OSError: *host* is none of this machine's, or the port is not allowed.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # At once: a socket that is only bound would not keep a second demo off the port.
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE or port == 0:
            raise
        return listen(host)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address under which a browser reaches *listener*."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def create_server(app: ASGIApp) -> uvicorn.Server:
    """Return a server of *app* whose own log goes nowhere but to the handlers it is given."""
    import uvicorn

    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
    )
    return uvicorn.Server(config)


@contextmanager
def serving(watcher: Watcher) -> Generator[str]:
    """Serve *watcher* in a thread, on a free port of loopback; yield its address.

    Raises:
        RuntimeError: the server did not start.
    """
    listener = listen()
    url = url_of(listener)
    server = create_server(watcher)
    thread = threading.Thread(target=server.run, args=([listener],), name="errata-demo")
    thread.start()
    try:
        if not watcher.started.wait(STARTUP_TIMEOUT):
            raise RuntimeError(f"the demo's server did not start in {STARTUP_TIMEOUT} seconds")
        yield url
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def database_at(path: str | None) -> Generator[str]:
    """Yield *path*; if it is None, that of a temporary file that is removed at the end."""
    if path is not None:
        yield path
        return
    with TemporaryDirectory(prefix="errata-demo-") as directory:
        yield str(Path(directory) / "shop.db")


@contextmanager
def logging_to(
    stream: TextIO, processors: Sequence[structlog.typing.Processor], handler: logging.Handler
) -> Generator[None]:
    """Configure logging as long as the demo runs: the library never does it by itself.

    errata's lines pass *processors* on their way to *stream*, the server's warnings go to
    *handler*, and the shop's log lines count from INFO on.
    """
    with ExitStack() as undo:
        undo.callback(structlog.configure, **structlog.get_config())
        structlog.configure(
            processors=processors, logger_factory=structlog.PrintLoggerFactory(stream)
        )
        handler.setLevel(logging.WARNING)
        server = logging.getLogger("uvicorn.error")
        server.addHandler(handler)
        undo.callback(server.removeHandler, handler)
        shop = logging.getLogger("errata.demo")
        undo.callback(shop.setLevel, shop.level)
        shop.setLevel(logging.INFO)
        yield
