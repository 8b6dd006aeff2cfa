"""Real uvicorn servers in processes of their own, one for each contestant."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from starlette.types import ASGIApp


Wrap: TypeAlias = Callable[[ASGIApp], Any]
"""Puts a contestant around the app, in the server's process: a function of a module."""

START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 10.0
LOOPBACK: Final = "127.0.0.1"


class Server:
    """One app behind uvicorn on a free loopback port, as long as the context lasts.

    What the process prints and logs goes to `/dev/null`.

    Raises:
        RuntimeError: the server did not start, or gave no answer.
    """

    port: int

    def __init__(self, app: ASGIApp, wrap: Wrap) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, app, wrap), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        self.port = self._read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._connection.close()
        self._process.join(STOP_TIMEOUT)
        self._process.kill()

    def cpu_time(self) -> float:
        """Return the seconds of processor time that the server has used so far."""
        self._connection.send(None)
        return float(self._read())

    def _read(self) -> Any:
        if not self._connection.poll(START_TIMEOUT):
            raise RuntimeError(f"a server gave no answer in {START_TIMEOUT:.0f} s")
        failed, answer = self._connection.recv()
        if failed:
            raise RuntimeError(f"a server failed:\n{answer}")
        return answer


def _serve(connection: Connection, app: ASGIApp, wrap: Wrap) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        import uvicorn

        listener = socket.create_server((LOOPBACK, 0))
        config = uvicorn.Config(
            wrap(app), http="httptools", ws="none", lifespan="off", access_log=False
        )
        server = uvicorn.Server(config)
        threading.Thread(target=_obey, args=(connection, server), daemon=True).start()
        connection.send((False, listener.getsockname()[1]))
        server.run(sockets=[listener])
    except BaseException:
        connection.send((True, traceback.format_exc()))


def _obey(connection: Connection, server: Any) -> None:
    """Tell the processor time when asked, and stop *server* when nobody is left to ask."""
    try:
        while True:
            connection.recv()
            connection.send((False, time.process_time()))
    except (EOFError, OSError):
        server.should_exit = True
