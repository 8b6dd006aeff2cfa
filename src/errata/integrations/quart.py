"""Quart: its signals tell of the exceptions that no error handler of the app has taken.

An exception in a streamed body gets out by itself.
"""

from __future__ import annotations

from typing import Any

from errata.witness import witness, witness_task


def connect(app: Any) -> None:
    """Receive the signals of the Quart *app*; a receiver is kept only once."""
    from quart import signals

    signals.got_request_exception.connect(_got_exception, app)
    signals.got_websocket_exception.connect(_got_exception, app)
    signals.got_background_exception.connect(_got_background_exception, app)


# Coroutines: Quart runs a plain function in a thread.
async def _got_exception(app: Any, exception: Exception, **_: Any) -> None:
    witness(exception)


async def _got_background_exception(app: Any, exception: Exception, **_: Any) -> None:
    await witness_task(exception)
