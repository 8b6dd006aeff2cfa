"""What happens when a web app fails: catch, answer, log and report, around any ASGI app."""

from __future__ import annotations

from errata.client import TrustedProxies, client_ip
from errata.handlers import ExceptionHandlers
from errata.middleware import ErrorMiddleware
from errata.redaction import Redactor, deep_filter_sensitive, filter_sensitive
from errata.report import Report, SafeReport, Sink
from errata.request import ErrorRequest
from errata.responses import error_response, problem_response
from errata.rules import SENSITIVE_FIELDS
from errata.trail import note, record_query


__all__ = [
    "ErrorMiddleware",
    "ErrorRequest",
    "ExceptionHandlers",
    "Redactor",
    "Report",
    "SENSITIVE_FIELDS",
    "SafeReport",
    "Sink",
    "TrustedProxies",
    "client_ip",
    "deep_filter_sensitive",
    "error_response",
    "filter_sensitive",
    "note",
    "problem_response",
    "record_query",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("errata")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
