"""An ASGI scope as a `RequestInfo`: bounded, and made of whatever can be read of it.

A scope comes from a server, but every middleware writes into it: a key that is missing or
of a wrong type is left out, and nothing of a type of somebody's own is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

from errata.anatomy import instance_dict
from errata.budget import Budget
from errata.report import RequestInfo


REQUEST_CHARACTERS: Final = 60_000
"""Characters of JSON that a request fills without its body."""
BODY_CHARACTERS: Final = 60_000
"""Characters of JSON that its body fills."""
MAX_PATH: Final = 4_000
MAX_VALUE: Final = 8_192
"""Characters of one header, cookie or parameter: nginx and Apache accept headers of 8 KiB."""
MAX_PAIRS: Final = 100
"""Headers, cookies, query parameters: Apache accepts as many headers."""
MAX_HEADERS: Final = 65_536
"""Bytes of all headers: the limit of h11, and so of uvicorn."""
MAX_QUERY: Final = 16_384
"""Bytes of a query string."""
MAX_BODY: Final = 65_536
"""Bytes of a body."""

_Pairs: TypeAlias = tuple[tuple[str, str], ...]
_MORE: Final = ("…", "and more")


def draw_request(
    scope: object,
    *,
    body: bytes | None = None,
    truncated: bool = False,
    client: str | None = None,
    whole: bool = True,
) -> RequestInfo | None:
    """Draw the request of *scope*; unless *whole*, only method, path, client and route.

    None for a lifespan, and where *scope* is no `dict`, which ASGI says it is.
    """
    if not issubclass(type(scope), dict):
        return None
    values: Any = scope
    budget = Budget(characters=REQUEST_CHARACTERS)
    kind = dict.get(values, "type")
    if type(kind) is str and kind == "lifespan":
        return None
    websocket = type(kind) is str and kind == "websocket"
    outline = RequestInfo(
        method="WEBSOCKET" if websocket else _text(dict.get(values, "method"), budget) or "",
        path=_text(dict.get(values, "path"), budget) or "",
        client=_text(client, budget),
        route=_route(values, budget),
    )
    if not whole:
        return outline
    headers = list(_raw_headers(dict.get(values, "headers")))
    return replace(
        outline,
        query=_bounded(_query(dict.get(values, "query_string")), budget),
        headers=_bounded(headers, budget),
        cookies=_bounded(_cookies(headers), budget),
        body=_body(body, truncated=truncated),
    )


def _text(value: object, budget: Budget) -> str | None:
    return budget.text(value, MAX_PATH) if type(value) is str else None


def _route(scope: Any, budget: Budget) -> str | None:
    """Return the route's template, from where Starlette, FastAPI or Litestar put it."""
    route = dict.get(scope, "route")
    found = None if route is None else dict.get(instance_dict(route) or {}, "path")
    return _text(found if type(found) is str else dict.get(scope, "path_template"), budget)


def _bounded(pairs: list[tuple[str, str]], budget: Budget) -> _Pairs:
    kept = [
        (budget.text(name, MAX_VALUE), budget.text(value, MAX_VALUE))
        for name, value in pairs[:MAX_PAIRS]
    ]
    return (*kept, _MORE) if len(pairs) > MAX_PAIRS else tuple(kept)


def _raw_headers(headers: Any) -> Iterator[tuple[str, str]]:
    if type(headers) is not list and type(headers) is not tuple:
        return  # an iterator would be used up, and the app would miss it
    left = MAX_HEADERS
    for pair in headers[: MAX_PAIRS + 1]:
        if (type(pair) is not tuple and type(pair) is not list) or len(pair) != 2:
            continue
        name, value = pair
        if type(name) is bytes and type(value) is bytes:
            left -= len(name) + len(value)
            if left < 0:
                yield _MORE
                return
            yield name.decode("latin-1"), value.decode("latin-1")


def _cookies(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in headers:
        if name.lower() == "cookie":
            for cookie in value.split(";", MAX_PAIRS):
                key, equals, content = cookie.partition("=")
                # A cookie without a name is all value, as browsers see it.
                pairs.append((key.strip(), content.strip()) if equals else ("", key.strip()))
    return pairs


def _query(raw: object) -> list[tuple[str, str]]:
    if type(raw) is not bytes or not raw:
        return []
    text = raw[:MAX_QUERY].decode("utf-8", "replace")
    # Cut before it is parsed: `max_num_fields` would raise.
    first = "&".join(text.split("&", MAX_PAIRS + 1)[: MAX_PAIRS + 1])
    pairs = parse_qsl(first, keep_blank_values=True, errors="replace")
    return [*pairs, _MORE] if len(raw) > MAX_QUERY else pairs


def _body(body: bytes | None, *, truncated: bool) -> str | None:
    if not body:
        return None
    text = body[:MAX_BODY].decode("utf-8", "backslashreplace")
    shown = Budget(characters=BODY_CHARACTERS).text(text, MAX_BODY)
    return f"{shown}… (truncated)" if truncated or len(body) > MAX_BODY else shown
