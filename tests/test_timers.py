"""Timers under asyncio and trio."""

from __future__ import annotations

import anyio
import pytest

from errata.timers import start_timer


pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


async def test_function_is_called_after_the_delay():
    """A timer fires by itself, beside the task that started it."""
    fired = anyio.Event()

    async def function():
        fired.set()

    timer = start_timer(0.001, function)
    with anyio.fail_after(5):
        await fired.wait()
    assert timer.cancel() is False
    await timer.wait()


async def test_cancelled_timer_never_fires():
    """A timer that was cancelled in time leaves nothing behind."""
    calls = []

    async def function():
        calls.append(1)

    timer = start_timer(0.001, function)
    assert timer.cancel() is True
    assert timer.cancel() is True
    await timer.wait()
    await anyio.sleep(0.01)
    assert calls == []


async def test_wait_returns_after_a_call_that_has_begun():
    """Whoever waits knows that the step is over."""
    begun, release, order = anyio.Event(), anyio.Event(), []

    async def function():
        begun.set()
        await release.wait()
        order.append("done")

    timer = start_timer(0, function)
    with anyio.fail_after(5):
        await begun.wait()
        assert timer.cancel() is False
        release.set()
        await timer.wait()
    assert order == ["done"]


async def test_exception_of_the_function_is_dropped():
    """A failing step does not bring the loop down."""
    begun = anyio.Event()

    async def function():
        begun.set()
        raise ValueError

    timer = start_timer(0, function)
    with anyio.fail_after(5):
        await begun.wait()
        await timer.wait()


def test_no_loop_is_a_clear_error():
    """Outside of any loop there is nothing that could run it."""

    async def function():
        pass

    with pytest.raises(RuntimeError):
        start_timer(0, function)
