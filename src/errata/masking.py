"""Masks what stands under a sensitive name: in live containers, and in descriptions of values.

Both walks return the very object where there is nothing to mask, and copies where there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from operator import is_
from typing import Any, TypeVar
from urllib.parse import unquote_plus

from errata.rules import Verdicts


WITHHELD = "[withheld]"
"""Stands for what could not be judged."""

MAX_DEPTH = 50
"""Containers inside containers: deeper than an API's JSON, and far from the end of the stack."""

MAX_ITEMS = 50_000
"""Elements looked at in one walk: more than a megabyte of JSON has, and at worst some 50 ms."""

T = TypeVar("T")


def masked(value: Any, mask: str) -> Any:
    """Return *mask*, or *value* itself if it is the mask already."""
    return value if type(value) is str and value == mask else mask


def unless_same(before: Sequence[T], after: Sequence[T]) -> Sequence[T]:
    """Return *before* if *after* holds the same objects, else *after* as the same type."""
    if len(before) == len(after) and all(map(is_, before, after)):
        return before
    return after if type(before) is list else tuple(after)


class LiveWalk:
    """One walk over live containers, with what is left of its budget and the path to here.

    Whatever a user's mapping raises goes through.
    """

    __slots__ = ("_left", "_mask", "_path", "_secret")

    def __init__(self, secret: Verdicts, mask: str) -> None:
        self._secret = secret
        self._mask = mask
        self._left = MAX_ITEMS
        self._path: set[int] = set()

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return *value* masked; withheld if it is too deep, too large or inside itself."""
        kind = type(value)
        if kind in _LEAVES:
            return value
        look = self._look(kind)
        if look is None:
            return value
        if depth >= MAX_DEPTH or id(value) in self._path:
            return WITHHELD
        self._path.add(id(value))
        result = look(value, depth + 1)
        self._path.discard(id(value))
        return result

    def _look(self, kind: type) -> Callable[[Any, int], Any] | None:
        if kind is dict:
            return self._mapping
        # Before the test for Mapping, which takes longer than a short list.
        if issubclass(kind, (list, tuple, set, frozenset)):
            return self._elements
        return self._mapping if issubclass(kind, (dict, Mapping)) else None

    def _mapping(self, mapping: Any, depth: int) -> Any:
        items = mapping.items() if type(mapping) is dict else self._bounded(mapping.items())
        self._left -= len(items)
        if self._left < 0:
            return WITHHELD
        changed = {}
        for key, before in items:
            if self._secret[key]:
                after = masked(before, self._mask)
            elif type(before) in _LEAVES:
                continue
            else:
                after = self.value(before, depth)
            if after is not before:
                changed[key] = after
        return {**dict(items), **changed} if changed else mapping

    def _elements(self, elements: Any, depth: int) -> Any:
        kind = type(elements)
        before = elements if kind in (list, tuple) else self._bounded(elements)
        self._left -= len(before)
        if self._left < 0:
            return WITHHELD
        names = getattr(kind, "_fields", None)
        if type(names) is tuple and len(names) == len(before):
            after = list(map(self._named, names, before, [depth] * len(before)))
        elif kind is tuple and self._is_secret_pair(before):
            after = [before[0], self._second(before)]
        else:
            after = [
                value if type(value) in _LEAVES else self._element(value, depth) for value in before
            ]
        return elements if all(map(is_, before, after)) else _rebuilt(kind, after)

    def _named(self, name: object, value: Any, depth: int) -> Any:
        return masked(value, self._mask) if self._secret[name] else self.value(value, depth)

    def _element(self, value: Any, depth: int) -> Any:
        """Mask one element of a sequence, where a list of two may be a header or a form field."""
        if type(value) is list and self._is_secret_pair(value):
            second = self._second(value)
            return value if second is value[1] else [value[0], second]
        return self.value(value, depth)

    def _is_secret_pair(self, pair: Any) -> bool:
        return len(pair) == 2 and type(pair[0]) in (str, bytes) and self._secret[pair[0]]

    def _second(self, pair: Any) -> Any:
        """Return the mask in the type of a pair's second half: raw headers are bytes."""
        if type(pair[1]) is bytes:
            mask = self._mask.encode("latin-1", "replace")
            return pair[1] if pair[1] == mask else mask
        return masked(pair[1], self._mask)

    def _bounded(self, items: Iterable[Any]) -> list[Any]:
        return list(islice(items, max(self._left, 0) + 1))


class DescriptionWalk:
    """One walk over `errata.report.Description` trees and plain JSON: those of one report."""

    __slots__ = ("_mask", "_secret", "_shown_bytes")

    def __init__(self, secret: Verdicts, mask: str) -> None:
        self._secret = secret
        self._mask = mask
        self._shown_bytes: dict[str, str] = {}

    def names(self, nodes: Any, depth: int = 0) -> Any:
        """Return a mapping of names to descriptions masked."""
        changed = {}
        for name, before in nodes.items():
            if self._secret[name]:
                after = masked(before, self._mask)
            elif type(before) in _NODES:
                after = self.description(before, depth)
            else:
                continue
            if after is not before:
                changed[name] = after
        return {**nodes, **changed} if changed else nodes

    def description(self, node: Any, depth: int = 0, *, element: bool = False) -> Any:
        """Return one description masked; withheld if it is too deep.

        A tuple of two may be a pair, and so may a list of two that is an *element* of another.
        """
        if type(node) not in _NODES or depth >= MAX_DEPTH:
            return WITHHELD if type(node) in _NODES else node
        if type(node) is list:
            return self._items(node, depth + 1, pair=element)
        changed = {}
        for part, before in node.items():
            kind = type(before)
            if part == "text" and kind is str:
                after = before if before[:1] != "b" else self._bytes(before)
            elif part in _PLAIN_PARTS and kind not in _NODES:
                continue
            elif part == "items" and kind is list:
                pair = element or node.get("type") == "tuple"
                after = self._items(before, depth + 1, pair=pair)
            elif part == "entries" and kind is list:
                after = self._entries(before, depth + 1)
            elif part == "attributes" and kind is dict:
                after = self.names(before, depth + 1)
            else:  # no description, but JSON
                return self.names(node, depth + 1)
            if after is not before:
                changed[part] = after
        return {**node, **changed} if changed else node

    def _bytes(self, text: str) -> str:
        """Return the repr of bytes, or the mask if there is a sensitive field among them.

        Every frame of an ASGI app holds the raw query string, and some hold the raw body.
        """
        shown = self._shown_bytes.get(text)
        if shown is None:
            shown = self._shown_bytes[text] = self._mask if self._tells_secret(text) else text
        return text if shown == text else shown

    def _tells_secret(self, text: str) -> bool:
        if text[:2] not in ("b'", 'b"'):
            return False
        names = chain.from_iterable(_FIELD.findall(_ESCAPE.sub(" ", text)))
        return any(name and self._secret[unquote_plus(name)] for name in names)

    def _entries(self, entries: list[Any], depth: int) -> Any:
        changed: dict[int, Any] = {}
        for index, entry in enumerate(entries):
            if type(entry) is not list or len(entry) != 2:  # no description, but JSON
                after = self.description(entry, depth)
                if after is not entry:
                    changed[index] = after
                continue
            name, before = entry
            if self._secret[name if type(name) is str else _shown(name)]:
                after = masked(before, self._mask)
            elif type(before) in _NODES:
                after = self.description(before, depth)
            else:
                continue
            if after is not before:
                changed[index] = [name, after]
        return _with(entries, changed) if changed else entries

    def _items(self, items: list[Any], depth: int, *, pair: bool) -> Any:
        if pair and len(items) == 2 and self._secret[_shown(items[0])]:
            after = masked(items[1], self._mask)
            return items if after is items[1] else [items[0], after]
        changed = {}
        for index, before in enumerate(items):
            if type(before) in _NODES:
                after = self.description(before, depth, element=True)
                if after is not before:
                    changed[index] = after
        return _with(items, changed) if changed else items


_LEAVES = frozenset([str, int, float, bool, type(None), bytes, bytearray, complex])
_NODES = frozenset([dict, list])
_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|[nrt])")
_FIELD = re.compile(
    # A part of a multipart form; a name before `=` or `:`, as forms, JSON and headers have it.
    r"""name=\\?"([^"\\]{1,256})|(?<![\w.%\[\]-])([\w.%\[\]-]{1,256})\\?["']?\s{0,8}[=:]"""
)
_PLAIN_PARTS = frozenset(["type", "text", "size", "address"])


def _with(elements: list[Any], changed: dict[int, Any]) -> list[Any]:
    return [changed.get(index, element) for index, element in enumerate(elements)]


def _rebuilt(kind: Any, elements: list[Any]) -> Any:
    if issubclass(kind, list):
        return elements
    if issubclass(kind, (set, frozenset)):
        return frozenset(elements) if issubclass(kind, frozenset) else set(elements)
    try:
        return tuple.__new__(kind, elements)
    except TypeError:  # the interpreter's own, such as time.struct_time
        return tuple(elements)


def _shown(node: Any) -> object:
    """Return the text that the description of a key shows, by which its name is judged."""
    name = node.get("text") if type(node) is dict else node
    return name if type(name) is str else None
