"""Who answers for an exception: the registry, its lookup, and exception groups."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import anyio.to_thread
from anyio.lowlevel import RunVar
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from errata.exceptions import (
    HandlerError,
    http_status,
    is_http_exception,
    leaves,
    only_leaf,
)


Handler: TypeAlias = Callable[[Any, Any], ASGIApp | Awaitable[ASGIApp]]
"""Takes the request and the exception; returns any ASGI app (a Starlette response is one)."""

Key: TypeAlias = type[Exception] | int
"""An exception class, or an HTTP error status from 400 to 599."""

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

NO_SERVER_ERRORS: Final = frozenset(range(100, 500))
NO_ERRORS: Final = frozenset(range(100, 400))
"""The statuses of answers that pass at once; the others are held back and looked at."""

MAX_GROUP_ANSWERS: Final = 32
"""Leaves of a group whose handlers are asked; a larger group goes to the catch-all."""

HANDLER_THREADS: Final = 40
"""Sync handlers at work at once in one event loop, beside the app's own 40 threads: an app
whose threads are all stuck must still be able to answer."""

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("errata_handler_threads")


class Claim(NamedTuple):
    """A handler and the exception that it is to answer."""

    handler: Handler
    exc: BaseException


class _Found(NamedTuple):
    """What a registry knows of one exception class."""

    is_http: bool
    specific: Handler | None
    catch_all: Handler | None


class Follower(Protocol):
    """Somebody who needs to know which answers can pass at once."""

    passing: frozenset[int]


class ExceptionHandlers:
    """A registry of exception handlers.

    Lookup for one exception: its HTTP status (HTTP exceptions only), then its type, then
    its bases in MRO order, then, for other than HTTP exceptions, the handler for 500.
    A later registration of the same key replaces the earlier.
    """

    def __init__(self) -> None:
        self._by_type: dict[type[BaseException], Handler] = {}
        self._by_status: dict[int, Handler] = {}
        # Weak keys: an exception class made on the fly is not kept alive by its lookup.
        self._found: WeakKeyDictionary[type[BaseException], _Found] = WeakKeyDictionary()
        self._followers: WeakSet[Follower] = WeakSet()
        self.passing = NO_SERVER_ERRORS

    def exception_handler(self, *keys: Key) -> Callable[[HandlerT], HandlerT]:
        """Register the decorated function for exception classes or statuses.

        Raises:
            TypeError: no key, or one that is neither an exception class nor a status.
            ValueError: a status that is not an error, or a class that always passes through.
        """
        if not keys:
            raise TypeError(
                "exception_handler() needs at least one key: an exception class or a status,"
                " as in @handlers.exception_handler(ValueError)"
            )
        for key in keys:
            _check_key(key)

        def register(handler: HandlerT) -> HandlerT:
            for key in keys:
                self.add(key, handler)
            return handler

        return register

    def add(self, key: Key, handler: Handler) -> None:
        """Register *handler* for one exception class or status.

        Raises:
            TypeError: the key or the handler is of the wrong type.
            ValueError: a status that is not an error, or a class that always passes through.
        """
        _check_key(key)
        if not callable(handler):
            raise TypeError(
                f"the handler for {key!r} is {handler!r}, which cannot be called;"
                " give a function of (request, exc)"
            )
        if isinstance(key, int):
            self._by_status[key] = handler
        else:
            self._by_type[key] = handler
        self._found = WeakKeyDictionary()
        if (isinstance(key, int) and key < 500) or key is HTTPException:
            self.passing = NO_ERRORS
            for follower in self._followers:
                follower.passing = NO_ERRORS

    def follow(self, follower: Follower) -> None:
        """Keep `follower.passing` at the statuses whose answers no handler wants to see.

        Each request reads it, and one attribute is cheaper than two.
        """
        follower.passing = self.passing
        self._followers.add(follower)

    def resolve(self, exc: BaseException) -> Handler | None:
        """Return the handler for *exc*, or None: one dictionary lookup after the first."""
        return self._resolve(exc, catch_all=True)

    def resolve_default(self, exc: HTTPException) -> Handler | None:
        """Return the handler for a framework's default 4xx: the catch-all never takes one."""
        return self._resolve(exc, catch_all=exc.status_code >= 500)

    def claims(self, exc: BaseException) -> list[Claim]:
        """Return who answers for *exc*: no one, one, or one for each leaf of a group."""
        if not isinstance(exc, BaseExceptionGroup):
            return self._claim(exc)
        handler = self._resolve(exc, catch_all=False)
        if handler is not None:
            return [Claim(handler, exc)]
        leaf = only_leaf(exc)
        if leaf is not None:
            return self._claim(leaf)
        return self._claim_leaves(exc) or self._claim(exc)

    def _claim(self, exc: BaseException) -> list[Claim]:
        handler = self.resolve(exc)
        return [] if handler is None else [Claim(handler, exc)]

    def _claim_leaves(self, group: BaseExceptionGroup[BaseException]) -> list[Claim]:
        claims: list[Claim] = []
        for leaf in islice(leaves(group), MAX_GROUP_ANSWERS + 1):
            handler = self._resolve(leaf, catch_all=False)
            if handler is None or len(claims) == MAX_GROUP_ANSWERS:
                return []
            claims.append(Claim(handler, leaf))
        return claims

    def _resolve(self, exc: BaseException, *, catch_all: bool) -> Handler | None:
        cls = type(exc)
        found = self._found.get(cls)
        if found is None:
            found = self._found[cls] = self._look_up(cls)
        if found.is_http and self._by_status:
            http = http_status(exc)
            if http is not None and http.status in self._by_status:
                return self._by_status[http.status]
        return found.specific or (found.catch_all if catch_all else None)

    def _look_up(self, cls: type[BaseException]) -> _Found:
        is_http = is_http_exception(cls)
        catch_all = self._by_type.get(Exception)
        if catch_all is None and not is_http:
            catch_all = self._by_status.get(500)
        registered = (base for base in cls.__mro__ if base in self._by_type)
        base = next(registered, Exception)
        return _Found(is_http, None if base is Exception else self._by_type[base], catch_all)


def _check_key(key: object) -> None:
    if isinstance(key, int) and not isinstance(key, bool):
        if not 400 <= key <= 599:
            raise ValueError(
                f"{key} is not an error status; register 400 to 599, or an exception class"
            )
    elif isinstance(key, type) and issubclass(key, BaseException):
        if not issubclass(key, Exception) and key is not BaseExceptionGroup:
            raise ValueError(
                f"{key.__qualname__} always passes through and reaches no handler;"
                " register Exception or one of its subclasses"
            )
    else:
        raise TypeError(
            f"{key!r} is neither an exception class nor a status;"
            " register an exception class such as ValueError, or a status such as 404"
        )


async def call(claim: Claim, request: object) -> ASGIApp:
    """Return the answer of a handler; a sync handler runs in a worker thread.

    Raises:
        HandlerError: the handler returned something that is not an ASGI application.
        Exception: whatever the handler raises.
    """
    handler, exc = claim
    if _is_async(handler):
        answer: Any = await handler(request, exc)  # type: ignore[misc]
    else:
        # In a tuple: trio refuses a thread's result that is a coroutine.
        (answer,) = await anyio.to_thread.run_sync(
            lambda: (handler(request, exc),), limiter=_threads()
        )
        if inspect.isawaitable(answer):
            answer = await answer
    if not callable(answer):
        raise HandlerError(
            f"the handler {_name(handler)} returned {type(answer).__qualname__}, which cannot"
            " answer; return an ASGI application such as starlette.responses.JSONResponse"
        )
    return answer  # type: ignore[no-any-return]


def _threads() -> anyio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(HANDLER_THREADS)
        _limiter.set(limiter)
        return limiter


def _is_async(handler: Any) -> bool:
    while isinstance(handler, partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - the attribute, not the question
    )


def _name(handler: Any) -> str:
    return str(getattr(handler, "__qualname__", type(handler).__qualname__))
