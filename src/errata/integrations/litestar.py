"""Litestar: its `after_exception` hooks see whatever a route raises, over HTTP and websockets.

They are not called for an exception after the response's start, which Litestar lets out.
"""

from __future__ import annotations

from typing import Any

from errata.witness import witness


def connect(app: Any) -> None:
    """Add the hook to the Litestar *app*, once."""
    if _after_exception not in app.after_exception:
        app.after_exception.append(_after_exception)


async def _after_exception(exc: Exception, scope: Any) -> None:
    from litestar.exceptions import WebSocketException

    # The app's own choice of a close code, or a client that has gone.
    if not isinstance(exc, WebSocketException):
        witness(exc)
