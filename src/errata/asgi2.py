"""Old two-callable ASGI 2 applications, made callable as ASGI 3."""

from __future__ import annotations

import inspect
from typing import Any

from asgiref.compatibility import double_to_single_callable
from starlette.types import ASGIApp


def as_asgi3(app: Any) -> ASGIApp:
    """Return *app* as an ASGI 3 callable.

    Told by what the signature takes, not by whether it is a coroutine function: a plain
    function that returns an awaitable is ASGI 3 too. A callable that hides its signature
    (a compiled one) is taken for ASGI 3.

    Raises:
        TypeError: *app* cannot be called, or takes neither `(scope, receive, send)` nor `(scope)`.
    """
    if not callable(app):
        raise TypeError(
            f"app is {app!r:.200}, which cannot be called; give an ASGI application,"
            " as in ErrorMiddleware(app)"
        )
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return app  # type: ignore[no-any-return]
    if _takes(signature, 3):
        return app  # type: ignore[no-any-return]
    if _takes(signature, 1):
        return double_to_single_callable(app)  # type: ignore[no-any-return, no-untyped-call]
    raise TypeError(
        f"app {app!r:.200} takes {signature}; an ASGI application takes (scope, receive, send)"
    )


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
