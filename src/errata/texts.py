"""How the parts of a report read: an exception, a value on one line, where a line failed.

Control and bidirectional characters, with which a message could rewrite a terminal's screen
or reorder a line, are shown as Python escapes, and so are lone surrogates, which cannot be
encoded.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from errata.report import Description, Failure, Frame


MAX_BRIEF: Final = 120
"""Characters of a value on one line."""

BRIEF_DEPTH: Final = 3
BRIEF_ITEMS: Final = 5
"""What of a container fits on that line."""

_INVISIBLE: Final = re.compile(
    # Controls but tab and newline; bidirectional and zero-width formatting; line separators;
    # lone surrogates; tags. Joiners stay: emoji and Persian need them.
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Return *text* with what the eye would miss, or be misled by, as Python escapes."""
    return text if text.isprintable() else _INVISIBLE.sub(_escape, text)


def one_line(text: str) -> str:
    """Return *text* visible, on one line."""
    return text if text.isprintable() else visible(text).replace("\n", "\\n")


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def clip(text: str, limit: int) -> str:
    """Return at most *limit* characters of *text*, and say how many are left out."""
    return text if len(text) <= limit else f"{text[:limit]}… (+{len(text) - limit:,})"


def headline(failure: Failure) -> str:
    """Return type and message as Python ends a traceback with them."""
    name = type_name(failure)
    return f"{name}: {failure.message}" if failure.message else name


def type_name(failure: Failure) -> str:
    """Return the type's full name; without the module where Python leaves it out."""
    if failure.module in ("", "builtins", "__main__"):
        return failure.type
    return f"{failure.module}.{failure.type}"


def marked_columns(frame: Frame, number: int, text: str) -> tuple[int, int] | None:
    """Return which characters of line *number*, which reads *text*, the error points at.

    None if the line is not part of it. On a line that the error covers from the line before
    or into the next, they reach from the indentation, or to the end.
    """
    if frame.columns is None:
        return None
    first, last, start, end = frame.columns
    if not first <= number <= last:
        return None
    begin = _characters(text, start) if number == first else len(text) - len(text.lstrip())
    stop = _characters(text, end) if number == last else len(text.rstrip())
    return (begin, stop) if begin < stop else None


def _characters(text: str, size: int) -> int:
    """Return how many characters the first *size* UTF-8 bytes of *text* are."""
    size = max(size, 0)
    if text.isascii():
        return min(size, len(text))
    return len(text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore"))


class Reading(NamedTuple):
    """A description of a container or object, taken apart."""

    kind: str
    """The type's name without its module."""
    text: str | None
    parts: list[tuple[Any, Any]]
    """Keys, which are descriptions too, and values; a sequence's keys are positions."""
    join: str
    """What stands between key and value in Python; empty for a sequence."""
    left_out: int
    """How many parts the description does not show."""
    address: str | None = None


def read(node: list[Any] | dict[str, Any]) -> Reading:
    """Take apart what stands for a container or object; what is no description is plain JSON."""
    if isinstance(node, list):
        return Reading("list", None, list(enumerate(node)), "", 0)
    kind, size = node.get("type"), node.get("size")
    if not isinstance(kind, str):
        return Reading("dict", None, list(node.items()), ": ", 0)
    items, entries, attributes = map(node.get, ("items", "entries", "attributes"))
    parts: list[tuple[Any, Any]] = []
    join = ""
    if isinstance(items, list):
        parts = list(enumerate(items))
    elif isinstance(entries, list):
        parts = [(pair[0], pair[1]) for pair in entries if type(pair) is list and len(pair) == 2]
        join = ": "
    elif isinstance(attributes, dict):
        parts = list(attributes.items())
        join = "="
    text, address = node.get("text"), node.get("address")
    return Reading(
        kind.rpartition(".")[2],
        text if isinstance(text, str) else None,
        parts,
        join,
        max(size - len(parts), 0) if isinstance(size, int) and text is None else 0,
        address if isinstance(address, str) else None,
    )


def brief(node: Description, limit: int = MAX_BRIEF) -> str:
    """Return a description on one line of at most *limit* characters, close to Python's repr."""
    return _cut(one_line(_brief(node, limit, BRIEF_DEPTH)), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _brief(node: Any, limit: int, depth: int) -> str:
    if isinstance(node, str):
        return repr(_cut(node, limit))
    if not isinstance(node, (list, dict)):
        return str(node)
    kind, text, parts, join, left_out, address = read(node)
    if text is not None:
        short = _cut(text, limit)
        return {"str": repr(short), "bytes": short}.get(kind, f"{kind} {short}")
    if parts or kind in _BRACKETS:
        some = parts[: BRIEF_ITEMS if depth else 0]
        shown = [_brief_part(part, join, limit, depth - 1) for part in some]
        shown += ["…"] * (left_out > 0 or len(shown) < len(parts))
        before, after = _BRACKETS.get(kind, (f"{kind}(", ")"))
        return f"{before}{', '.join(shown)}{after}"
    if left_out:
        return f"<{kind} of {left_out}>"
    return f"<{kind} at {address}>" if address else f"<{kind}>"


def _brief_part(part: tuple[Any, Any], join: str, limit: int, depth: int) -> str:
    key, value = part
    text = _brief(value, limit, depth)
    if not join:
        return text
    return f"{key if join == '=' else _brief(key, limit, depth)}{join}{text}"


_BRACKETS: Final = {"list": ("[", "]"), "tuple": ("(", ")"), "set": ("{", "}"), "dict": ("{", "}")}
