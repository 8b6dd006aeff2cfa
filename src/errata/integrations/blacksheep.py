"""BlackSheep: `log_unhandled_exc` for requests, the record that it logs for websockets.

The method is called for each exception that no handler of the app has taken. Websockets have
no hook; only a record on the root logger carries the exception. A filter of that logger sees
what is logged on it, and not what comes up from others: it picks BlackSheep's one record.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from errata.witness import will_be_logged, witness


_LOGGED_IN: Final = ("blacksheep.server.application", "_handle_websocket")
"""The module and the function that log a websocket's exception."""


def connect(app: Any) -> None:
    """Put a method around the *app*'s own, and the filter on the root logger, each once."""
    log = app.log_unhandled_exc
    if not isinstance(getattr(log, "__self__", None), _Witness):
        app.log_unhandled_exc = _Witness(log).log_unhandled_exc
    root = logging.getLogger()
    if not any(isinstance(present, _WebSocketFilter) for present in root.filters):
        root.addFilter(_WebSocketFilter())


class _Witness:
    """Sees an exception, and leaves it to the method that was there before."""

    def __init__(self, log: Any) -> None:
        self._log = log

    async def log_unhandled_exc(self, request: Any, exc: Exception) -> None:
        """Log *exc* as BlackSheep asks its application to."""
        witness(exc)
        await self._log(request, exc)


class _WebSocketFilter(logging.Filter):
    """Sees the exception in BlackSheep's record of a failed websocket."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for that record, where errata logs its exception."""
        if record.funcName == _LOGGED_IN[1] and record.exc_info:
            module = sys.modules.get(_LOGGED_IN[0])
            if module is not None and record.pathname == module.__file__:
                exc = record.exc_info[1]
                witness(exc, "log")
                return exc is None or not will_be_logged(exc)
        return True
