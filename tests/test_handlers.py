"""The registry: who answers for which exception."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import weakref
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.exceptions import HTTPException

from errata import ErrorMiddleware, ExceptionHandlers, error_response
from errata.handlers import Claim, call
from errata.testing import failing_app
from tests.asgi import call as call_app
from tests.asgi import http_scope, respond


class Named:
    """A handler that can be told from the others."""

    def __init__(self, name):
        self.name = name

    def __call__(self, request, exc):
        return error_response(400, str(self.name))


def name_of(handler):
    return handler and handler.name


class Base(Exception):
    pass


class Left(Base):
    pass


class Right(Base):
    pass


class Both(Left, Right):
    pass


@pytest.mark.parametrize(
    ("keys", "exc", "expected"),
    [
        ([ValueError], ValueError(), ValueError),
        ([ValueError], UnicodeDecodeError("utf-8", b"", 0, 1, ""), ValueError),
        ([ValueError], KeyError(), None),
        ([Exception, ValueError], ValueError(), ValueError),
        ([Exception, ValueError], KeyError(), Exception),
        ([Base, Right], Both(), Right),
        ([Base, Left, Right], Both(), Left),
        ([500], ValueError(), 500),
        ([500, Exception], ValueError(), Exception),
        ([500], HTTPException(404), None),
        ([500], HTTPException(500), 500),
        ([404], HTTPException(404), 404),
        ([404, HTTPException], HTTPException(404), 404),
        ([404, HTTPException], HTTPException(405), HTTPException),
        ([Exception], HTTPException(404), Exception),
        ([404], ValueError(), None),
    ],
)
def test_most_specific_key_wins(keys, exc, expected):
    """Status first, then the class, then its bases in MRO order, then the handler for 500."""
    handlers = ExceptionHandlers()
    for key in keys:
        handlers.add(key, Named(key))
    assert name_of(handlers.resolve(exc)) == expected
    assert name_of(handlers.resolve(exc)) == expected


def test_registration_after_a_lookup_counts():
    """A lookup that found nothing is forgotten when a handler is added."""
    handlers = ExceptionHandlers()
    assert handlers.resolve(KeyError()) is None
    handlers.add(LookupError, Named("late"))
    assert name_of(handlers.resolve(KeyError())) == "late"


def test_later_registration_replaces_the_earlier():
    """The same key twice: the last one answers."""
    handlers = ExceptionHandlers()
    handlers.add(KeyError, Named("first"))
    handlers.add(KeyError, Named("second"))
    assert name_of(handlers.resolve(KeyError())) == "second"


def test_several_keys_and_the_function_itself_comes_back():
    """The decorator registers for each key and leaves the function as it is."""
    handlers = ExceptionHandlers()
    handler = Named("both")
    assert handlers.exception_handler(ValueError, KeyError, 404)(handler) is handler
    for exc in (ValueError(), KeyError(), HTTPException(404)):
        assert handlers.resolve(exc) is handler


def test_lookup_keeps_no_exception_class_alive():
    """A class that was made on the fly can go again."""
    handlers = ExceptionHandlers()
    fleeting = type("Fleeting", (Exception,), {})
    handlers.resolve(fleeting())
    reference = weakref.ref(fleeting)
    del fleeting
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (200, ValueError, "200 is not an error status"),
        (600, ValueError, "600"),
        (True, TypeError, "True"),
        ("404", TypeError, "'404'"),
        (ValueError(), TypeError, "neither an exception class nor a status"),
        (KeyboardInterrupt, ValueError, "KeyboardInterrupt always passes through"),
        (asyncio.CancelledError, ValueError, "CancelledError always passes through"),
        (int, TypeError, "int"),
    ],
)
def test_wrong_keys_are_refused_at_once(key, error, words):
    """A key that could never match is an error at registration, by decorator or by add()."""
    with pytest.raises(error, match=words.replace("(", r"\(")):
        ExceptionHandlers().add(key, Named("x"))
    with pytest.raises(error):
        ExceptionHandlers().exception_handler(ValueError, key)


def test_no_key_and_no_function_are_refused():
    """`@handlers.exception_handler()` and a handler that is no function are errors."""
    with pytest.raises(TypeError, match="at least one key"):
        ExceptionHandlers().exception_handler()
    not_a_function: Any = 7
    with pytest.raises(TypeError, match="cannot be called"):
        ExceptionHandlers().add(ValueError, not_a_function)


variable: ContextVar[str] = ContextVar("variable", default="unset")


@pytest.mark.anyio
async def test_plain_handler_runs_in_a_thread_with_the_context():
    """A sync handler neither blocks the loop nor loses the context variables."""
    variable.set("of the request")
    seen: dict[str, Any] = {}

    def handler(request, exc):
        seen.update(thread=threading.current_thread(), variable=variable.get())
        return respond()

    await call(Claim(handler, ValueError()), None)
    assert seen["thread"] is not threading.current_thread()
    assert seen["variable"] == "of the request"


class AsyncCallable:
    async def __call__(self, request, exc):
        return respond()


async def with_extra(extra, request, exc):
    return respond()


def returns_awaitable(request, exc):
    return with_extra(1, request, exc)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "handler", [AsyncCallable(), functools.partial(with_extra, 1), returns_awaitable]
)
async def test_every_shape_of_async_handler_is_awaited(handler):
    """Callable objects, partials and functions that return an awaitable work."""
    assert callable(await call(Claim(handler, ValueError()), None))


async def wait_in_thread(event):
    await anyio.to_thread.run_sync(event.wait)


@pytest.mark.anyio
async def test_handlers_have_threads_of_their_own():
    """With all of the app's threads stuck a sync handler still answers."""
    release = threading.Event()
    app_threads = anyio.to_thread.current_default_thread_limiter()
    async with anyio.create_task_group() as tasks:
        for _ in range(int(app_threads.total_tokens)):
            tasks.start_soon(wait_in_thread, release)
        while app_threads.available_tokens:
            await anyio.lowlevel.checkpoint()
        try:
            with anyio.fail_after(5):
                await call(Claim(Named("x"), ValueError()), None)
        finally:
            release.set()


# ── the request that handlers get ───────────────────────────────────────────────────────


def upload(*chunks, complete=True):
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if complete:
        messages[-1]["more_body"] = False
    return messages


def reading_app(count):
    """Return an app that reads *count* messages and fails."""

    async def app(scope, receive, send):
        for _ in range(count):
            await receive()
        raise ValueError("x")

    return app


async def body_seen(app, incoming, *, content_type=None, **options):
    seen = {}
    wrapped = ErrorMiddleware(app, **options)

    @wrapped.exception_handler(ValueError)
    async def handler(request, exc):
        seen["body"] = await request.body()
        seen["truncated"] = request.body_truncated
        return respond()

    await call_app(wrapped, http_scope(method="POST"), incoming)
    return seen["body"], seen["truncated"]


@pytest.mark.anyio
@pytest.mark.parametrize("read", [0, 1, 2, 3])
async def test_body_is_there_however_much_the_app_has_read(read):
    """What the app has read is kept, what it has not is read on."""
    incoming = upload(b"one", b"two", b"three")
    assert await body_seen(reading_app(read), incoming) == (b"onetwothree", False)


@pytest.mark.anyio
@pytest.mark.parametrize("read", [0, 1, 2, 3])
async def test_body_past_the_limit_is_truncated(read):
    """Only the first bytes are kept, and the handler is told."""
    incoming = upload(b"one", b"two", b"three")
    assert await body_seen(reading_app(read), incoming, body_limit=5) == (b"onetw", True)


@pytest.mark.anyio
async def test_body_of_exactly_the_limit_is_whole():
    """The limit itself still fits."""
    assert await body_seen(reading_app(1), upload(b"12345"), body_limit=5) == (b"12345", False)


@pytest.mark.anyio
async def test_body_of_a_client_that_left_is_truncated():
    """A client that goes in mid-upload leaves what it had sent."""
    incoming = [*upload(b"one", b"two", complete=False), {"type": "http.disconnect"}]
    assert await body_seen(reading_app(1), incoming) == (b"onetwo", True)


@pytest.mark.anyio
async def test_body_of_a_stalled_client_is_truncated(monkeypatch):
    """A client that sends no further does not hold the answer back."""
    monkeypatch.setattr("errata.request.READ_ON_TIMEOUT", 0.01)
    incoming = upload(b"one", complete=False)
    assert await body_seen(reading_app(1), incoming) == (b"one", True)


@pytest.mark.anyio
async def test_json_and_form_can_be_read_again():
    """The parsed forms of the body work as well."""
    seen = []
    app = ErrorMiddleware(reading_app(1))

    @app.exception_handler(ValueError)
    async def handler(request, exc):
        if request.headers["content-type"] == "application/json":
            seen.append(await request.json())
        else:
            seen.append(dict(await request.form()))
        return respond()

    for content_type, body in [
        ("application/json", b'{"a": 1}'),
        ("application/x-www-form-urlencoded", b"a=1&b=2"),
    ]:
        scope = http_scope(method="POST", headers={"content-type": content_type})
        await call_app(app, scope, upload(body))
    assert seen == [{"a": 1}, {"a": "1", "b": "2"}]


@pytest.mark.anyio
async def test_request_knows_the_client_and_the_error():
    """`client_ip` honours the trusted proxies, `error_id` is the header's."""
    seen = []
    app = ErrorMiddleware(failing_app(ValueError("x")), trusted_proxies=["127.0.0.1"])

    @app.exception_handler(ValueError)
    async def handler(request, exc):
        seen.append((request.client_ip, request.error_id))
        return respond()

    answer = await call_app(app, http_scope(headers={"x-forwarded-for": "203.0.113.9"}))
    assert seen == [("203.0.113.9", answer.headers["x-error-id"])]
