"""Run something a little later: with asyncio, and as well with trio, which has no loop timers."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol


class Timer(Protocol):
    """One call of an async function in the near future.

    An exception that the function raises is dropped: there is nobody to hand it to.
    """

    def cancel(self) -> bool:
        """Prevent the call; return False if it has begun or is over."""
        ...

    async def wait(self) -> None:
        """Return once a call that has begun is over."""


def start_timer(seconds: float, function: Callable[[], Awaitable[None]]) -> Timer:
    """Call *function* in *seconds*, in a task beside the current one.

    Raises:
        RuntimeError: neither asyncio nor trio runs here.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _TrioTimer(seconds, function)
    return _AsyncioTimer(loop, seconds, function)


class _AsyncioTimer:
    __slots__ = ("_function", "_handle", "_loop", "_task")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        function: Callable[[], Awaitable[None]],
    ) -> None:
        self._loop = loop
        self._function = function
        self._task: asyncio.Task[None] | None = None
        # A handle is cheap and needs no task: nearly all timers are cancelled unused.
        self._handle = loop.call_later(seconds, self._begin)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        with suppress(Exception):
            await self._function()

    def cancel(self) -> bool:
        self._handle.cancel()
        return self._task is None

    async def wait(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])


_PENDING: Final = "pending"
_BEGUN: Final = "begun"
_CANCELLED: Final = "cancelled"


class _TrioTimer:
    # A system task belongs to the run, not to the request's nursery (an ASGI app is called
    # inside nobody's nursery that it could use), and no exception may leave it.
    __slots__ = ("_done", "_function", "_scope", "_state", "_trio")

    def __init__(self, seconds: float, function: Callable[[], Awaitable[None]]) -> None:
        self._trio: Any = importlib.import_module("trio")
        self._function = function
        self._state = _PENDING
        self._done = self._trio.Event()
        self._scope = self._trio.CancelScope()
        self._trio.lowlevel.spawn_system_task(self._run, seconds)

    async def _run(self, seconds: float) -> None:
        try:
            with self._scope:
                await self._trio.sleep(seconds)
            if self._state is _PENDING:
                self._state = _BEGUN
                with suppress(Exception):
                    await self._function()
        finally:
            self._done.set()

    def cancel(self) -> bool:
        if self._state is _PENDING:
            self._state = _CANCELLED
            self._scope.cancel()
        return self._state is _CANCELLED

    async def wait(self) -> None:
        if self._state is _BEGUN:
            await self._done.wait()
