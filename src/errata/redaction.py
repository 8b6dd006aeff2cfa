"""Takes secrets out of structured data, before it becomes text.

At this layer a value is judged by the names that it stands under, and by nothing else: a
mapping's key, a local variable, an attribute, a header, a cookie, a query or form field, the
first half of a pair. What a value itself looks like is not examined, so that a secret inside
running text, an exception's message or a line of source stays. A value under a sensitive name
is masked whole, whatever it is; so are, in a report, bytes that name a sensitive field, such as
a raw query string or body.

Everything fails closed: what is too deep, too large, cyclic or broken is withheld.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any, AnyStr, TypeVar
from urllib.parse import unquote_plus

from errata.masking import MAX_ITEMS, WITHHELD, DescriptionWalk, LiveWalk, unless_same
from errata.report import Crumb, Failure, Frame, Query, Report, RequestInfo, SafeReport
from errata.rules import SENSITIVE_FIELDS, Verdicts


MASK = "***"
MAX_BODY = 1_048_576
"""Bytes of a body that are examined: sixteen times the default `body_limit`."""

T = TypeVar("T")
P = TypeVar("P", Report, Failure, RequestInfo)


class Redactor:
    """Masks what stands under a sensitive name.

    A name is compared by its words: `userPassword2`, `X-API-Key` and `user[password]` hit,
    `author`, `max_tokens` and `password_policy` do not (`errata.rules` holds the words).

    Args:
        fields: sensitive names, in any spelling; the default is `SENSITIVE_FIELDS`.
        allow: whole names that are never masked, in any spelling.
        mask: what stands in a secret's place.

    Raises:
        TypeError: *fields* or *allow* is no collection of strings, or *mask* no string.
    """

    __slots__ = ("_mask", "_secret")

    def __init__(
        self,
        fields: Iterable[str] = SENSITIVE_FIELDS,
        *,
        allow: Iterable[str] = (),
        mask: str = MASK,
    ) -> None:
        if not isinstance(mask, str):
            raise TypeError(f"mask={mask!r} is no text: give a string such as {MASK!r}")
        self._mask = mask
        self._secret = Verdicts(fields, allow)

    def redact(self, value: Any) -> Any:
        """Return *value* with the secrets in it masked, and *value* itself where there are none.

        Looks into dicts and other mappings, lists, tuples (named ones by their fields), sets,
        and pairs whose first half is a name; any other object is returned as it is. A changed
        container is a copy. Never changes *value* and never raises: what is too deep, too
        large, cyclic or broken becomes `"[withheld]"`.
        """
        return _redacted(value, self._secret, self._mask)

    def headers(self, pairs: Iterable[tuple[AnyStr, AnyStr]]) -> Sequence[tuple[AnyStr, AnyStr]]:
        """Return header *pairs*, of bytes or text, with the sensitive ones masked.

        In `Cookie` and `Set-Cookie` each cookie's value is masked; its name and attributes
        stay. A list or tuple without a secret is returned itself. Never raises: what is no
        pair of bytes or text is left out.
        """
        before: Sequence[Any]
        try:
            before = pairs if isinstance(pairs, (list, tuple)) else list(islice(pairs, MAX_ITEMS))
        except Exception:
            return ()
        after = []
        for pair in before:
            try:
                name, value = pair
                shown = self._header(name, value)
            except Exception:
                continue
            after.append(pair if shown is value else (name, shown))
        return unless_same(before, after)

    def body(self, body: bytes, content_type: str | None) -> str:
        """Return what may be shown of *body*.

        JSON and URL-encoded forms are masked by field name; so is JSON that was sent as plain
        text, as browsers send a string. Other text stays. Everything else, JSON that does not
        parse or repeats a key, and what exceeds `MAX_BODY` bytes is withheld:
        `"[withheld: 1234 bytes]"`.
        """
        try:
            return self._body(bytes(body), content_type or "")
        except Exception:
            return WITHHELD

    def report(self, report: Report) -> SafeReport:
        """Return *report* with its secrets masked: the only way to a `SafeReport`.

        Masks by name, at any depth, locals, parameters of queries, fields of crumbs, and the
        request's headers, query and body; of cookies every value. Parts without a secret are
        the same objects. If anything fails, the type, ids, phase and counts are all that stays.
        """
        try:
            return SafeReport(_ReportWalk(self, self._secret, self._mask).report(report))
        except Exception:
            return SafeReport(_bare(report))

    def _header(self, name: str | bytes, value: str | bytes) -> str | bytes:
        if not isinstance(value, (str, bytes)):
            raise TypeError(value)
        lowered = _text(name).lower()
        if lowered in ("cookie", "set-cookie"):
            return _like(value, self._cookies(_text(value), sent=lowered == "cookie"))
        return _like(value, self._mask) if self._secret[name] else value

    def _cookies(self, header: str, *, sent: bool) -> str:
        """Mask the values of a `Cookie` header (*sent*), or the first of a `Set-Cookie`."""
        parts = header.split(";")
        for index, part in enumerate(parts):
            name, equals, _ = part.partition("=")
            if sent or not index or name.strip().lower() not in _COOKIE_ATTRIBUTES:
                parts[index] = f"{name}={self._mask}" if equals else part.strip() and self._mask
        return ";".join(parts)

    def _body(self, body: bytes, content_type: str) -> str:
        kind = content_type.partition(";")[0].strip().lower()
        if not body or _SIZE_ONLY.fullmatch(body):
            return body.decode()
        shown: str | None = None
        if len(body) <= MAX_BODY:
            is_text = kind.startswith("text/") and not kind.endswith("xml")
            if kind.endswith(("/json", "+json")) or (is_text and _LOOKS_JSON.match(body)):
                shown = self._json(body)
            elif kind == "application/x-www-form-urlencoded":
                fields = body.decode("utf-8", "replace").split("&")
                shown = "&".join(map(self._form_field, fields))
            elif is_text:
                shown = body.decode("utf-8", "replace")
        return f"[withheld: {len(body)} bytes]" if shown is None else shown

    def _json(self, body: bytes) -> str | None:
        """Return masked JSON, the very text where nothing is masked; None if it does not parse."""
        try:
            text = body.decode(json.detect_encoding(body))
            before = _JSON.decode(text)
        except (ValueError, RecursionError):
            return None
        after = self.redact(before)
        if after is before:
            return text
        # A lone surrogate, which JSON can escape, could not be encoded.
        return json.dumps(after, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()

    def _form_field(self, field: str) -> str:
        name, equals, _ = field.partition("=")
        return f"{name}={self._mask}" if equals and self._secret[unquote_plus(name)] else field


def filter_sensitive(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a copy of *mapping* with `"***"` under each sensitive name, by the default rules.

    Flat: values under other names are kept as they are. A mapping that cannot be read: `{}`.
    """
    secret = _default_verdicts()
    try:
        return {key: MASK if secret[key] else value for key, value in mapping.items()}
    except Exception:
        return {}


def deep_filter_sensitive(value: Any) -> Any:
    """Return *value* with `"***"` under each sensitive name at any depth, by the default rules.

    See `Redactor.redact`.
    """
    return _redacted(value, _default_verdicts(), MASK)


@cache
def _default_verdicts() -> Verdicts:
    return Verdicts(SENSITIVE_FIELDS)  # made when first asked for; of bounded size


def _redacted(value: Any, secret: Verdicts, mask: str) -> Any:
    try:
        return LiveWalk(secret, mask).value(value)
    except Exception:  # a user's mapping may do anything
        return WITHHELD


_COOKIE_ATTRIBUTES = frozenset(
    [
        # RFC 6265 section 4.1.1; SameSite of its revision; CHIPS' Partitioned; Chromium's Priority.
        *("expires", "max-age", "domain", "path", "secure", "httponly"),
        *("samesite", "partitioned", "priority"),
    ]
)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a repeated key: of its values only the last could be judged")
    return members


_JSON = json.JSONDecoder(object_pairs_hook=_members)
_SIZE_ONLY = re.compile(rb"\[withheld(: \d{1,20} bytes)?\]")
_LOOKS_JSON = re.compile(rb'\s*[\[{]\s*[\[{"]')


class _ReportWalk:
    """Masks the parts of one report; a part without a secret comes back as it is."""

    __slots__ = ("_mask", "_redactor", "_secret", "_values")

    def __init__(self, redactor: Redactor, secret: Verdicts, mask: str) -> None:
        self._redactor = redactor
        self._secret = secret
        self._mask = mask
        self._values = DescriptionWalk(secret, mask)

    def report(self, report: Report) -> Report:
        if report.is_outline:
            return report
        failure = self._failure(report.failure)
        request = report.request and self._request(report.request)
        queries = self._each(self._query, report.queries)
        crumbs = self._each(self._crumb, report.crumbs)
        return _changed(report, failure=failure, request=request, queries=queries, crumbs=crumbs)

    def _each(self, look: Callable[[T], T], parts: Sequence[T]) -> Sequence[T]:
        return unless_same(parts, tuple(map(look, parts))) if parts else parts

    def _failure(self, failure: Failure) -> Failure:
        cause, context, suppressed = failure.cause, failure.context, failure.suppressed
        return _changed(
            failure,
            frames=self._each(self._frame, failure.frames),
            members=self._each(self._failure, failure.members),
            cause=cause and self._failure(cause),
            context=context and self._failure(context),
            suppressed=suppressed and self._failure(suppressed),
        )

    def _frame(self, frame: Frame) -> Frame:
        names = self._values.names(frame.locals)
        return frame if names is frame.locals else replace(frame, locals=names)

    def _query(self, query: Query) -> Query:
        params = self._values.description(query.params)
        return query if params is query.params else replace(query, params=params)

    def _crumb(self, crumb: Crumb) -> Crumb:
        fields = self._values.names(crumb.fields)
        return crumb if fields is crumb.fields else replace(crumb, fields=fields)

    def _request(self, request: RequestInfo) -> RequestInfo:
        headers = self._redactor.headers(request.headers)
        return _changed(
            request,
            headers=headers,
            query=self._each(self._field, request.query),
            cookies=self._each(self._cookie, request.cookies),
            body=self._body(request.body, headers),
        )

    def _field(self, field: tuple[str, str]) -> tuple[str, str]:
        return self._cookie(field) if self._secret[field[0]] else field

    def _cookie(self, cookie: tuple[str, str]) -> tuple[str, str]:
        name, value = cookie
        return cookie if value == self._mask else (name, self._mask)

    def _body(self, body: str | None, headers: Sequence[tuple[str, str]]) -> str | None:
        if not body:
            return body
        kind = None
        for name, value in headers:
            if name.lower() == "content-type":
                kind = value
        shown = self._redactor.body(body.encode("utf-8", "replace"), kind)
        return body if shown == body else shown


def _changed(part: P, **fields: Any) -> P:
    """Return *part* with *fields*, and *part* itself if it has these very objects already."""
    for name, value in fields.items():
        if getattr(part, name) is not value:
            return replace(part, **fields)
    return part


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _like(value: str | bytes, text: str) -> str | bytes:
    """Return *text* as the type of *value*, and *value* itself where they are equal."""
    new = text if isinstance(value, str) else text.encode("latin-1", "replace")
    return value if new == value else new


def _bare(report: Report) -> Report:
    """Return what is safe of a report whose parts could not be examined."""
    failure = Failure(type=report.failure.type, module=report.failure.module, message=WITHHELD)
    return Report(
        error_id=report.error_id,
        failure=failure,
        fingerprint=report.fingerprint,
        count=report.count,
        timestamp=report.timestamp,
        phase=report.phase,
        mechanism=report.mechanism,
        handled=report.handled,
        status=report.status,
        duration=report.duration,
    )
