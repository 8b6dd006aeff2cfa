"""What the caller gets: which media type it accepts, and an error's answer in each of them.

Nothing here takes an exception: what these functions are not given they cannot leak.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from itertools import starmap
from typing import Any, Final, NamedTuple, TypeAlias

from starlette.responses import Response

from errata.report import JSON


MEDIA_TYPES: Final = (
    "application/json",
    "application/problem+json",
    "text/html",
    "text/plain",
    "text/markdown",
)
"""What `generic_response` can answer in, the server's favourite first."""

HeaderText: TypeAlias = str | bytes | int
Headers: TypeAlias = Mapping[str, HeaderText] | Iterable[tuple[str | bytes, HeaderText]]
"""A mapping or pairs; names and values as text or as ASGI's bytes, numbers as values."""

MAX_ACCEPT_LENGTH: Final = 1024  # Characters that are read; browsers send at most 200.
MAX_ACCEPT_MEMBERS: Final = 64  # Media ranges that are read; browsers send at most ten.
MAX_CACHED_ACCEPTS: Final = 256  # Of that length: a quarter of a megabyte.
MAX_DETAIL_DEPTH: Final = 32  # Containers within each other; validation reports nest four deep.
MAX_DETAIL_VALUES: Final = 100_000  # 0.2 seconds; lists that share lists can stand for billions.
MAX_DETAIL_TEXT: Final = 1000  # Characters of a value that JSON does not know.
MAX_DETAIL_BITS: Final = 8192  # Python refuses to write integers of more than 4300 digits.

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, section 5.5
_QVALUE: Final = re.compile(r"0(?:\.[0-9]*)?|1(?:\.0*)?")  # RFC 9110, section 12.4.2
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*+("?)')
_MARKDOWN: Final = re.compile(r"[\\`*_\[\]<>#|~&]")

_STATUSES: Final = range(200, 600)
_BODILESS: Final = frozenset({204, 205, 304})  # RFC 9110, section 6.4.1
_PROTECTION: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_OF_THE_BODY: Final = frozenset({b"content-length", b"content-encoding", b"transfer-encoding"})
_OURS: Final = _OF_THE_BODY | {b"content-type", *(name for name, _ in _PROTECTION)}


def negotiate(accept: Iterable[str], offers: Sequence[str]) -> str:
    """Return the one of *offers* that a client which sent these `Accept` values wants most.

    RFC 9110, section 12.5.1: the most specific media range gives an offer its quality, the
    highest quality wins; then the more specific match, the earlier range, the earlier offer.
    Parameters other than `q` are ignored, and so are malformed ranges and what is past
    `MAX_ACCEPT_LENGTH` or `MAX_ACCEPT_MEMBERS`. If no offer will do, it is the first.

    Raises:
        ValueError: there are no offers.
    """
    header = accept if isinstance(accept, str) else ",".join(accept)
    if len(header) > MAX_ACCEPT_LENGTH:
        header = header[:MAX_ACCEPT_LENGTH].rpartition(",")[0]
    return _best(header, tuple(offers))


def accept_values(scope: Mapping[str, Any]) -> list[str]:
    """Return the values of the `Accept` headers of an ASGI scope, for `negotiate`."""
    headers = scope.get("headers")
    if not isinstance(headers, Collection):  # An iterator that we read would be empty for the app.
        return []
    try:
        return [value.decode("latin-1") for name, value in headers if name.lower() == b"accept"]
    except Exception:  # A scope is what servers and middleware made of it.
        return []


def phrase(status: int) -> str:
    """Return the reason phrase of *status*, such as "Not Found"; a general one if it has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return {4: "Client error", 5: "Server error"}.get(status // 100, "Error")


def error_response(
    status: int,
    message: str,
    code: str | int | None = None,
    details: Any = None,
    headers: Headers | None = None,
) -> Response:
    """Return a JSON answer `{"error": message, "code": code, "details": details}`.

    What is None stays out. In *details* a value that JSON does not know (a datetime, a UUID,
    an exception, a set) becomes its text, and a float that is no number becomes null.

    Raises:
        ValueError: *status* is not from 400 to 599, or HTTP does not allow a header.
        TypeError: a header is neither text nor a number.
    """
    content = _given({"error": message, "code": code, "details": details})
    return _json_response(_error_status(status), content, b"application/json", headers)


def problem_response(  # noqa: PLR0917  # In the order of RFC 9457.
    status: int,
    title: str | None = None,
    detail: str | None = None,
    type: str = "about:blank",  # noqa: A002  # The member's name in RFC 9457.
    instance: str | None = None,
    headers: Headers | None = None,
    **extensions: Any,
) -> Response:
    """Return an `application/problem+json` answer (RFC 9457).

    *title* is the status' reason phrase by default; *detail* and *instance* stay out if they
    are None. *extensions* are further members, of any value that `error_response` takes.

    Raises:
        ValueError, TypeError: as `error_response` does.
    """
    status = _error_status(status)
    members = {"type": type, "title": title or phrase(status), "status": status}
    problem = members | _given({"detail": detail, "instance": instance}) | extensions
    return _json_response(status, problem, b"application/problem+json", headers)


def generic_response(
    media_type: str,
    *,
    status: int = 500,
    error_id: str | None = None,
    detail: Any = None,
    headers: Headers | None = None,
    problem_json: bool = False,
    html: str | None = None,
) -> Response:
    """Return the production answer in *media_type*, one of `MEDIA_TYPES` (else JSON).

    JSON is `{"error", "code", "error_id"}`: the status' reason phrase as a sentence, or a str
    *detail* in its place; the phrase as a word (`not_found`; `server_error` for 500); the id if
    given. A *detail* that is no str goes to `details`. *problem_json* makes it RFC 9457's JSON.
    *html* is the page for `text/html`; without one that answer is plain text.

    It is never cached or sniffed. It never raises: *headers* that cannot be sent, or that speak
    of another body, are left out, and a *status* that is none is 500.
    """
    status = int(status) if status in _STATUSES else 500
    raw = list(_PROTECTION)
    if headers is not None:
        raw += [pair for pair in _sendable(headers) if pair[0] not in _OURS]
    if status in _BODILESS:
        return _Answer(status, b"", raw)
    if media_type == "text/html" and html is not None:
        return _answer(status, html, b"text/html; charset=utf-8", raw)
    if media_type == "text/markdown":
        text = _generic_text(status, detail, error_id, markdown=True)
        return _answer(status, text, b"text/markdown; charset=utf-8", raw)
    if media_type in {"text/plain", "text/html"}:
        text = _generic_text(status, detail, error_id, markdown=False)
        return _answer(status, text, b"text/plain; charset=utf-8", raw)
    problem = problem_json or media_type == "application/problem+json"
    text = _generic_json(status, detail, error_id, problem=problem)
    kind = b"application/problem+json" if problem else b"application/json"
    return _answer(status, text, kind, raw)


class _Answer(Response):
    """A response whose bytes and headers are ready: Starlette has nothing to render."""

    def __init__(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = status
        self.body = body
        self.raw_headers = headers
        self.background = None


class _Words(NamedTuple):
    """A status in words; `json` is the start of its generic answer, ready for error storms."""

    phrase: str
    sentence: str
    code: str
    json: str


@lru_cache(maxsize=len(_STATUSES))
def _words(status: int) -> _Words:
    title = phrase(status)
    first, *rest = title.split(" ")
    sentence = " ".join([first, *(word if word.isupper() else word.lower() for word in rest)])
    code = title.lower().replace("'", "").replace("-", " ").replace(" ", "_")
    code = "server_error" if status == HTTPStatus.INTERNAL_SERVER_ERROR else code
    return _Words(title, sentence, code, _encode({"error": sentence, "code": code})[:-1])


def _message(words: _Words, detail: Any) -> str:
    own = isinstance(detail, str) and detail and detail != words.phrase
    return detail if own else words.sentence


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _generic_text(status: int, detail: Any, error_id: str | None, *, markdown: bool) -> str:
    message, mark = _message(_words(status), detail), ""
    if markdown:
        message, mark = "# " + _MARKDOWN.sub(r"\\\g<0>", " ".join(message.split())), "`"
    return message + ("\n" if error_id is None else f"\n\nError ID: {mark}{error_id}{mark}\n")


def _generic_json(status: int, detail: Any, error_id: str | None, *, problem: bool) -> str:
    words = _words(status)
    if detail is None and error_id is not None and not problem:
        return f'{words.json},"error_id":{_encode(error_id)}}}'
    message, details = _message(words, detail), None if isinstance(detail, str) else detail
    content: dict[str, Any] = {"error": message, "code": words.code}
    if problem:
        own = None if message == words.sentence else message
        content = {"type": "about:blank", "title": words.phrase, "status": status, "detail": own}
    return _dumps(_given({**content, "details": details, "error_id": error_id}))


def _error_status(status: object) -> int:
    if isinstance(status, int) and 400 <= status <= 599:
        return int(status)
    raise ValueError(
        f"status must be an int from 400 to 599, not {status!r}: for others use a JSONResponse"
    )


def _json_response(
    status: int, content: Mapping[str, Any], media_type: bytes, headers: Headers | None
) -> Response:
    pairs = starmap(_raw_header, () if headers is None else _pairs(headers))
    raw = [pair for pair in pairs if pair[0] not in _OF_THE_BODY]
    own_type = b"content-type" in dict(raw)
    return _answer(status, _dumps(content), None if own_type else media_type, raw)


def _answer(
    status: int, text: str, media_type: bytes | None, headers: list[tuple[bytes, bytes]]
) -> Response:
    body = text.encode("utf-8", "replace")
    headers.append((b"content-length", b"%d" % len(body)))
    if media_type is not None:
        headers.append((b"content-type", media_type))
    return _Answer(status, body, headers)


def _pairs(headers: Headers) -> Iterable[Any]:
    return headers.items() if isinstance(headers, Mapping) else headers


def _raw_header(name: Any, value: Any) -> tuple[bytes, bytes]:
    if not isinstance(name, str | bytes) or not isinstance(value, str | bytes | int):
        raise TypeError(f"the header {name!r:.100} must be text, not {value!r:.100}: write a str")
    field, text = (
        part.decode("latin-1") if isinstance(part, bytes) else str(part) for part in (name, value)
    )
    if not _TOKEN.fullmatch(field) or not _FIELD_VALUE.fullmatch(text):
        raise ValueError(
            f"the header {name!r:.100} cannot be sent with the value {value!r:.100}: remove or "
            "encode what is no letter, digit or hyphen in the name, no Latin-1 in the value, and "
            "control characters (CR and LF would begin another header)"
        )
    return field.lower().encode("ascii"), text.strip(" \t").encode("latin-1")


def _sendable(headers: Headers) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers that HTTP allows: what an exception has for headers may be anything."""
    with suppress(Exception):
        for pair in _pairs(headers):
            with suppress(TypeError, ValueError):
                yield _raw_header(*pair)


def _dumps(content: Mapping[str, Any]) -> str:
    return _encode(_plain(content, iter(range(MAX_DETAIL_VALUES))))


def _plain(value: object, budget: Iterator[int], depth: int = 0) -> JSON:
    """Return what JSON can hold of *value*, or its text; *budget* bounds the values in it."""
    try:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, str | float | None) or (
            isinstance(value, int) and value.bit_length() <= MAX_DETAIL_BITS
        ):
            return value
        if isinstance(value, Mapping | list | tuple) and depth == MAX_DETAIL_DEPTH:
            return "…"
        if isinstance(value, Mapping):
            return {
                key if isinstance(key, str) else _text(key): _plain(item, budget, depth + 1)
                for (key, item), _ in zip(value.items(), budget, strict=False)
            }
        if isinstance(value, list | tuple):
            return [_plain(item, budget, depth + 1) for item, _ in zip(value, budget, strict=False)]
    except (Exception, SystemExit):  # The app's own classes are asked, and may do anything.
        pass
    return _text(value)


def _text(value: object) -> str:
    try:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        return text if len(text) <= MAX_DETAIL_TEXT else f"{text[:MAX_DETAIL_TEXT]}…"
    except (Exception, SystemExit):
        return "<unprintable>"


# `default` is for a value whose class pretends to be another.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_text
).encode


@lru_cache(maxsize=MAX_CACHED_ACCEPTS)
def _best(header: str, offers: tuple[str, ...]) -> str:
    if not offers:
        raise ValueError("there must be something to offer: give at least one media type")
    ranges = _ranges(header)
    return max(offers, key=lambda offer: _rank(offer, ranges))  # The first of the best.


def _rank(offer: str, ranges: Mapping[str, tuple[float, int]]) -> tuple[float, int, int]:
    media_type = offer.partition(";")[0].strip().lower()
    wildcard = f"{media_type.partition('/')[0]}/*"
    for generality, media_range in enumerate((media_type, wildcard, "*/*")):
        quality, position = ranges.get(media_range, (None, 0))
        if quality is not None:
            return (quality, -generality, -position) if quality else (0.0, 0, 0)
    return (0.0, 0, 0)


def _ranges(header: str) -> dict[str, tuple[float, int]]:
    """Return each media range with its quality, the best if there are two, and its position."""
    ranges: dict[str, tuple[float, int]] = {}
    # What is in quotes could look like a separator, and is of no interest.
    unquoted = _QUOTED.sub(lambda quoted: '""' if quoted[1] else '"', header)
    for position, member in enumerate(unquoted.lower().split(",")[:MAX_ACCEPT_MEMBERS]):
        media_range, *parameters = (part.strip(" \t") for part in member.split(";"))
        quality = _quality(parameters)
        if quality is not None and quality > ranges.get(media_range, (-1.0, 0))[0]:
            ranges[media_range] = (quality, position)
    return ranges


def _quality(parameters: Iterable[str]) -> float | None:
    """Return the `q` of a media range, 1 by default; None: the range is malformed."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            return float(value) if _QVALUE.fullmatch(value) else None
        if '"' in value.replace('""', ""):
            return None
    return 1.0
