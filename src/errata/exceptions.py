"""What an exception tells about itself, read without running its code.

Exception
└── ErrataError
    ├── ASGIProtocolError (RuntimeError)   an app sent what ASGI forbids
    ├── HandlerError (TypeError)           a handler returned what cannot answer
    └── UnexplainedError                   a default 500 whose exception nobody saw
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary


MAX_LEAVES: Final = 1000
"""Leaves of one exception group that are looked at: dispatch stays in microseconds."""


class ErrataError(Exception):
    """The base of the errors that errata itself raises or reports."""


class ASGIProtocolError(ErrataError, RuntimeError):
    """The application sent a message that ASGI does not allow at this point."""


class HandlerError(ErrataError, TypeError):
    """An exception handler returned something that is not an ASGI application."""


class UnexplainedError(ErrataError):
    """The application answered with a default 500, and no exception was to be seen."""


class HTTPStatus(NamedTuple):
    """What an HTTP exception says about the answer that it wants."""

    status: int
    detail: Any = None
    headers: Any = None


class _Reading(NamedTuple):
    """The attributes under which one framework keeps status, detail and headers."""

    status: str
    detail: str
    headers: str | None


# Only these carry a status: any exception may have an integer `code` or `status_code`
# (urllib's HTTPError, API clients), and that one is the upstream's answer, not ours.
_HTTP_EXCEPTIONS: Final = {
    ("starlette.exceptions", "HTTPException"): _Reading("status_code", "detail", "headers"),
    ("litestar.exceptions.http_exceptions", "HTTPException"): _Reading(
        "status_code", "detail", "headers"
    ),
    ("werkzeug.exceptions", "HTTPException"): _Reading("code", "description", None),
    ("falcon.http_error", "HTTPError"): _Reading("status_code", "description", "headers"),
    ("blacksheep.exceptions", "HTTPException"): _Reading("status", "message", None),
    ("sanic.exceptions", "SanicException"): _Reading("status_code", "message", "headers"),
}
_DJANGO_STATUSES: Final = {
    ("django.http.response", "Http404"): 404,
    ("django.core.exceptions", "PermissionDenied"): 403,
    ("django.core.exceptions", "BadRequest"): 400,
    ("django.core.exceptions", "SuspiciousOperation"): 400,
}

# A client that has gone is no error. By name, so that no framework is imported.
_DISCONNECTS: Final = frozenset(
    {
        ("starlette.requests", "ClientDisconnect"),
        ("starlette.websockets", "WebSocketDisconnect"),
        ("litestar.exceptions.websocket_exceptions", "WebSocketDisconnect"),
        ("falcon.errors", "WebSocketDisconnected"),
        ("blacksheep.server.websocket", "WebSocketDisconnectError"),
        ("django.core.exceptions", "RequestAborted"),
        ("uvicorn.protocols.utils", "ClientDisconnected"),
    }
)


def is_http_exception(cls: type[BaseException]) -> bool:
    """Tell whether *cls* is Starlette's HTTP exception or another framework's own."""
    return _kind(cls).http_base is not None


def http_status(exc: BaseException) -> HTTPStatus | None:
    """Return what the HTTP exception *exc* asks for, or None if it is not one.

    Only Starlette's (FastAPI's) and the other frameworks' own HTTP exceptions count, and
    only statuses from 400 to 599.
    """
    base = _kind(type(exc)).http_base
    if base is None:
        return None
    if base in _DJANGO_STATUSES:
        return HTTPStatus(_DJANGO_STATUSES[base])
    reading = _HTTP_EXCEPTIONS[base]
    status = _read(exc, reading.status)
    if not isinstance(status, int) or not 400 <= status <= 599:
        return None
    return HTTPStatus(int(status), _read(exc, reading.detail), _read(exc, reading.headers))


def is_disconnect(exc: BaseException) -> bool:
    """Tell whether *exc* only says that the client went away (a group: all of its leaves)."""
    if isinstance(exc, BaseExceptionGroup):
        return all(_kind(type(leaf)).is_disconnect for leaf in leaves(exc))
    return _kind(type(exc)).is_disconnect


def forget_traceback(exc: BaseException) -> None:
    """Let go of the frames of an exception that stays in.

    An object that is raised again and again (a module-level singleton) collects the frames of
    every request otherwise.
    """
    # Not the attribute: a `__setattr__` of the user's may do anything.
    BaseException.with_traceback(exc, None)


def raised_in(exc: BaseException, function: object) -> bool:
    """Tell whether *exc* passed through *function*, a Python function or method."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    traceback = exc.__traceback__
    while code is not None and traceback is not None:
        if traceback.tb_frame.f_code is code:
            return True
        traceback = traceback.tb_next
    return False


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group, depth first, at most `MAX_LEAVES`; else *exc* itself."""
    pending = [exc]
    found = 0
    while pending and found < MAX_LEAVES:
        current = pending.pop()
        if isinstance(current, BaseExceptionGroup):
            pending.extend(reversed(current.exceptions[:MAX_LEAVES]))
        else:
            found += 1
            yield current


def only_leaf(exc: BaseException) -> BaseException | None:
    """Return the one exception that a group holds, however deep; None if there are several."""
    while isinstance(exc, BaseExceptionGroup):
        if len(exc.exceptions) != 1:
            return None
        exc = exc.exceptions[0]
    return exc


@dataclass(slots=True)
class Mark:
    """What errata leaves on an exception that it has reported and that travels on.

    The same object may be raised again later (a module-level singleton), so a mark counts
    once for each middleware that meets it and once for the server's log.
    """

    error_id: str
    met: set[int]
    logged: bool


_MARK: Final = "__errata__"
_DICT: Final = BaseException.__dict__["__dict__"]


def mark(exc: BaseException, error_id: str, *, by: object, logged: bool) -> None:
    """Note on *exc* that *by* has reported it as *error_id*; *logged*: with a log line."""
    # The real instance dictionary: a hostile `__setattr__` or `__getattribute__` never runs.
    _instance_dict(exc)[_MARK] = Mark(error_id, {id(by)}, logged)


def meet(exc: BaseException, *, by: object) -> str | None:
    """Return the error id under which an inner middleware has reported *exc* already.

    None if nobody has, or if *by* itself has: then the object is raised anew. A group
    counts as reported when every leaf of it is.
    """
    marks = _marks_of(exc)
    if not marks or any(found is None or id(by) in found.met for found in marks):
        return None
    for found in marks:
        if found is not None:
            found.met.add(id(by))
    return marks[0].error_id if marks[0] is not None else None


def consume_log_mark(exc: BaseException) -> bool:
    """Tell whether errata has logged *exc* already; true once for each time it did."""
    marks = _marks_of(exc)
    if not marks or any(found is None or not found.logged for found in marks):
        return False
    for found in marks:
        if found is not None:
            found.logged = False
    return True


class _Kind(NamedTuple):
    """What the class of an exception says."""

    http_base: tuple[str, str] | None
    is_disconnect: bool


# Weak keys: a class that was made on the fly is not kept alive.
_KINDS: Final[WeakKeyDictionary[type[BaseException], _Kind]] = WeakKeyDictionary()


def _kind(cls: type[BaseException]) -> _Kind:
    kind = _KINDS.get(cls)
    if kind is None:
        names = [(base.__module__, base.__qualname__) for base in cls.__mro__]
        http = (name for name in names if name in _HTTP_EXCEPTIONS or name in _DJANGO_STATUSES)
        kind = _KINDS[cls] = _Kind(next(http, None), not _DISCONNECTS.isdisjoint(names))
    return kind


def _marks_of(exc: BaseException) -> list[Mark | None]:
    found = _mark_of(exc)
    if found is None and isinstance(exc, BaseExceptionGroup):
        return [_mark_of(leaf) for leaf in leaves(exc)]
    return [] if found is None else [found]


def _mark_of(exc: BaseException) -> Mark | None:
    found = _instance_dict(exc).get(_MARK)
    return found if isinstance(found, Mark) else None


def _instance_dict(exc: BaseException) -> dict[str, Any]:
    dictionary: dict[str, Any] = _DICT.__get__(exc)
    return dictionary


def _read(exc: BaseException, name: str | None) -> Any:
    """Return an attribute of an HTTP exception; a subclass may have made it a property."""
    try:
        return getattr(exc, name) if name is not None else None
    except Exception:
        return None
