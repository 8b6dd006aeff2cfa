"""A live exception and its ASGI scope as a `Report`.

The app has failed already: whatever goes wrong here costs a part of the report and no more.
Nothing of the exception is kept. The report holds copies of text and numbers only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from types import CodeType, TracebackType
from typing import Any, Final, TypeVar

from errata.anatomy import (
    cause_of,
    context_of,
    members_of,
    suppresses_context,
    traceback_of,
    type_name,
    type_names,
)
from errata.budget import Budget
from errata.chain import draw_failure, outline_failure
from errata.report import Crumb, Failure, Mechanism, Phase, Query, Report, RequestInfo
from errata.scope import draw_request


MAX_PLACES: Final = 10_000
"""Steps of a traceback that a fingerprint looks at: a millisecond for the deepest recursion."""
MAX_RELATIVES: Final = 4
"""Causes, and members of a group, that a fingerprint looks at."""
MAX_DIGESTS: Final = 512
"""Fingerprints that are not computed again: in a storm that is most of their cost."""
TRAIL_CHARACTERS: Final = 150_000
"""Characters of JSON that queries and crumbs fill together."""

_Entry = TypeVar("_Entry", Query, Crumb)


def capture(
    exc: BaseException,
    scope: Mapping[str, Any] | None = None,
    *,
    error_id: str | None = None,
    traceback: TracebackType | None = None,
    phase: Phase = "request",
    mechanism: Mechanism = "escaped",
    handled: bool = False,
    status: int | None = None,
    count: int = 1,
    duration: float | None = None,
    fingerprint: str | None = None,
    body: bytes | None = None,
    body_truncated: bool = False,
    client: str | None = None,
    queries: Sequence[Query] = (),
    crumbs: Sequence[Crumb] = (),
    versions: Mapping[str, str] | None = None,
    frames: bool = True,
) -> Report:
    """Draw a report of *exc*: bounded, within a fraction of a second, without ever raising.

    As JSON a report has less than 1 MB. No code of the app runs except, within limits, the
    `__str__` of an exception class.

    Args:
        exc: the exception; its causes, contexts and members are drawn too.
        scope: the ASGI scope it happened in.
        error_id: 32 hexadecimal digits, by default new ones.
        traceback: instead of the exception's own, which Starlette clears after a handler ran.
        phase: where in the conversation it happened.
        mechanism: how it was seen.
        handled: whether a handler has claimed it.
        status: what the client got, if that is known already.
        count: how many equal errors the report stands for.
        duration: seconds since the request's start.
        fingerprint: by default what `fingerprint()` returns.
        body: what the app has read of the request's body.
        body_truncated: whether that is only its beginning.
        client: the client's address.
        queries: statements that ran before, oldest first.
        crumbs: log lines before, oldest first. Of both the oldest are left out if they are
            too much.
        versions: of Python and of packages.
        frames: False makes the light report of a repeated error in a few microseconds: type,
            message, notes, and the request's method, path, client and route.
    """
    return Report(
        error_id=error_id or new_error_id(),
        failure=_draw(exc, traceback, whole=frames),
        fingerprint=_fingerprint(exc, traceback) if fingerprint is None else fingerprint,
        timestamp=time.time(),
        phase=phase,
        mechanism=mechanism,
        handled=handled,
        status=status,
        count=count,
        duration=duration,
        request=_request(scope, body, truncated=body_truncated, client=client, whole=frames),
        queries=_newest(queries, TRAIL_CHARACTERS // 2),
        crumbs=_newest(crumbs, TRAIL_CHARACTERS // 2),
        versions=dict(versions or {}),
    )


def new_error_id() -> str:
    """Return 32 hexadecimal digits that nobody can guess."""
    return os.urandom(16).hex()


def fingerprint(exc: BaseException, traceback: TracebackType | None = None) -> str:
    """Return 32 hexadecimal digits that are the same for the same error, within microseconds.

    They are made of the types of *exc*, of its first causes and members, and of the
    functions that the traceback passes through: each once, then the innermost. So neither
    the message, nor an edited line, nor the depth of a recursion matters. Never raises.
    """
    names, codes = [type_name(type(exc))], []
    try:
        codes = _places(exc, traceback)
        names += _relatives(exc)
    except Exception:
        names.append("?")
    return _digest(tuple(names), tuple(map(id, codes)), _Codes(codes))


class _Codes(tuple[CodeType, ...]):
    """Code objects that a cache keeps but does not compare: their ids stand beside them."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Codes)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=MAX_DIGESTS)
def _digest(names: tuple[str, ...], _ids: tuple[int, ...], codes: _Codes) -> str:
    places = [text for code in codes for text in (code.co_filename, code.co_qualname)]
    text = "\0".join((*names, *places)).encode("utf-8", "backslashreplace")
    return blake2b(text, digest_size=16).hexdigest()


_fingerprint: Final = fingerprint  # `capture` has a parameter of the same name


def _places(exc: BaseException, traceback: TracebackType | None) -> list[CodeType]:
    step = traceback_of(exc) if traceback is None else traceback
    codes: dict[int, CodeType] = {}
    code = None
    for _ in range(MAX_PLACES):
        if step is None:
            break
        code = step.tb_frame.f_code
        codes[id(code)] = code
        step = step.tb_next
    places = list(codes.values())
    if code is not None and type(exc) is not RecursionError:  # ends in any of its functions
        places.append(code)
    return places


def _relatives(exc: BaseException) -> list[str]:
    names = [type_name(type(member)) for member in members_of(exc)[:MAX_RELATIVES]]
    for _ in range(MAX_RELATIVES):
        cause = cause_of(exc)
        if cause is None and not suppresses_context(exc):
            cause = context_of(exc)
        if cause is None:
            break
        names.append(type_name(type(cause)))
        exc = cause
    return names


def _draw(exc: BaseException, traceback: TracebackType | None, *, whole: bool) -> Failure:
    """Draw as much of *exc* as can be had."""
    values = Budget(lasting=True)  # the exception is alive in our caller
    notes: tuple[str, ...] = ()
    try:
        if whole:
            shown = traceback_of(exc) if traceback is None else traceback
            return draw_failure(exc, shown, values)
    except Exception as raised:
        notes = (f"errata: the rest is missing, reading it raised {type_name(type(raised))}",)
    try:
        outline = outline_failure(exc, values)
        return replace(outline, notes=(*outline.notes, *notes)) if notes else outline
    except Exception as raised:
        notes = (f"errata: the message is missing, reading it raised {type_name(type(raised))}",)
        module, name = type_names(type(exc))
        return Failure(type=name, module=module, message="", notes=notes)


def _request(scope: object, body: bytes | None, **options: Any) -> RequestInfo | None:
    try:
        return draw_request(scope, body=body, **options)
    except Exception:
        return None


def _newest(entries: Sequence[_Entry], room: int) -> tuple[_Entry, ...]:
    """Return the last of *entries*, as many as fit into *room* characters of JSON."""
    if not entries:
        return ()
    kept: list[_Entry] = []
    for entry in reversed(entries):
        try:
            room -= len(json.dumps([getattr(entry, name) for name in entry.__slots__]))
        except (TypeError, ValueError):  # made by hand, of something that is no description
            continue
        if room < 0:
            break
        kept.append(entry)
    return tuple(reversed(kept))
