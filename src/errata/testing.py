"""What tests need: a sink that remembers, and apps that fail on purpose."""

from __future__ import annotations

from typing import Literal, TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from errata.report import SafeReport


class MemorySink:
    """A sink that keeps every report in `reports`, oldest first."""

    def __init__(self) -> None:
        self.reports: list[SafeReport] = []

    async def __call__(self, report: SafeReport) -> None:
        """Keep *report*."""
        self.reports.append(report)

    @property
    def count(self) -> int:
        """How many occurrences the reports stand for."""
        return sum(report.count for report in self.reports)

    def clear(self) -> None:
        """Forget the reports."""
        self.reports.clear()


FailurePoint: TypeAlias = Literal["request", "streaming", "background"]


def failing_app(exc: BaseException, *, at: FailurePoint = "request") -> ASGIApp:
    """Return an ASGI app that raises *exc* before, within or after its response.

    A websocket fails before it is accepted (`"request"`) or after (`"streaming"`).
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            if at != "request":
                await send({"type": "websocket.accept"})
            raise exc
        if scope["type"] == "http" and at != "request":
            more = at == "streaming"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": more})
        raise exc

    return app
