"""Which framework an app is made with, and the way into it."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any, Final

from starlette.types import ASGIApp

from errata.logging import attach_server_filter


# By name, so that nothing is imported that is not there already. Starlette and FastAPI stand
# here for the record: they let their exceptions out, so that there is nothing to connect.
_FRAMEWORKS: Final = {
    ("starlette.applications", "Starlette"): "starlette",
    ("litestar.app", "Litestar"): "litestar",
    ("quart.app", "Quart"): "quart",
    ("django.core.handlers.asgi", "ASGIHandler"): "django",
    ("falcon.asgi.app", "App"): "falcon",
    ("blacksheep.server.application", "Application"): "blacksheep",
    ("sanic.app", "Sanic"): "sanic",
}

MAX_LAYERS: Final = 20
"""Middlewares around a framework that are looked through, by their attribute `app`."""

# Where the frameworks log what they swallow. Quart's bears the app's name.
_LOGGERS: Final = {
    "django": "django.request",
    "falcon": "falcon",
    "blacksheep": "blacksheep.server",
    "sanic": "sanic.error",
}

_log: Final = logging.getLogger("errata")


def connect(app: ASGIApp, *, log: bool = False) -> str | None:
    """Connect to the framework that *app* is made with, through its own public hook.

    Middlewares that keep what they wrap as `app` are looked through. A framework whose hook
    cannot be had (another version) is left alone with a warning: its default 500 is then
    reported as unexplained. With *log* the framework's own records of exceptions that errata
    logs are dropped.

    Returns:
        The framework's name, or None for an app of no framework that is known.
    """
    found = _find(app)
    if found is None:
        return None
    name, framework = found
    if name != "starlette":
        try:
            import_module(f"errata.integrations.{name}").connect(framework)
        except Exception as exc:
            _log.warning("could not connect to %s: %s", name, type(exc).__qualname__)
            return None
        if log and (logger := _logger_of(name, framework)):
            attach_server_filter(logger)
    _log.debug("connected to %s", name)
    return name


def _logger_of(name: str, app: Any) -> str | None:
    if name == "quart":
        return str(app.name)
    if name == "django" and import_module("django.conf").settings.ADMINS:
        return None  # Its records make the mails to the admins.
    return _LOGGERS.get(name)


def _find(app: Any) -> tuple[str, Any] | None:
    for _ in range(MAX_LAYERS):
        for base in type(app).__mro__:
            name = _FRAMEWORKS.get((base.__module__, base.__qualname__))
            if name is not None:
                return name, app
        try:
            app = getattr(app, "app", None)
        except Exception:  # A property of the user's, that is not ready yet.
            break
    return None
