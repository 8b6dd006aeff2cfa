"""Real servers on loopback, for what only a client can see."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.from_thread
import anyio.lowlevel
import httpx
import hypercorn.asyncio
import hypercorn.logging
import hypercorn.trio
import uvicorn


UVICORN = ("uvicorn-h11", "uvicorn-httptools")
HYPERCORN = ("hypercorn-asyncio", "hypercorn-trio")
SERVERS = UVICORN + HYPERCORN
"""What `serve` can run an app under, in this process."""

PATIENCE = 20
"""Seconds that a busy machine may take for anything at all."""


class Records(logging.Handler):
    """Keeps every record that a logger lets through."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def text(self) -> str:
        formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")
        return "\n".join(formatter.format(record) for record in self.records)

    @property
    def tracebacks(self) -> int:
        """How many tracebacks are in the log, be they of exceptions or in messages."""
        return self.text.count("Traceback (most recent call last)")


@dataclass
class Served:
    """A server at work."""

    port: int
    log: Records = field(default_factory=Records)
    failure: BaseException | None = None
    """What the server itself ended with."""
    thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def get(self, path: str, **options: Any) -> httpx.Response:
        with self.client() as client:
            return client.get(path, **options)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE)

    def connect(self) -> Connection:
        return Connection(socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE))

    def raw(self, request: bytes) -> bytes:
        """Send *request* over a plain socket; return all that comes back until the end."""
        with self.connect() as connection:
            connection.send(request)
            return connection.read()

    def wait_for_exit(self) -> bool:
        """Wait until the server ends by itself; return False if it does not."""
        assert self.thread is not None
        self.thread.join(PATIENCE)
        return not self.thread.is_alive()


class Connection:
    """A client without manners, and without a library that has them."""

    def __init__(self, plug: socket.socket) -> None:
        self._socket = plug
        self.received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self) -> bytes:
        """Read until the server closes the connection."""
        return self.read_until(lambda received: False)

    def read_until(self, enough: Callable[[bytes], bool]) -> bytes:
        """Read until *enough* of all that was received, or until the connection's end."""
        with suppress(ConnectionError):
            while not enough(self.received) and (chunk := self._socket.recv(65_536)):
                self.received += chunk
        return self.received

    def vanish(self) -> None:
        """Leave as a crashed client does: with a reset, not with a farewell."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()


def get_request(path: str = "/", *headers: str, method: str = "GET", close: bool = True) -> bytes:
    """Return a request as it stands on the wire; *close*: the last one of its connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode()


def with_lifespan(app: Any) -> Any:
    """Return *app* with a lifespan in which nothing happens."""

    async def app_with_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{step}"
            await send({"type": f"lifespan.{step}.complete"})

    return app_with_lifespan


@contextmanager
def serve(app: Any, *, on: str = UVICORN[0], **options: Any) -> Iterator[Served]:
    """Run *app* on one of `SERVERS` and a free port of loopback; *options* are the server's.

    Once the block is left the server has ended, and with it every request and the lifespan.
    A server that ends before it begins (its app's startup failed) is served nevertheless.
    """
    name, _, kind = on.partition("-")
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket()))
        listener.bind(("127.0.0.1", 0))
        served = Served(listener.getsockname()[1])
        logger = logging.getLogger(f"{name}.error")
        logger.addHandler(served.log)
        stack.callback(logger.removeHandler, served.log)
        runner = {"uvicorn": _uvicorn, "hypercorn": _hypercorn}[name]
        ready = threading.Event()
        run, stop = runner(app, listener, kind, ready.set, options)

        def work() -> None:
            try:
                run()
            except BaseException as exc:
                served.failure = exc
            finally:
                ready.set()

        served.thread = threading.Thread(target=work, name=f"{on} of a test", daemon=True)
        served.thread.start()
        try:
            assert ready.wait(PATIENCE), f"{on} did not start:\n{served.log.text}"
            yield served
        finally:
            stop()
            ended = served.wait_for_exit()
        assert ended, f"{on} did not end:\n{served.log.text}"


Runner = tuple[Callable[[], None], Callable[[], None]]
"""What runs a server until it ends, and what ends it."""


def _uvicorn(
    app: Any, listener: socket.socket, http: Any, announce: Callable[[], None], options: Any
) -> Runner:
    settings = {"lifespan": "on", "http": http, "loop": "asyncio", **options}
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, **settings))
    startup = server.startup

    async def start(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        announce()

    def stop() -> None:
        server.should_exit = True

    server.startup = start  # type: ignore[method-assign]
    return (lambda: server.run([listener])), stop


def _hypercorn(
    app: Any, listener: socket.socket, backend: str, announce: Callable[[], None], options: Any
) -> Runner:
    class Announcer(hypercorn.logging.Logger):
        async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
            if message.startswith("Running on"):
                announce()

    config = hypercorn.Config()
    config.logger_class = Announcer
    config.errorlog = logging.getLogger("hypercorn.error")
    for name, value in options.items():
        setattr(config, name, value)
    ends: list[Callable[[], None]] = []
    stopped = threading.Event()

    async def wait_for_end() -> None:
        end, token = anyio.Event(), anyio.lowlevel.current_token()
        ends.append(lambda: anyio.from_thread.run_sync(end.set, token=token))
        if not stopped.is_set():
            await end.wait()

    async def main() -> None:
        # Hypercorn closes the socket that it works with.
        config.bind = [f"fd://{socket.dup(listener.fileno())}"]
        serve = hypercorn.trio.serve if backend == "trio" else hypercorn.asyncio.serve
        await serve(app, config, shutdown_trigger=wait_for_end, mode="asgi")

    def stop() -> None:
        stopped.set()
        for end in ends:
            with suppress(RuntimeError):
                end()

    return (lambda: anyio.run(main, backend=backend)), stop


@dataclass
class Process(Served):
    """A server in a process of its own."""

    output: Path = Path()
    process: subprocess.Popen[bytes] | None = None

    @property
    def printed(self) -> str:
        return self.output.read_text(errors="replace")


@contextmanager
def serve_process(
    module: str, source: str, folder: Path, arguments: Sequence[str]
) -> Iterator[Process]:
    """Run `python -m` *module* on the `app` of a module whose text is *source*.

    *arguments* may hold `{port}`; the application is `served:app`. Once the block is left
    the process has got a SIGTERM and has ended.
    """
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    (folder / "served.py").write_text(source)
    served = Process(port, output=folder / "output.txt")
    command = [sys.executable, "-m", module, *(word.format(port=port) for word in arguments)]
    with served.output.open("wb") as output:
        served.process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_for_port(served)
        yield served
    finally:
        served.process.terminate()
        try:
            served.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            served.process.kill()
            served.process.wait()
            raise


def _wait_for_port(served: Process) -> None:
    # Polling: a process tells nobody else when it listens.
    assert served.process is not None
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError):
            served.connect().vanish()
            return
        if served.process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"the server did not start:\n{served.printed}")
