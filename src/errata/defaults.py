"""Which answers are a framework's own: told by the body, word for word."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from zlib import crc32

from errata.responses import phrase


MAX_DEFAULT_BODY: Final = 4096  # Bytes; of Sanic's page, which has 70 KB, the end is read.


def is_default_body(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
    """Return whether *body* is what a framework itself answers with *status*, from 400 on.

    That is: nothing at all; the bare reason phrase, as text or in the JSON of FastAPI,
    Litestar, Falcon (or its XML) and Sanic; the pages of Werkzeug and Quart, Django, Sanic.
    An answer with any word of the app's own is not. *headers* are ASGI's pairs. Never raises.
    """
    try:
        encodings = [value for name, value in headers if name.lower() == b"content-encoding"]
        if not 400 <= status <= 599 or any(value.lower() != b"identity" for value in encodings):
            return False
        if len(body) > MAX_DEFAULT_BODY:
            return body.startswith(_SANIC_PAGE) and _is_sanic(status, body[-MAX_DEFAULT_BODY:])
        known = not body or body in _bare_bodies(status) or crc32(body, status) in _DEFAULT_PAGES
        return known or _is_sanic(status, body)
    except Exception:  # What an app sent as headers and body may be anything.
        return False


# `crc32(page, status)` of the pages of Werkzeug 3 and Django 5 (the last four) in which the app
# has no word: to recognise a page we need not hold its text. A test derives them again.
# fmt: off
_DEFAULT_PAGES: Final = frozenset({
    0xC020B2E9, 0xE36DB4B4, 0x39976119, 0xAFA9DF35, 0x617E9691, 0xA801FDF1, 0x522ADF1E, 0xB899795D,
    0xC7513EF5, 0xE923373A, 0xCA4C48CF, 0xD9E737DC, 0x438EACCD, 0xCB881445, 0x4F42462B, 0x0A31988E,
    0xF6EBA8AF, 0x1CF16AEE, 0xEE357F56, 0xB510BCA6, 0x84B9766C, 0xB23E7DA5, 0x90ACC455, 0x5C4E49FA,
    0x6923145F, 0x9D00DFE3, 0x91C2B0EE, 0x816D68E1, 0x25B121E2, 0xCEDF1FB8, 0x5F175562, 0x4FCCB8C5,
    0xB891DBC1, 0x51A4A88E, 0x55DCBB14,
})
# fmt: on

_SANIC_PAGE: Final = b"<!DOCTYPE html><html lang=en id=sanic>"
_SANIC_MESSAGE: Final = re.compile(
    r"The application encountered an unexpected error and could not continue\."
    r"|Requested URL .* not found|Method [A-Z]+ not allowed for URL .*"
)

# Statuses that were renamed, or that frameworks write differently than Python does.
_SPELLINGS: Final[Mapping[int, tuple[str, ...]]] = {
    413: ("Request Entity Too Large", "Payload Too Large", "Content Too Large"),
    414: ("Request-URI Too Long", "URI Too Long"),
    416: ("Requested Range Not Satisfiable", "Range Not Satisfiable"),
    418: ("I'm a teapot", "I'm a Teapot"),
    422: ("Unprocessable Entity", "Unprocessable Content"),
}


@lru_cache(maxsize=200)
def _bare_bodies(status: int) -> frozenset[bytes]:
    """Return what says the reason phrase and no more, in the format of each framework."""
    texts = {"Resource not found"} if status == HTTPStatus.NOT_FOUND else set()  # BlackSheep
    for name in _SPELLINGS.get(status, (phrase(status),)):
        title = f"{status} {name}"  # Falcon
        xml = f'<?xml version="1.0" encoding="UTF-8"?><error><title>{title}</title></error>'
        # FastAPI, Litestar, Falcon
        values = ({"detail": name}, {"status_code": status, "detail": name}, {"title": title})
        texts |= {name, xml, *map(json.dumps, values), *map(_compact, values)}
    return frozenset(text.encode() for text in texts)


def _is_sanic(status: int, body: bytes) -> bool:
    """Return whether *body*, or the end of a page, is Sanic's text, JSON or HTML."""
    text = body.decode("utf-8", "replace")
    for words in _SPELLINGS.get(status, (phrase(status),)):
        title = f"⚠️ {status} — {words}"
        for opening, closing in (
            (f"{title}\n{'=' * len(title)}\n", "\n\n"),
            (f'{{"description":"{words}","status":{status},"message":"', '"}'),
            (f"<main><h1>{title}</h1><p>", "<div id=enduser>"),
        ):
            before, _, after = text.partition(opening)
            message, found, rest = after.partition(closing)
            is_page = rest.endswith("</footer>")
            if found and (is_page or not (before or rest)):
                return message == words or _SANIC_MESSAGE.fullmatch(message) is not None
    return False


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
