"""Falcon: a handler around its handler for `Exception`, the last that Falcon asks.

The handlers for HTTP errors and those of the app's own for other classes are asked before it.
`App.set_error_reporter()`, of Falcon 4.4, comes too late for this: a websocket is closed by
then, and there is only one.
"""

from __future__ import annotations

import inspect
from typing import Any

from errata.witness import witness


def connect(app: Any) -> None:
    """Put the handler around the one that the Falcon *app* has for `Exception`, once."""
    handler = app._error_handlers[Exception]  # noqa: SLF001  # Nothing public tells it.
    if not isinstance(getattr(handler, "__self__", None), _Witness):
        app.add_error_handler(Exception, _Witness(handler).handle)


class _Witness:
    """Sees an exception, and leaves it to the handler that was there before."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler
        self._takes_ws = "ws" in inspect.signature(handler).parameters
        self._is_falcons = handler.__module__.startswith("falcon.")

    async def handle(self, req: Any, resp: Any, ex: Exception, params: Any, ws: Any = None) -> None:
        """Handle *ex* as Falcon asks its handlers to."""
        options = {"ws": ws} if ws is not None and self._takes_ws else {}
        if self._is_falcons or ws is None:
            witness(ex)
            await self._handler(req, resp, ex, params, **options)
        else:
            # How a handler of the app's own closes a websocket is its answer: it goes out first.
            await self._handler(req, resp, ex, params, **options)
            witness(ex)
