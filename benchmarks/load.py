"""Load for a server on loopback: `wrk` where it is installed, else a client of our own.

The client is a loop around one selector, on raw sockets: it must cost less than the server.
It runs in a process of its own, `python -m benchmarks.load PORT PATH SECONDS`, and prints JSON.
"""

from __future__ import annotations

import json
import re
import selectors
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.figures import quantile


HOST: Final = "127.0.0.1"
CONNECTIONS: Final = 32
PATIENCE: Final = 30.0
"""Seconds beyond the measured ones after which a load generator is given up."""
BLOCK: Final = 65_536
"""Bytes that one read takes at most."""

_ROOT: Final = Path(__file__).resolve().parent.parent
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_WRK_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came back."""

    rate: float
    """Answers in a second."""
    p99: float
    """Seconds that the slowest hundredth of the answers took at least."""
    answers: int


def tool() -> str:
    """Name the load generator that `put_load()` uses."""
    return "wrk" if shutil.which("wrk") else "a raw-socket client in Python"


def put_load(port: int, path: str, seconds: float, *, status: int) -> Load:
    """Ask for *path* over `CONNECTIONS` connections, each without a pause, for *seconds*.

    Raises:
        RuntimeError: an answer had another status, or there was none.
    """
    wrk = shutil.which("wrk")
    if wrk is not None:
        return _put_wrk_load(wrk, f"http://{HOST}:{port}{path}", seconds, status)
    command = [sys.executable, "-m", "benchmarks.load", str(port), path, str(seconds)]
    found = json.loads(_run(command, seconds))
    if set(found["statuses"]) != {str(status)}:
        raise RuntimeError(f"{path} is to answer {status}, and the answers were {found!r:.500}")
    return Load(rate=found["rate"], p99=found["p99"], answers=found["answers"])


def _run(command: list[str], seconds: float) -> str:
    limit = seconds + PATIENCE
    return subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=limit, cwd=_ROOT
    ).stdout


# wrk.


def _put_wrk_load(wrk: str, url: str, seconds: float, status: int) -> Load:
    whole = max(1, round(seconds))  # it takes no fractions
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{whole}s", "--latency", url]
    output = _run(command, seconds)
    rate = re.search(r"Requests/sec: +([\d.]+)", output)
    answers = re.search(r"(\d+) requests in", output)
    p99 = re.search(r"99% +([\d.]+)(us|ms|s|m)", output)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    if not rate or not answers or not p99:
        raise RuntimeError(f"wrk measured nothing at {url}:\n{output}")
    total = int(answers[1])
    if (int(refused[1]) if refused else 0) != (total if status >= 400 else 0):
        raise RuntimeError(f"{url} is to answer {status}, and wrk says:\n{output}")
    return Load(rate=float(rate[1]), p99=float(p99[1]) * _WRK_UNITS[p99[2]], answers=total)


# Our own client.


class _Connection:
    """One connection with one request under way."""

    def __init__(self, port: int, request: bytes, selector: selectors.BaseSelector) -> None:
        self._port = port
        self._request = request
        self._selector = selector
        self._open()

    def _open(self) -> None:
        self._socket = socket.create_connection((HOST, self._port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(self._socket, selectors.EVENT_READ, self)
        self._ask()

    def _ask(self) -> None:
        self._answer = b""
        self._socket.sendall(self._request)
        self._asked = time.perf_counter()

    def read(self) -> tuple[bytes, float] | None:
        """Take what has come; return status and seconds if it completes the answer.

        The next request is on its way then, on a new connection if the server has closed.
        """
        try:
            data = self._socket.recv(BLOCK)
        except ConnectionResetError:
            data = b""
        self._answer += data
        if data and not _is_complete(self._answer):
            return None
        status, seconds = self._answer[9:12], time.perf_counter() - self._asked
        if data and not _CLOSE.search(self._answer):
            self._ask()
        else:
            self.close()
            self._open()
        # A server that closes without an answer, between two of them, is asked again.
        return (status, seconds) if data else None

    def close(self) -> None:
        """Leave the selector and close."""
        self._selector.unregister(self._socket)
        self._socket.close()


def _is_complete(answer: bytes) -> bool:
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = _LENGTH.search(answer, 0, end)
    if length is None:
        return answer.endswith(_LAST_CHUNK)
    return len(answer) >= end + 4 + int(length[1])


def ask(port: int, path: str, seconds: float) -> dict[str, object]:
    """Put load on the server for *seconds*; return the rate, the statuses and the delays."""
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\n\r\n".encode()
    delays: list[float] = []
    statuses: Counter[str] = Counter()
    with selectors.DefaultSelector() as selector:
        connections = [_Connection(port, request, selector) for _ in range(CONNECTIONS)]
        began = now = time.perf_counter()
        while now - began < seconds:
            for key, _ in selector.select(PATIENCE):
                answer = key.data.read()
                if answer is not None:
                    statuses[answer[0].decode()] += 1
                    delays.append(answer[1])
            now = time.perf_counter()
        for connection in connections:
            connection.close()
    return {
        "rate": len(delays) / (now - began),
        "answers": len(delays),
        "p99": quantile(delays, 0.99) if delays else 0.0,
        "statuses": statuses,
    }


if __name__ == "__main__":
    print(json.dumps(ask(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))))
