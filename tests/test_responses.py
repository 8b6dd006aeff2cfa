"""What the caller gets: negotiation, error answers, and the defaults of the frameworks."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from functools import cache
from http import HTTPStatus
from importlib import import_module
from itertools import count
from types import MappingProxyType, ModuleType
from typing import Any
from unittest.mock import MagicMock
from urllib.parse import unquote
from uuid import UUID
from zlib import crc32

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.responses import Response

from errata.defaults import MAX_DEFAULT_BODY, is_default_body
from errata.responses import (
    MAX_ACCEPT_LENGTH,
    MAX_ACCEPT_MEMBERS,
    MAX_DETAIL_DEPTH,
    MAX_DETAIL_TEXT,
    MAX_DETAIL_VALUES,
    MEDIA_TYPES,
    accept_values,
    error_response,
    generic_response,
    negotiate,
    phrase,
    problem_response,
)


JSON, PROBLEM, HTML, TEXT, MARKDOWN = MEDIA_TYPES
ERROR_ID = "0197c2f1"

FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
CHROME = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,"
    "*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
)


# ── negotiation ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        # Nothing, or anything: the server's favourite.
        ([], JSON),
        ([""], JSON),
        ([" , ,"], JSON),
        (["*/*"], JSON),
        (["application/*"], JSON),
        (["text/*"], HTML),
        # What clients send.
        ([FIREFOX], HTML),
        ([CHROME], HTML),
        (["application/json, text/plain, */*"], JSON),
        (["application/json, text/javascript, */*; q=0.01"], JSON),
        (["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"], HTML),
        (["image/avif,image/webp,*/*;q=0.8"], JSON),
        (["text/event-stream"], JSON),
        (["text/markdown, text/html;q=0.9, */*;q=0.1"], MARKDOWN),
        (["application/problem+json"], PROBLEM),
        # Quality first.
        (["text/html;q=0.5, text/plain;q=0.6"], TEXT),
        (["text/html;q=0.5, */*"], JSON),
        (["text/html;q=0.001, image/png"], HTML),
        (["text/plain;q=1.000, text/html;q=0.999"], TEXT),
        (["text/html ; q=0.2 , text/plain ; Q=0.7"], TEXT),
        # The most specific range gives the quality, wherever it stands.
        (["*/*, application/json;q=0.1"], PROBLEM),
        (["application/*;q=0.2, application/json;q=0.9, text/*;q=0.5"], JSON),
        (["text/*;q=0.3, text/plain;q=0.1, */*;q=0.2"], HTML),
        (["text/*, text/html;q=0, text/plain;q=0"], MARKDOWN),
        # Ties: the more specific, then the earlier, then the server's order.
        (["*/*, text/plain"], TEXT),
        (["text/*, application/json"], JSON),
        (["text/plain, text/html"], TEXT),
        (["text/html, text/plain"], HTML),
        (["text/*, application/*"], HTML),
        # Not acceptable: told in the favourite anyway, but never in what is refused for no reason.
        (["image/png"], JSON),
        (["*/*;q=0"], JSON),
        (["application/json;q=0"], JSON),
        (["application/json;q=0, text/plain;q=0.1"], TEXT),
        (["application/*;q=0, */*;q=0.1"], HTML),
        # Several headers are one.
        (["text/plain;q=0.5", "text/html"], HTML),
        (["text/plain", "text/html"], TEXT),
        # Case does not matter; parameters other than q neither.
        (["TEXT/Plain"], TEXT),
        (["text/html;level=1;q=0.1, text/plain;q=0.5"], TEXT),
        (["text/plain;format=flowed"], TEXT),
        (['text/plain;a="x,y;q=0", text/html;q=0.5'], TEXT),
        (['text/plain;a="\\",text/html;", text/markdown;q=0.1'], TEXT),
        (["text/html;level=1;q=0, text/html"], HTML),
        # Malformed members are ignored.
        (["nonsense, text/plain"], TEXT),
        (["text/html;q=2, text/plain;q=0.1"], TEXT),
        (["text/html;q=-1, text/plain;q=0.1"], TEXT),
        (["text/html;q=, text/plain;q=0.1"], TEXT),
        (["text/html;q, text/plain;q=0.1"], TEXT),
        (["text/html;q=nan, text/plain;q=0.1"], TEXT),
        (["text/html;q=1e0, text/plain;q=0.1"], TEXT),
        (["text/html;q=٠.٥, text/plain;q=0.1"], TEXT),
        (['text/html;q="1", text/plain;q=0.1'], TEXT),
        (['text/html;a="x, text/plain;q=0.1'], JSON),
        (['text/plain;q=0.1, text/html;a="x'], TEXT),
        (["/, text, /html, text/, */html, text/plain;q=0.1"], TEXT),
        (["\x00\xff;=;;, text/plain"], TEXT),
    ],
)
def test_negotiation(accept: list[str], expected: str) -> None:
    """The client gets what it likes best of what there is (RFC 9110, section 12.5.1)."""
    assert negotiate(accept, MEDIA_TYPES) == expected
    assert negotiate(iter(accept), list(MEDIA_TYPES)) == expected


def test_negotiation_takes_one_value_and_any_offers() -> None:
    """A single str is one header's value; offers may have parameters."""
    assert negotiate("text/plain", MEDIA_TYPES) == TEXT
    assert negotiate(["text/html"], ["a/b", "Text/HTML; charset=utf-8"]).startswith("Text/HTML")
    with pytest.raises(ValueError, match="at least one media type"):
        negotiate(["*/*"], [])


def test_negotiation_is_bounded() -> None:
    """What is past the limits is not read; what stands before them is."""
    padding = "a/b;p=" + "x" * MAX_ACCEPT_LENGTH
    assert negotiate([f"text/plain,{padding}"], MEDIA_TYPES) == TEXT
    assert negotiate([f"{padding},text/plain"], MEDIA_TYPES) == JSON
    cut = "text/plain,".ljust(MAX_ACCEPT_LENGTH - 9) + "text/html;q=0.5"
    assert negotiate([cut], MEDIA_TYPES) == TEXT
    assert negotiate(["a/b," * (MAX_ACCEPT_MEMBERS - 1) + "text/plain"], MEDIA_TYPES) == TEXT
    assert negotiate(["a/b," * MAX_ACCEPT_MEMBERS + "text/plain"], MEDIA_TYPES) == JSON
    assert negotiate(['"\\' * 5_000_000], MEDIA_TYPES) == JSON


ranges = st.sampled_from([*MEDIA_TYPES, "*/*", "text/*", "application/*", "image/png", "x", ""])
qualities = st.sampled_from(["", ";q=0", ";q=0.0", ";q=0.1", ";q=0.5", ";q=1", ";q=7", ";a=b"])
members = st.builds(str.__add__, ranges, qualities)


@given(st.lists(st.one_of(st.text(max_size=80), st.lists(members).map(",".join)), max_size=4))
def test_negotiation_always_ends_with_an_offer(accept: list[str]) -> None:
    """No header makes it raise, and the answer is one of the offers."""
    assert negotiate(accept, MEDIA_TYPES) in MEDIA_TYPES


@given(st.lists(members, max_size=8), st.sampled_from(MEDIA_TYPES), st.sampled_from(MEDIA_TYPES))
def test_what_is_refused_is_not_chosen(others: list[str], refused: str, liked: str) -> None:
    """An offer with q=0 is not the answer while another one is acceptable."""
    assume(refused != liked)
    others = [member for member in others if not member.startswith((refused, liked))]
    assert negotiate([f"{refused};q=0", *others, f"{liked};q=0.1"], MEDIA_TYPES) != refused


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"host", b"x"), (b"accept", b"text/html"), (b"Accept", b"*/*")], ["text/html", "*/*"]),
        ([(b"accept", b"\xff")], ["ÿ"]),
        (((b"accept", b"text/html"),), ["text/html"]),
        ([(b"accept-language", b"de")], []),
        ([], []),
        (None, []),
        (5, []),
        ([b"accept"], []),
        ([("accept", "text/html")], []),
        ([(b"accept", None)], []),
        (iter([(b"accept", b"text/html")]), []),
    ],
)
def test_accept_values(headers: Any, expected: list[str]) -> None:
    """Every Accept header of a scope is found; headers that no server sends count as none."""
    assert accept_values({"type": "http", "headers": headers}) == expected
    assert accept_values({"type": "lifespan"}) == []


# ── error_response, problem_response ────────────────────────────────────────────────


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Hostile:
    """Raises whatever it is asked."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise self.error


class Pretender:
    """Says that it is a str."""

    __class__ = str  # type: ignore[assignment]

    def __str__(self) -> str:
        return "text"


class BrokenMapping(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError


class EndlessList(list[int]):
    def __iter__(self) -> Iterator[int]:
        return count()


def body_of(response: Response) -> str:
    """Return the body as text, after a look at what every response must have."""
    body = bytes(response.body)
    assert response.headers["content-length"] == str(len(body))
    return body.decode()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((404, "No such item"), '{"error":"No such item"}'),
        ((404, "No", "no_item"), '{"error":"No","code":"no_item"}'),
        ((409, "No", 17, {"a": [1]}), '{"error":"No","code":17,"details":{"a":[1]}}'),
        ((422, "", None, []), '{"error":"","details":[]}'),
        ((HTTPStatus.GONE, "Größe — 🎉"), '{"error":"Größe — 🎉"}'),
        ((400, ValueError("bad")), '{"error":"bad"}'),
        ((400, Hostile(RuntimeError)), '{"error":"<unprintable>"}'),
    ],
)
def test_error_response(arguments: tuple[Any, ...], expected: str) -> None:
    """The body has error, code and details in this order; what is None stays out."""
    response = error_response(*arguments)
    assert body_of(response) == expected
    assert response.status_code == arguments[0]
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02 03:04:05+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (ValueError("bad"), "bad"),
        ({1}, "{1}"),
        (range(3), "range(0, 3)"),
        (Colour.RED, "Colour.RED"),
        (Level.HIGH, 3),
        (True, True),
        (b"caf\xc3\xa9 \xff", "café �"),
        (float("nan"), None),
        ([float("inf"), -float("inf"), 1.5], [None, None, 1.5]),
        (10**400, 10**400),
        ((1, (2,)), [1, [2]]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({1: "a", None: "b", (2, 3): "c"}, {"1": "a", "None": "b", "(2, 3)": "c"}),
        (
            {"loc": ("body", 0), "ctx": {"error": ValueError("x")}},
            {"loc": ["body", 0], "ctx": {"error": "x"}},
        ),
        ("a\ud800b", "a?b"),
        ("\x00\u2028</script>", "\x00\u2028</script>"),
        (set(range(10_000)), str(set(range(10_000)))[:MAX_DETAIL_TEXT] + "…"),
    ],
)
def test_details_of_any_kind(value: Any, expected: Any) -> None:
    """What JSON does not know becomes its text, and nothing makes it raise."""
    assert json.loads(body_of(error_response(400, "x", details=[value])))["details"] == [expected]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Hostile(RuntimeError), "<unprintable>"),
        (lambda: Hostile(SystemExit), "<unprintable>"),
        (lambda: [Hostile(RecursionError), 1], ["<unprintable>", 1]),
        (lambda: {"a": Hostile(MemoryError)}, {"a": "<unprintable>"}),
        (lambda: BrokenMapping(a=1), "{'a': 1}"),
        (lambda: MagicMock(spec=dict), {}),
        (Pretender, "text"),
        (lambda: 10**5000, "<unprintable>"),
    ],
    ids=["raises", "exits", "in_list", "in_dict", "mapping", "mock", "pretender", "huge"],
)
def test_hostile_details(make: Callable[[], Any], expected: Any) -> None:
    """A value that raises, lies or is too much is told as well as it can be."""
    assert json.loads(body_of(error_response(400, "x", details=make())))["details"] == expected


def test_details_are_bounded() -> None:
    """Cycles, depth, sharing and endless values end; what is large and legal passes."""

    def details(value: Any) -> Any:
        return json.loads(body_of(error_response(400, "x", details=value)))["details"]

    cyclic: list[Any] = []
    cyclic.append(cyclic)
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    shared: list[Any] = []
    for _ in range(100):
        shared = [shared, shared]
    assert details(cyclic) == details(deep)
    assert str(details(deep)).count("[") == MAX_DETAIL_DEPTH - 1
    assert str(details(shared)).count("[") <= MAX_DETAIL_VALUES
    assert len(details(EndlessList())) < MAX_DETAIL_VALUES
    assert details({"text": "x" * 100_000})["text"] == "x" * 100_000
    assert details([{"row": number} for number in range(10_000)])[-1] == {"row": 9_999}


def test_an_interrupt_is_not_swallowed() -> None:
    """Ctrl-C while a value is described ends the program, as everywhere."""
    with pytest.raises(KeyboardInterrupt):
        error_response(400, "x", details=Hostile(KeyboardInterrupt))


@pytest.mark.parametrize("respond", [error_response, problem_response])
@pytest.mark.parametrize("status", [200, 302, 399, 600, 0, -1, True, 404.0, "404", None])
def test_an_error_has_an_error_status(status: Any, respond: Callable[..., Response]) -> None:
    """Any other status is refused, with the rule and the way out."""
    with pytest.raises(ValueError, match=r"an int from 400 to 599, not .* JSONResponse") as caught:
        respond(status, "x")
    assert repr(status) in str(caught.value)


def error_with(headers: Any) -> Response:
    return error_response(503, "x", headers=headers)


def problem_with(headers: Any) -> Response:
    return problem_response(503, headers=headers)


def generic_with(headers: Any) -> Response:
    return generic_response(JSON, headers=headers)


@pytest.mark.parametrize("respond", [error_with, problem_with, generic_with])
@pytest.mark.parametrize(
    "make",
    [
        lambda: {"retry-after": "30", "x-note": "ü", "set-cookie": "a=1"},
        lambda: {"Retry-After": 30, "X-Note": "\tü ", "Set-Cookie": "a=1"},
        lambda: [("Retry-After", "30"), (b"X-Note", b"\xfc"), ["set-cookie", "a=1"]],
        lambda: iter([("retry-after", 30), ("x-note", "ü"), ("set-cookie", b"a=1")]),
        lambda: Headers({"Retry-After": "30", "x-note": "ü", "set-cookie": "a=1"}),
    ],
    ids=["mapping", "loose_mapping", "pairs", "iterator", "starlette"],
)
def test_headers_pass(respond: Callable[..., Response], make: Callable[[], Any]) -> None:
    """Headers in every usual form are sent, in lower case and as Latin-1."""
    sent = respond(make()).raw_headers
    assert {(b"retry-after", b"30"), (b"x-note", b"\xfc"), (b"set-cookie", b"a=1")} <= set(sent)


@pytest.mark.parametrize("respond", [error_with, problem_with, generic_with])
def test_a_header_may_come_twice(respond: Callable[..., Response]) -> None:
    """Two cookies are two headers; the headers of an answer can still be changed."""
    response = respond([("set-cookie", "a=1"), ("set-cookie", "b=2")])
    response.headers["x-more"] = "1"
    response.set_cookie("c", "3")
    names = [name for name, _ in response.raw_headers]
    assert names.count(b"set-cookie") == 3
    assert names.count(b"x-more") == 1
    assert b"x-more" not in dict(respond([]).raw_headers)


BAD_HEADERS = [
    ("x-a", "1\r\nset-cookie: a=1"),
    ("x-a", "1\n"),
    ("x-a", "1\r"),
    ("x-a", "\0"),
    ("x-a", "\x1b[31m"),
    ("x-a", "…"),
    ("x-a\r\n", "1"),
    ("x a", "1"),
    ("x-a:", "1"),
    ("x-ä", "1"),
    ("", "1"),
    (b"x-a", b"1\r\n2"),
    (b"x-a\0", b"1"),
]


@pytest.mark.parametrize(("name", "value"), BAD_HEADERS)
def test_a_header_that_http_forbids_is_refused(name: Any, value: Any) -> None:
    """Nobody splits a response, not even by mistake: the culprit is named."""
    for respond in (error_with, problem_with):
        with pytest.raises(ValueError, match="cannot be sent") as caught:
            respond([(name, value)])
        assert repr(name) in str(caught.value)
        assert repr(value)[:100] in str(caught.value)


@pytest.mark.parametrize("value", [None, 1.5, ["30"]])
def test_a_header_that_is_no_text_is_refused(value: Any) -> None:
    """A forgotten None is not sent as "None"."""
    for respond in (error_with, problem_with):
        with pytest.raises(TypeError, match="the header 'retry-after' must be text"):
            respond({"retry-after": value})


def test_the_length_is_ours_and_the_type_may_be_yours() -> None:
    """A content type of one's own replaces ours; a length or an encoding is dropped."""
    mine = {"Content-Type": "application/vnd.api+json", "Content-Length": "7"}
    response = error_response(400, "x", headers=mine | {"content-encoding": "gzip"})
    assert response.raw_headers == [
        (b"content-type", b"application/vnd.api+json"),
        (b"content-length", b"13"),
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, '{"type":"about:blank","title":"Not Found","status":404}'),
        (
            {
                "title": "No credit",
                "detail": "30 < 50",
                "type": "/p",
                "instance": "/a",
            },
            '{"type":"/p","title":"No credit","status":404,"detail":"30 < 50","instance":"/a"}',
        ),
        (
            {"type": "/p", "rest": Decimal(3), "paths": ("/a",), "none": None},
            '{"type":"/p","title":"Not Found","status":404,"rest":"3","paths":["/a"],"none":null}',
        ),
    ],
)
def test_problem_response(options: dict[str, Any], expected: str) -> None:
    """RFC 9457: the standard members first, the title by default the reason phrase."""
    response = problem_response(404, **options)
    assert body_of(response) == expected
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_an_unknown_status_is_a_problem_too() -> None:
    """A status without a reason phrase has a general title."""
    assert json.loads(body_of(problem_response(599)))["title"] == "Server error"


# ── the generic answer ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, "Not Found"),
        (HTTPStatus.IM_A_TEAPOT, HTTPStatus.IM_A_TEAPOT.phrase),
        (200, "OK"),
        (499, "Client error"),
        (599, "Server error"),
        (299, "Error"),
        (0, "Error"),
        (-1, "Error"),
        (999, "Error"),
    ],
)
def test_phrase(status: int, expected: str) -> None:
    """A status' reason phrase, or what kind of error it is."""
    assert phrase(status) == expected


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (500, "Internal server error", "server_error"),
        (404, "Not found", "not_found"),
        (405, "Method not allowed", "method_not_allowed"),
        (418, "I'm a teapot", "im_a_teapot"),
        (429, "Too many requests", "too_many_requests"),
        (505, "HTTP version not supported", "http_version_not_supported"),
        (503, "Service unavailable", "service_unavailable"),
        (499, "Client error", "client_error"),
        (599, "Server error", "server_error"),
        (307, "Temporary redirect", "temporary_redirect"),
        (203, "Non-Authoritative information", "non_authoritative_information"),
    ],
)
def test_a_status_in_words(status: int, error: str, code: str) -> None:
    """The phrase as a sentence for people, and as a word for programs."""
    response = generic_response(JSON, status=status)
    assert body_of(response) == json.dumps({"error": error, "code": code}, separators=(",", ":"))
    assert response.status_code == status


@pytest.mark.parametrize(
    ("media_type", "options", "content_type", "expected"),
    [
        (
            JSON,
            {"error_id": ERROR_ID},
            JSON,
            '{"error":"Internal server error","code":"server_error","error_id":"0197c2f1"}',
        ),
        (JSON, {}, JSON, '{"error":"Internal server error","code":"server_error"}'),
        (
            JSON,
            {"error_id": '"\\\n\ud800é'},
            JSON,
            '{"error":"Internal server error","code":"server_error","error_id":"\\"\\\\\\n?é"}',
        ),
        (
            JSON,
            {"status": 404, "detail": "No item 7"},
            JSON,
            '{"error":"No item 7","code":"not_found"}',
        ),
        (
            JSON,
            {"status": 404, "detail": "Not Found"},
            JSON,
            '{"error":"Not found","code":"not_found"}',
        ),
        (JSON, {"status": 404, "detail": ""}, JSON, '{"error":"Not found","code":"not_found"}'),
        (
            JSON,
            {"status": 409, "detail": {"id": UUID(int=0)}, "error_id": "x"},
            JSON,
            '{"error":"Conflict","code":"conflict","details":{"id":"00000000-0000-0000-0000-000000000000"},"error_id":"x"}',
        ),
        (
            JSON,
            {"status": 409, "detail": [1, float("nan")]},
            JSON,
            '{"error":"Conflict","code":"conflict","details":[1,null]}',
        ),
        (
            JSON,
            {"detail": "Busy", "error_id": "x"},
            JSON,
            '{"error":"Busy","code":"server_error","error_id":"x"}',
        ),
        ("image/png", {}, JSON, '{"error":"Internal server error","code":"server_error"}'),
        (
            JSON,
            {"problem_json": True, "error_id": "x"},
            PROBLEM,
            '{"type":"about:blank","title":"Internal Server Error","status":500,"error_id":"x"}',
        ),
        (
            PROBLEM,
            {"status": 404, "detail": "No item 7"},
            PROBLEM,
            '{"type":"about:blank","title":"Not Found","status":404,"detail":"No item 7"}',
        ),
        (
            PROBLEM,
            {"status": 409, "detail": [1]},
            PROBLEM,
            '{"type":"about:blank","title":"Conflict","status":409,"details":[1]}',
        ),
        (
            TEXT,
            {"error_id": "x"},
            "text/plain; charset=utf-8",
            "Internal server error\n\nError ID: x\n",
        ),
        (TEXT, {"status": 404, "detail": "Größe?"}, "text/plain; charset=utf-8", "Größe?\n"),
        (TEXT, {"status": 404, "detail": [1]}, "text/plain; charset=utf-8", "Not found\n"),
        (TEXT, {"problem_json": True}, "text/plain; charset=utf-8", "Internal server error\n"),
        (
            MARKDOWN,
            {"error_id": "x"},
            "text/markdown; charset=utf-8",
            "# Internal server error\n\nError ID: `x`\n",
        ),
        (
            MARKDOWN,
            {"status": 404, "detail": "a\n# <b>[x](y) `*_|~&"},
            "text/markdown; charset=utf-8",
            "# a \\# \\<b\\>\\[x\\](y) \\`\\*\\_\\|\\~\\&\n",
        ),
        (
            HTML,
            {"html": "<h1>Größe</h1>", "error_id": "x"},
            "text/html; charset=utf-8",
            "<h1>Größe</h1>",
        ),
        (HTML, {"html": "\ud800"}, "text/html; charset=utf-8", "?"),
        (
            HTML,
            {"error_id": "x"},
            "text/plain; charset=utf-8",
            "Internal server error\n\nError ID: x\n",
        ),
    ],
)
def test_generic_response(
    media_type: str, options: dict[str, Any], content_type: str, expected: str
) -> None:
    """The production answer in each format; `detail` is all that the app can say in it."""
    response = generic_response(media_type, **options)
    assert body_of(response) == expected
    assert response.headers["content-type"] == content_type
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.status_code == options.get("status", 500)


def test_no_header_of_another_body_survives() -> None:
    """What the headers say of length, type, encoding and caching was true of another body."""
    other = {"Content-Length": "7", "Content-Type": "image/png", "Content-Encoding": "gzip"}
    other |= {"Transfer-Encoding": "chunked", "Cache-Control": "public", "Vary": "Accept"}
    response = generic_response(TEXT, headers=other)
    assert sorted(response.raw_headers) == [
        (b"cache-control", b"no-store"),
        (b"content-length", b"22"),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"vary", b"Accept"),
        (b"x-content-type-options", b"nosniff"),
    ]


@pytest.mark.parametrize("bad", BAD_HEADERS)
def test_a_header_that_cannot_be_sent_is_left_out(bad: tuple[Any, Any]) -> None:
    """The last answer there is does not fail for a header: the others are sent."""
    response = generic_response(JSON, headers=[("vary", "a"), bad, ("retry-after", "1")])
    names = [name for name, _ in response.raw_headers]
    assert names[2:-2] == [b"vary", b"retry-after"]


@pytest.mark.parametrize(
    "headers", [5, "vary", [None], [("a",)], [(1, 2, 3)], {"a": None}, {None: "a"}, BrokenMapping()]
)
def test_headers_that_are_none_are_left_out(headers: Any) -> None:
    """An exception's `headers` may be anything."""
    assert len(generic_response(JSON, headers=headers).raw_headers) == 4


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_without_a_body_has_none(status: int) -> None:
    """A server refuses a body where HTTP knows none."""
    response = generic_response(JSON, status=status, detail="x", headers={"etag": '"1"'})
    assert response.status_code == status
    assert response.body == b""
    assert b"content-length" not in dict(response.raw_headers)
    assert (b"etag", b'"1"') in response.raw_headers


@pytest.mark.parametrize("status", [0, 101, 600, 999, -1, None, "x", [], 404.5])
def test_a_status_that_is_none_is_500(status: Any) -> None:
    """No server can send it, and an error must be answered."""
    response = generic_response(JSON, status=status)
    assert response.status_code == 500
    assert '"server_error"' in body_of(response)


@given(
    st.sampled_from([*MEDIA_TYPES, "x"]),
    st.integers(200, 599),
    st.one_of(st.none(), st.text(max_size=20)),
    st.recursive(
        st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.binary(), st.dates()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
        max_leaves=8,
    ),
    st.booleans(),
)
def test_the_generic_answer_is_always_legal(
    media_type: str, status: int, error_id: str | None, detail: Any, problem: bool
) -> None:
    """Whatever goes in: the length is right, JSON is JSON, and nothing raises."""
    response = generic_response(
        media_type, status=status, error_id=error_id, detail=detail, problem_json=problem
    )
    if status in {204, 205, 304}:
        assert response.body == b""
    else:
        body = body_of(response)
        if "json" in response.headers["content-type"]:
            json.loads(body)


async def test_an_answer_is_an_asgi_app() -> None:
    """It can be awaited with a scope like every Starlette response, background task included."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any: ...

    response = generic_response(TEXT, status=404)
    response.background = BackgroundTask(sent.append, "background")
    await response({"type": "http"}, receive, send)
    start, body, background = sent
    assert start == {
        "type": "http.response.start",
        "status": 404,
        "headers": response.raw_headers,
    }
    assert body["body"] == b"Not found\n"
    assert background == "background"


# ── the frameworks' own defaults ────────────────────────────────────────────────────


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    async def own(request: Any) -> Any:
        raise HTTPException(404, "Item not found")

    return Starlette(routes=[Route("/boom", boom), Route("/own", own)])


def fastapi_app() -> Any:
    from fastapi import FastAPI, HTTPException

    app = FastAPI()

    @app.get("/own")
    async def own() -> None:
        raise HTTPException(404, "Item not found")

    @app.get("/default")
    async def default() -> None:
        raise HTTPException(403)

    app.add_api_route("/boom", plain_boom)
    return app


def litestar_app() -> Any:
    from litestar import Litestar, get
    from litestar.exceptions import HTTPException

    @get("/boom")
    async def fail() -> str:
        raise ValueError

    @get("/own")
    async def own() -> dict[str, str]:
        raise HTTPException(detail="Item not found", status_code=404)

    @get("/extra")
    async def extra() -> dict[str, str]:
        raise HTTPException(detail="Not Found", status_code=404, extra={"id": 7})

    return Litestar([fail, own, extra], logging_config=None)


def quart_app() -> Any:
    from quart import Quart, abort

    app: Any = Quart("errata_defaults")
    app.add_url_rule("/boom", view_func=plain_boom)

    @app.get("/own")
    async def own() -> None:
        abort(404, "Item not found")

    @app.get("/abort/<int:status>")
    async def abort_with(status: int) -> None:
        abort(status)

    return app


def django_app() -> Any:
    # Imported by name: Django has no types, and needs none here.
    conf, errors = import_module("django.conf"), import_module("django.core.exceptions")
    http, urls = import_module("django.http"), import_module("django.urls")
    methods = import_module("django.views.decorators.http")

    def fail(error: type[Exception]) -> Callable[[Any], Any]:
        def view(request: Any) -> Any:
            raise error("of the app")

        return view

    routes: Any = ModuleType("routes")
    routes.urlpatterns = [
        urls.path("boom", fail(ValueError)),
        urls.path("missing", fail(http.Http404)),
        urls.path("forbidden", fail(errors.PermissionDenied)),
        urls.path("bad", fail(errors.BadRequest)),
        urls.path("post", methods.require_POST(fail(ValueError))),
        urls.path("own", lambda request: http.HttpResponseNotFound("Item not found")),
    ]
    conf.settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=routes, LOGGING_CONFIG=None)
    import_module("django").setup()
    return import_module("django.core.asgi").get_asgi_application()


def falcon_app() -> Any:
    import falcon
    from falcon.asgi import App

    class Boom:
        async def on_get(self, request: Any, response: Any) -> None:
            raise ValueError

    class Own:
        async def on_get(self, request: Any, response: Any) -> None:
            raise falcon.HTTPNotFound(description="Item not found")

    class Titled:
        async def on_get(self, request: Any, response: Any) -> None:
            raise falcon.HTTPNotFound(title="Item not found")

    app = App()
    app.add_route("/boom", Boom())
    app.add_route("/own", Own())
    app.add_route("/titled", Titled())
    return app


def blacksheep_app() -> Any:
    from blacksheep import Application, Router
    from blacksheep.contents import TextContent
    from blacksheep.exceptions import HTTPException
    from blacksheep.messages import Response as BlackSheepResponse

    router = Router()
    router.add_get("/boom", plain_boom)

    @router.get("/own")
    async def own() -> Any:
        return BlackSheepResponse(404, content=TextContent("Item not found"))

    @router.get("/forbidden")
    async def forbidden() -> None:
        raise HTTPException(403, "of the app")

    return Application(router=router)


def sanic_app() -> Any:
    from sanic import Sanic
    from sanic.exceptions import NotFound, ServiceUnavailable

    app = Sanic("errata_defaults", configure_logging=False)
    app.add_route(boom, "/boom")

    @app.get("/own")
    async def own(request: Any) -> None:
        raise NotFound("Item not found")

    @app.get("/busy")
    async def busy(request: Any) -> None:
        raise ServiceUnavailable

    return app


async def boom(request: Any) -> Any:
    raise ValueError("of the app")


async def plain_boom() -> None:
    raise ValueError("of the app")


# Framework, method, path, Accept, status, and whether the framework wrote the answer alone.
ANSWERS = [
    ("starlette", "GET", "/nope", "*/*", 404, True),
    ("starlette", "POST", "/own", "*/*", 405, True),
    ("starlette", "GET", "/boom", "*/*", 500, True),
    ("starlette", "GET", "/own", "*/*", 404, False),
    ("fastapi", "GET", "/nope", "*/*", 404, True),
    ("fastapi", "POST", "/own", "*/*", 405, True),
    ("fastapi", "GET", "/boom", "*/*", 500, True),
    ("fastapi", "GET", "/default", "*/*", 403, True),
    ("fastapi", "GET", "/own", "*/*", 404, False),
    ("litestar", "GET", "/nope", "*/*", 404, True),
    ("litestar", "POST", "/own", "*/*", 405, True),
    ("litestar", "GET", "/boom", "*/*", 500, True),
    ("litestar", "GET", "/own", "*/*", 404, False),
    ("litestar", "GET", "/extra", "*/*", 404, False),
    ("quart", "GET", "/nope", "*/*", 404, True),
    ("quart", "POST", "/own", "*/*", 405, True),
    ("quart", "GET", "/boom", "*/*", 500, True),
    ("quart", "GET", "/abort/418", "*/*", 418, True),
    ("quart", "GET", "/abort/503", "*/*", 503, True),
    ("quart", "GET", "/own", "*/*", 404, False),
    ("django", "GET", "/nope", "*/*", 404, True),
    ("django", "GET", "/missing", "*/*", 404, True),
    ("django", "GET", "/forbidden", "*/*", 403, True),
    ("django", "GET", "/bad", "*/*", 400, True),
    ("django", "GET", "/post", "*/*", 405, True),
    ("django", "GET", "/boom", "*/*", 500, True),
    ("django", "GET", "/own", "*/*", 404, False),
    ("falcon", "GET", "/nope", "*/*", 404, True),
    ("falcon", "GET", "/nope", "text/xml", 404, True),
    ("falcon", "GET", "/nope", "text/html", 404, True),
    ("falcon", "POST", "/own", "application/json", 405, True),
    ("falcon", "GET", "/boom", "*/*", 500, True),
    ("falcon", "GET", "/boom", "application/xml", 500, True),
    ("falcon", "GET", "/own", "*/*", 404, False),
    ("falcon", "GET", "/own", "application/xml", 404, False),
    ("falcon", "GET", "/titled", "*/*", 404, False),
    ("falcon", "GET", "/titled", "application/xml", 404, False),
    ("blacksheep", "GET", "/nope", "*/*", 404, True),
    ("blacksheep", "POST", "/own", "*/*", 404, True),
    ("blacksheep", "GET", "/forbidden", "*/*", 403, True),
    ("blacksheep", "GET", "/boom", "*/*", 500, True),
    ("blacksheep", "GET", "/own", "*/*", 404, False),
    *(
        ("sanic", method, path, accept, status, default)
        for accept in ("*/*", "text/html", "text/plain", "application/json")
        for method, path, status, default in [
            ("GET", "/nope", 404, True),
            ("GET", "/no%20\"way'<b>", 404, True),
            ("POST", "/own", 405, True),
            ("GET", "/boom", 500, True),
            ("GET", "/busy", 503, True),
            ("GET", "/own", 404, False),
        ]
    ),
]


@dataclass(frozen=True)
class Answer:
    """What a framework sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


async def ask(app: Any, method: str, path: str, accept: str) -> Answer:
    """Send one request to *app* by direct call."""
    sent: list[Any] = []
    received: list[Any] = []

    async def receive() -> Any:
        if received:
            await asyncio.Event().wait()
        received.append({"type": "http.request", "body": b"", "more_body": False})
        return received[0]

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"accept", accept.encode())],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    with suppress(ValueError):  # Starlette answers and raises.
        await app(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    chunks = [message.get("body", b"") for message in sent if message is not start]
    return Answer(start["status"], list(start["headers"]), b"".join(chunks))


async def ask_all(app: Any, requests: list[tuple[str, str, str]]) -> list[Answer]:
    """Send the requests between a startup and a shutdown."""
    events: asyncio.Queue[Any] = asyncio.Queue()
    started = asyncio.Event()

    async def send(message: Any) -> None:
        started.set()

    async def lifespan() -> None:
        with suppress(ValueError):  # Django knows no lifespan.
            await app(
                {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, events.get, send
            )
        started.set()

    await events.put({"type": "lifespan.startup"})
    task = asyncio.create_task(lifespan())
    await started.wait()
    answers = [await ask(app, *request) for request in requests]
    await events.put({"type": "lifespan.shutdown"})
    await task
    return answers


def requests_of(framework: str) -> list[tuple[str, str, str]]:
    return [
        (method, path, accept) for name, method, path, accept, *_ in ANSWERS if name == framework
    ]


@cache
def answers_of(framework: str) -> dict[tuple[str, str, str], Answer]:
    """Return what *framework* answers to all its requests in the table."""
    requests = requests_of(framework)
    if framework == "django":
        # Its settings are the process's, and other tests may need others.
        output = subprocess.check_output([sys.executable, __file__])
        found = [Answer(status, [], bytes.fromhex(body)) for status, body in json.loads(output)]
    else:
        found = asyncio.run(ask_all(globals()[f"{framework}_app"](), requests))
    return dict(zip(requests, found, strict=True))


@pytest.mark.parametrize(
    ("framework", "method", "path", "accept", "status", "default"),
    [pytest.param(*row, id="-".join(map(str, row[:4]))) for row in ANSWERS],
)
def test_defaults_of_real_frameworks(
    framework: str, method: str, path: str, accept: str, status: int, default: bool
) -> None:
    """The installed frameworks' own answers are known by their bytes, the apps' are not."""
    answer = answers_of(framework)[method, path, accept]
    assert answer.status == status
    assert is_default_body(answer.status, answer.headers, answer.body) is default, answer
    if answer.body:
        assert not is_default_body(451 if status != 451 else 400, answer.headers, answer.body)
        assert not is_default_body(status, [(b"Content-Encoding", b"gzip")], answer.body)
        for changed in (answer.body + b" ", b" " + answer.body, answer.body[:-1]):
            assert not is_default_body(status, answer.headers, changed)


def test_defaults_of_werkzeug() -> None:
    """Every page of Werkzeug is known, and none with a description of the app's own."""
    from werkzeug.exceptions import default_exceptions

    unknown = [
        (status, hex(crc32(page, status)))
        for status, error in default_exceptions.items()
        if not is_default_body(status, [], page := error().get_body().encode())
    ]
    assert not unknown, "add these to _DEFAULT_PAGES"
    for status, error in default_exceptions.items():
        assert not is_default_body(status, [], error(description="of the app").get_body().encode())


@pytest.mark.parametrize("status", [413, 414, 416, 418, 422])
def test_defaults_under_any_spelling(status: int) -> None:
    """Phrases that were renamed are known by the old and the new name."""
    import falcon

    for name in {HTTPStatus(status).phrase, falcon.code_to_http_status(status)[4:]}:
        assert is_default_body(status, [], name.encode())
        assert is_default_body(status, [], json.dumps({"detail": name}).encode())


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (404, [], b"", True),
        (500, [(b"content-encoding", b"Identity")], b"", True),
        (500, [(b"content-encoding", b"br")], b"", False),
        (500, [(b"Content-Encoding", b"gzip")], b"Internal Server Error", False),
        (200, [], b"", False),
        (200, [], b"OK", False),
        (304, [], b"", False),
        (600, [], b"", False),
        (413, [], b"Payload Too Large", True),
        (422, [], b"Unprocessable Content", True),
        (404, [], b"not found", False),
        (404, [], b"Not Found\n", False),
        (404, [], b"Internal Server Error", False),
        (404, [], b'{"detail": "Not Found"}', True),
        (404, [], b'{"detail":"Not Found","id":7}', False),
        (404, [], b'{"detail":["Not Found"]}', False),
        (404, [], b'{"status_code":404,"detail":"Not Found","extra":{}}', False),
        (404, [], b'{"title": "404 Not Found", "code": 7}', False),
        (404, [], b"[" * MAX_DEFAULT_BODY, False),
        (404, [], b" " * (MAX_DEFAULT_BODY + 1), False),
        (404, [], b"\xff\x00", False),
        (404, None, b"", False),
        (404, [(None, None)], b"", False),
        (404, [b"x"], b"Not Found", False),
        (404, [], None, False),
        (404, [], 5, False),
        (None, [], b"", False),
        ("404", [], b"", False),
    ],
)
def test_defaults_told_from_the_apps_own(
    status: Any, headers: Any, body: Any, expected: bool
) -> None:
    """A word more or less is the app's own; what is no answer raises nothing."""
    assert is_default_body(status, headers, body) is expected


@given(st.integers(390, 610), st.one_of(st.binary(), st.text().map(str.encode)))
def test_any_other_body_is_the_apps_own(status: int, body: bytes) -> None:
    """Random bytes are no framework's default, and raise nothing."""
    assert is_default_body(status, [], body) is (not body and 400 <= status <= 599)


if __name__ == "__main__":
    django_answers = asyncio.run(ask_all(django_app(), requests_of("django")))
    print(json.dumps([(answer.status, answer.body.hex()) for answer in django_answers]))
