"""How values and texts read on one line."""

from __future__ import annotations

from typing import Any

import pytest

from errata.texts import brief, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünicode 漢 👩‍👩‍👧", "plain ünicode 漢 👩‍👩‍👧"),
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31m\r\x00\x7f\x9b", "\\x1b[31m\\r\\x00\\x7f\\x9b"),
        ("\u202egpj.exe\u2066\ufeff", "\\u202egpj.exe\\u2066\\ufeff"),
        ("\ud800 \U000e0041", "\\ud800 \\U000e0041"),
    ],
)
def test_what_the_eye_would_miss_is_visible(text: str, shown: str) -> None:
    """Controls and direction marks are escapes; letters, emoji, tabs and line ends stay."""
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (None, "None"),
        ("it's", '"it\'s"'),
        ({"type": "list", "size": 3, "items": [1, 2]}, "[1, 2, …]"),
        ({"type": "tuple", "size": 2, "items": [1, "a"]}, "(1, 'a')"),
        ({"type": "list", "size": 0}, "[]"),
        ({"type": "list", "size": 9}, "[…]"),
        ({"type": "a.Bag", "size": 9}, "<Bag of 9>"),
        ({"type": "collections.deque", "size": 1, "items": [1]}, "deque(1)"),
        ({"type": "dict", "size": 1, "entries": [["a", None]]}, "{'a': None}"),
        ({"type": "a.f.<locals>.B", "attributes": {"x": 1, "y": "z"}}, "B(x=1, y='z')"),
        ({"type": "a.B", "address": "0x1"}, "<B at 0x1>"),
        ({"type": "a.B"}, "<B>"),
        ({"type": "bytes", "size": 1, "text": "b'x'"}, "b'x'"),
        ({"type": "str", "size": 999, "text": "long"}, "'long'"),
        ({"type": "uuid.UUID", "text": "1-2"}, "UUID 1-2"),
        ({"a": [1, {"b": 2}]}, "{'a': [1, {'b': 2}]}"),
        ([[[[[1]]]]], "[[[[…]]]]"),
        ("x" * 500, "'" + "x" * 118 + "…"),
        ({"a": "x" * 200, "b": 1}, "{'a': '" + "x" * 112 + "…"),
    ],
)
def test_a_value_on_one_line(node: Any, text: str) -> None:
    """Values read close to how Python writes them, and are clipped."""
    assert brief(node) == text
