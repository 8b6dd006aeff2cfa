"""Sanic: its signals for the exceptions of requests, of websockets and of tasks.

They also tell of exceptions that the app's own handlers answer, and of HTTP exceptions.
"""

from __future__ import annotations

from typing import Any, Final

from errata.witness import witness, witness_task


def connect(app: Any) -> None:
    """Receive the signals of the Sanic *app*, each once."""
    # A handler that is added twice is called twice.
    present = {signal.handler for signal in app._future_signals}  # noqa: SLF001  # Nothing public tells it.
    for event, handler in _HANDLERS.items():
        if handler not in present:
            app.add_signal(handler, event)


def _exception(exception: BaseException, **_: Any) -> None:
    witness(exception)


async def _exception_report(exception: BaseException, **_: Any) -> None:
    # Sent for the exceptions of requests too, of which `_exception` is told. Nothing but the
    # traceback tells those of tasks, which start in the function that Sanic runs them with.
    traceback = exception.__traceback__
    if traceback is not None and traceback.tb_frame.f_code.co_qualname == _TASK:
        await witness_task(exception)


_TASK: Final = "Sanic._prep_task.<locals>.do"
_HANDLERS: Final = {
    "http.lifecycle.exception": _exception,
    "websocket.handler.exception": _exception,
    "server.exception.report": _exception_report,
}
