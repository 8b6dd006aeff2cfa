"""The request of any scope, however it was filled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from errata.report import RequestInfo
from errata.scope import draw_request
from tests.hostile import PROPERTIES, Stopwatch, hostile


def request_of(scope: object, **options: Any) -> RequestInfo:
    """Return the request of *scope*."""
    request = draw_request(scope, **options)
    assert request is not None
    json.dumps(asdict(request), ensure_ascii=False).encode()
    return request


def http(**keys: object) -> dict[str, object]:
    """Return a scope as a server makes it."""
    return {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []} | keys


def test_a_request_is_drawn() -> None:
    """Method, path, query, headers, cookies, body, client and route."""
    scope = http(
        method="POST",
        path="/größe",
        root_path="/api",
        query_string=b"a=1&b=%C3%B6&b=&c&d=%ff",
        headers=[(b"host", b"x"), (b"cookie", b"s=1; t=a=b"), (b"x-name", b"J\xf6rg")],
        path_template="/{size}",
    )
    assert request_of(scope, body="größer".encode(), client="10.0.0.1") == RequestInfo(
        method="POST",
        path="/größe",
        query=(("a", "1"), ("b", "ö"), ("b", ""), ("c", ""), ("d", "\ufffd")),
        headers=(("host", "x"), ("cookie", "s=1; t=a=b"), ("x-name", "Jörg")),
        cookies=(("s", "1"), ("t", "a=b")),
        body="größer",
        client="10.0.0.1",
        route="/{size}",
    )


def test_the_outline_has_no_payload() -> None:
    """For a repeated error method, path, client and route are enough."""
    scope = http(query_string=b"a=1", headers=[(b"a", b"b")], path_template="/x")
    assert request_of(scope, body=b"x", client="c", whole=False) == RequestInfo(
        method="GET", path="/", client="c", route="/x"
    )


def test_a_websocket_has_a_method_of_its_own() -> None:
    """A websocket's scope has none."""
    assert request_of({"type": "websocket", "path": "/ws"}).method == "WEBSOCKET"


@pytest.mark.parametrize("scope", [{"type": "lifespan"}, None, [], "http", SimpleNamespace()])
def test_no_request_is_none(scope: object) -> None:
    """A lifespan has no request, and neither has what is no scope."""
    assert draw_request(scope) is None


def test_a_mapping_of_somebodys_own_is_not_asked() -> None:
    """ASGI says `dict`; a subclass is read by the methods of `dict`."""
    assert draw_request(hostile(Mapping)) is None
    scope = hostile(dict)
    dict.update(scope, http(path="/x"))
    assert request_of(scope).path == "/x"


@pytest.mark.parametrize("key", ["type", "method", "path", "query_string", "headers", "route"])
def test_a_malformed_scope_is_survived(key: str) -> None:
    """A key that is missing or of a wrong type is left out, and the rest is shown."""
    scope = http(client=("10.0.0.1", 5))
    scope.pop(key, None)
    request_of(scope)
    for wrong in (
        None,
        5,
        "text",
        b"bytes",
        [1],
        [(1, 2)],
        [("a", "b")],
        [(b"a",)],
        hostile(object),
    ):
        request_of(http(**{key: wrong}))


def test_an_iterator_of_headers_is_not_used_up() -> None:
    """What the app may still read is left to it."""
    headers = iter([(b"a", b"b")])
    assert request_of(http(headers=headers)).headers == ()
    assert list(headers) == [(b"a", b"b")]


def test_routes_are_read_without_their_code() -> None:
    """The template comes from the route's own dictionary, never from a property."""
    assert request_of(http(route=SimpleNamespace(path="/{id}"))).route == "/{id}"
    assert request_of(http(route=hostile(object, **PROPERTIES))).route is None
    assert request_of(http(route=SimpleNamespace(path=hostile(str, "x")))).route is None


def test_the_route_of_a_real_app_is_found() -> None:
    """Starlette, and FastAPI as it, leave their route in the scope."""
    scopes: list[Any] = []

    async def endpoint(request: Any) -> None:
        scopes.append(request.scope)
        raise ValueError

    app = Starlette(routes=[Route("/items/{number}", endpoint)])
    with pytest.raises(ValueError, match=r"^$"):
        TestClient(app, cookies={"a": "b"}).get("/items/5?q=1")
    request = request_of(scopes[0])
    assert (request.path, request.route) == ("/items/5", "/items/{number}")
    assert request.cookies == (("a", "b"),)


def test_cookies_are_read_as_browsers_do() -> None:
    """Several headers, odd spaces, no name: everything is shown that was sent."""
    headers = [(b"Cookie", b" a = 1 ;b"), (b"cookie", b'c="x y";')]
    assert request_of(http(headers=headers)).cookies == (
        ("a", "1"),
        ("", "b"),
        ("c", '"x y"'),
        ("", ""),
    )


def test_many_pairs_are_cut() -> None:
    """A hundred of each kind are shown, and that there are more."""
    many = b"&".join(b"a%d=1" % number for number in range(5_000))
    headers = [(b"a", b"b")] * 5_000
    cookie = [(b"cookie", many.replace(b"&", b";"))]
    for pairs in (
        request_of(http(query_string=many)).query,
        request_of(http(headers=headers)).headers,
        request_of(http(headers=cookie)).cookies,
    ):
        assert len(pairs) == 101
        assert pairs[-1] == ("…", "and more")


def test_large_requests_are_cut() -> None:
    """Whatever a client sends, a request is small and quick to draw."""
    with Stopwatch():
        request = request_of(
            http(
                path="/" + "x" * 1_000_000,
                query_string=b"%00=%01&" * 1_000_000,
                headers=[(b"h%d" % n, b"\xff" * 30_000) for n in range(1_000)],
            ),
            body=b"\0" * 50_000_000,
        )
    assert request.headers[-1] == ("…", "and more")
    assert len(request.headers) == 3
    assert len(json.dumps(asdict(request))) < 135_000


def test_the_body_says_that_it_is_cut() -> None:
    """A body that is not whole does not look whole."""
    text = json.dumps([{"name": "Jörg", "number": number} for number in range(2_000)])
    body = request_of(http(), body=text.encode()).body
    assert body is not None
    assert len(body) > 30_000
    assert body.endswith("… (truncated)")
    assert request_of(http(), body=b"abc", truncated=True).body == "abc… (truncated)"
    assert request_of(http(), body=b"").body is None
    assert request_of(http(), body=b"\xff\x00").body == "\\xff\x00"


KEYS = st.sampled_from(
    ["type", "method", "path", "query_string", "headers", "route", "path_template", "root_path"]
)
THINGS = st.recursive(
    st.none() | st.text(st.characters()) | st.binary() | st.integers() | st.floats(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)
HEADERS = st.lists(st.tuples(st.binary(), st.binary()))


@given(st.dictionaries(KEYS | st.text(), THINGS | HEADERS), st.binary(), st.booleans())
def test_every_scope_has_a_request(scope: dict[str, Any], body: bytes, truncated: bool) -> None:
    """Anything under any key gives a request, or none, that can be sent as UTF-8."""
    draw_request(scope) is None or request_of(scope, body=body, truncated=truncated)
