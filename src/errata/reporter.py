"""The reporting half of an error's journey: capture, redact, log, outbox."""

from __future__ import annotations

import asyncio
import logging
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from types import TracebackType
from typing import Any, Final

from errata.anatomy import type_names
from errata.budget import Budget
from errata.capture import capture, fingerprint
from errata.client import TrustedProxies, client_ip
from errata.exceptions import mark
from errata.logging import report_fields, write_line
from errata.message import Messages
from errata.outbox import Outbox
from errata.redaction import Redactor
from errata.report import Failure, Mechanism, Phase, Report, SafeReport, Sink
from errata.storms import WINDOW, Storms
from errata.timers import Timer, start_timer
from errata.trail import current_trail


FRAMEWORKS: Final = (
    "starlette",
    "fastapi",
    "litestar",
    "quart",
    "django",
    "falcon",
    "blacksheep",
    "sanic",
)
"""Named with their versions in a report, where they are loaded."""

_WITHHELD: Final = "[withheld: the redactor failed]"

_log: Final = logging.getLogger("errata")


@dataclass(slots=True, kw_only=True)
class Sighting:
    """One error as it was first seen: alive, and therefore short-lived."""

    exc: BaseException
    scope: Mapping[str, Any]
    phase: Phase
    duration: float
    error_id: str
    # Kept apart: Starlette clears the exception's own after a handler ran.
    traceback: TracebackType | None
    mechanism: Mechanism = "escaped"
    handled: bool = False
    body: bytes = b""
    body_truncated: bool = False
    status: int | None = None
    fingerprint: str = ""
    count: int = 1
    """How many occurrences its report stands for; 0: it is seen again and only counted."""


class Reporter:
    """Captures errors, redacts them and hands them to the log and to the sinks."""

    def __init__(
        self,
        *,
        owner: object,
        sinks: Sequence[Sink],
        redactor: Redactor,
        trusted_proxies: Iterable[str] | TrustedProxies,
        log: bool,
    ) -> None:
        self._owner = owner
        self._redactor = redactor
        self._trusted_proxies = trusted_proxies
        self._log = log
        self._storms = Storms()
        self._timer: Timer | None = None
        self._versions: Mapping[str, str] | None = None
        self.outbox = Outbox(sinks)

    def mark(self, exc: BaseException, error_id: str) -> None:
        """Note on *exc* that it is reported, so that nobody further out does it again."""
        mark(exc, error_id, by=self._owner, logged=self._log)

    def admit(self, sighting: Sighting) -> bool:
        """Count *sighting*; return True if it is to be captured whole.

        Marks the exception, so that nobody further out reports it again.
        """
        self.mark(sighting.exc, sighting.error_id)
        sighting.fingerprint = fingerprint(sighting.exc, sighting.traceback)
        sighting.count = self._storms.admit(sighting.fingerprint)
        return sighting.count > 0

    def capture(self, sighting: Sighting, *, whole: bool = True) -> SafeReport:
        """Capture and redact *sighting*; unless *whole*, only what can be had in microseconds."""
        return self._redact(self._capture(sighting, whole=whole))

    def _capture(self, sighting: Sighting, *, whole: bool) -> Report:
        trail = current_trail.get()
        return capture(
            sighting.exc,
            sighting.scope,
            error_id=sighting.error_id,
            traceback=sighting.traceback,
            phase=sighting.phase,
            mechanism=sighting.mechanism,
            handled=sighting.handled,
            status=sighting.status,
            count=max(sighting.count, 1),
            duration=sighting.duration,
            fingerprint=sighting.fingerprint,
            body=sighting.body,
            body_truncated=sighting.body_truncated,
            client=self._client(sighting),
            queries=tuple(trail.queries) if trail and whole else (),
            crumbs=tuple(trail.crumbs) if trail and whole else (),
            versions=self._get_versions() if whole else {},
            frames=whole,
        )

    def _redact(self, report: Report) -> SafeReport:
        try:
            return self._redactor.report(report)
        except Exception:
            # A redactor of the user's own: nothing leaves that it has not passed.
            _log.warning("the redactor failed; report %s is withheld", report.error_id)
            kind = report.failure.type, report.failure.module
            return SafeReport(
                Report(
                    error_id=report.error_id,
                    failure=Failure(type=kind[0], module=kind[1], message=_WITHHELD),
                    fingerprint=report.fingerprint,
                    count=report.count,
                    timestamp=report.timestamp,
                    phase=report.phase,
                )
            )

    async def deliver(self, sighting: Sighting, report: SafeReport, **log_fields: Any) -> None:
        """Write the log line of *report* and queue it for the sinks."""
        if self._log:
            self._write(report_fields(report) | log_fields, handled=report.handled)
        if self.outbox:
            if sighting.count:
                self.outbox.put(report)
            else:
                self._keep(sighting)
            await _give_way()

    def count(self, sighting: Sighting, **log_fields: Any) -> None:
        """Write the log line of an error that is seen again; the sinks get to know its count."""
        if self._log:
            self._write(self._redacted(self._fields(sighting)) | log_fields, handled=False)
        if self.outbox and not self._storms.count(sighting.fingerprint):
            self._keep(sighting)

    def _keep(self, sighting: Sighting) -> None:
        self._storms.keep(self.capture(sighting, whole=False))
        self._collect_later()

    def _fields(self, sighting: Sighting) -> dict[str, Any]:
        scope = sighting.scope
        return {
            "error_id": sighting.error_id,
            "exc_type": type_names(type(sighting.exc))[1],
            "message": Messages(Budget()).read(sighting.exc),
            "method": "WEBSOCKET" if scope["type"] == "websocket" else scope.get("method"),
            "path": scope.get("path"),
            "status": sighting.status,
            "phase": sighting.phase,
            "client_ip": self._client(sighting),
            "duration": round(sighting.duration, 6),
        }

    def _redacted(self, fields: dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(self._redactor.redact(fields))
        except Exception:
            return {"error_id": fields["error_id"], "message": _WITHHELD}

    def _write(self, fields: dict[str, Any], *, handled: bool) -> None:
        try:
            write_line(fields, handled=handled)
        except Exception as exc:
            _log.warning("the log failed with %s on error %s", type(exc), fields["error_id"])

    def _client(self, sighting: Sighting) -> str | None:
        return client_ip(sighting.scope, self._trusted_proxies)

    def _collect_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = start_timer(WINDOW, self._collect)

    async def _collect(self) -> None:
        for report in self._storms.collect():
            self.outbox.put(report)

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 - returns, never raises
        """Queue what storms have left to count and wait until the sinks have everything."""
        await self._collect()
        return await self.outbox.drain(timeout)

    def _get_versions(self) -> Mapping[str, str]:
        if self._versions is None:
            loaded = [name for name in FRAMEWORKS if name in sys.modules]
            self._versions = {"python": platform.python_version()} | {
                name: _version(name) for name in ("errata", *loaded)
            }
        return self._versions


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


async def _give_way() -> None:
    """Let the sinks' tasks take their first step: one that waits for nothing is then done.

    So a test that looks at its sink after the request has what the request reported.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    await asyncio.sleep(0)
