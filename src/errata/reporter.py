"""The reporting half of an error's journey: capture, redact, log, outbox."""

from __future__ import annotations

import asyncio
import logging
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from types import TracebackType
from typing import Any, Final

from errata.capture import capture, fingerprint
from errata.client import TrustedProxies, client_ip
from errata.exceptions import mark
from errata.logging import log_report
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


@dataclass(slots=True, kw_only=True)
class Prepared:
    """A captured and redacted error that waits for its answer to be given."""

    report: SafeReport
    count: int
    """How many occurrences the report stands for; 0: it is only to be counted."""


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

    def prepare(self, sighting: Sighting, *, whole: bool = False) -> Prepared:
        """Capture and redact; in a storm only a little of it, unless *whole* is wanted.

        Marks the exception, so that an outer middleware does not report it again.
        """
        self.mark(sighting.exc, sighting.error_id)
        print_ = fingerprint(sighting.exc, sighting.traceback)
        count = self._storms.admit(print_)
        report = self._capture(sighting, print_, count=max(count, 1), whole=whole or count > 0)
        return Prepared(report=self._redact(report), count=count)

    def _capture(self, sighting: Sighting, print_: str, *, count: int, whole: bool) -> Report:
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
            count=count,
            duration=sighting.duration,
            fingerprint=print_,
            body=sighting.body,
            body_truncated=sighting.body_truncated,
            client=client_ip(sighting.scope, self._trusted_proxies),
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
            kind = Failure(type=report.failure.type, module=report.failure.module, message="")
            return SafeReport(
                Report(
                    error_id=report.error_id,
                    failure=replace(kind, message="[withheld: the redactor failed]"),
                    fingerprint=report.fingerprint,
                    count=report.count,
                    timestamp=report.timestamp,
                    phase=report.phase,
                )
            )

    async def deliver(self, prepared: Prepared, **log_fields: Any) -> None:
        """Write the log line and queue the report for the sinks."""
        report = prepared.report
        if self._log:
            try:
                log_report(report, **log_fields)
            except Exception:
                _log.warning("the log failed for report %s", report.error_id)
        if not self.outbox:
            return
        if prepared.count:
            self.outbox.put(report)
        elif self._storms.count(report):
            self._collect_later()
        await _give_way()

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
