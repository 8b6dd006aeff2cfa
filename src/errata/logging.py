"""One structured line for each error, and only one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

import structlog

from errata.exceptions import consume_log_mark
from errata.pages import traceback_text
from errata.report import SafeReport
from errata.witness import will_be_logged


SERVER_LOGGERS: Final = ("uvicorn.error", "hypercorn.error", "_granian.utils")
"""Where servers log an exception that leaves the app."""

_GRANIAN: Final = "Application callable raised an exception"
"""How granian's record begins: it holds the traceback as text, and no exception."""

_left: Final[ContextVar[BaseException | None]] = ContextVar("errata_left", default=None)


# A proxy: what it logs with is what structlog is configured with when the line is written.
_logger: Final[Any] = structlog.get_logger("errata")


def let_out(exc: BaseException) -> None:
    """Note that *exc* leaves the app in this context: granian logs it there without naming it."""
    if sys.modules.get("granian"):
        _left.set(exc)


def report_fields(report: SafeReport) -> dict[str, Any]:
    """Return what the error line of *report* tells, its traceback included.

    That is `error_id, exc_type, message, method, path, status, phase, client_ip, duration`
    (seconds) and, where the report has frames, the traceback as `exception`.
    """
    failure, request = report.failure, report.request
    fields = {
        "error_id": report.error_id,
        "exc_type": failure.type,
        "message": failure.message,
        "method": request.method if request else None,
        "path": request.path if request else None,
        "status": report.status,
        "phase": report.phase,
        "client_ip": request.client if request else None,
        "duration": None if report.duration is None else round(report.duration, 6),
    }
    if failure.frames or failure.members:
        fields["exception"] = traceback_text(report)
    return fields


def write_line(fields: Mapping[str, Any], *, handled: bool) -> None:
    """Write one error line through structlog, as the user has configured it."""
    _logger.error("handled exception" if handled else "unhandled exception", **fields)


class ServerLogFilter(logging.Filter):
    """Drops a server's or framework's record of an exception that errata logs.

    A server gets it because only an exception makes it abort a response; a framework logs
    what it swallows. Without this filter the same traceback would stand in the log twice.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False once for each time that errata logged the record's exception."""
        exc = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if exc is None and str(record.msg).startswith(_GRANIAN):
            exc = _left.get()
            _left.set(None)
        return exc is None or not (will_be_logged(exc) or consume_log_mark(exc))


def attach_server_filter(*names: str) -> None:
    """Attach one `ServerLogFilter` to each of these loggers, however often it is called.

    Without names: to the servers' error loggers.
    """
    for name in names or SERVER_LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(present, ServerLogFilter) for present in logger.filters):
            logger.addFilter(ServerLogFilter())
