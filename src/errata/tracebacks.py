"""The traceback of a report, in Python's own layout.

Pure and bounded; it does not raise on any report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from unicodedata import east_asian_width

from errata.report import Failure, Frame, SafeReport
from errata.texts import clip, headline, marked_columns, one_line, visible


MAX_TRACEBACK: Final = 100_000
"""Characters of a traceback: what log shippers still take as one event."""

MAX_GROUP_WIDTH: Final = 15
MAX_GROUP_DEPTH: Final = 10
"""Members shown of an exception group, and groups within groups: the limits of `traceback`."""

MAX_CHAIN: Final = 100
"""Exceptions shown of one chain of causes and contexts."""

_CAUSE: Final = "The above exception was the direct cause of the following exception:"
_CONTEXT: Final = "During handling of the above exception, another exception occurred:"


def traceback_text(report: SafeReport) -> str:
    """Return the traceback in Python's own layout, at most about `MAX_TRACEBACK` characters.

    Chains, groups, notes, folded recursion and the carets under the error's columns stand as
    `traceback` prints them. Of a longer one the middle is left out.
    """
    return _bounded(_traceback(report.failure))


def _traceback(failure: Failure) -> str:
    writer = _TracebackWriter()
    writer.chain(failure)
    return "\n".join(writer.lines)


def _bounded(text: str) -> str:
    if len(text) <= MAX_TRACEBACK:
        return text
    half = MAX_TRACEBACK // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n… {left_out:,} characters are left out here …\n{text[-half:]}"


class _TracebackWriter:
    """Collects lines, each behind the margin of the groups that it stands in."""

    __slots__ = ("_closing", "_depth", "lines")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 0
        self._closing = False

    def chain(self, failure: Failure) -> None:
        links = [(failure, "")]
        while link := failure.cause or failure.context:
            if len(links) == MAX_CHAIN:
                self._write(["… what led to it is left out …", ""])
                break
            links.append((link, _CAUSE if failure.cause else _CONTEXT))
            failure = link
        for failure, sentence in reversed(links):
            self._failure(failure)
            if sentence:
                self._write(["", sentence, ""])

    def _failure(self, failure: Failure) -> None:
        if failure.members:
            self._group(failure)
            return
        if failure.frames:
            self._write(["Traceback (most recent call last):"])
            self._write(_frame_lines(failure))
        self._write(_ending_lines(failure))

    def _group(self, failure: Failure) -> None:
        if self._depth > MAX_GROUP_DEPTH:
            self._write([f"… (groups are shown {MAX_GROUP_DEPTH} deep)"])
            return
        is_outermost = self._depth == 0
        self._depth += is_outermost
        if failure.frames:
            title = "Exception Group Traceback (most recent call last):"
            self._write([title], margin="+" if is_outermost else "|")
            self._write(_frame_lines(failure))
        self._write(_ending_lines(failure))
        self._members(failure.members)
        self._depth -= is_outermost

    def _members(self, members: Sequence[Failure]) -> None:
        """Write *members* between rules; the innermost last member draws the rule that closes."""
        shown = members[:MAX_GROUP_WIDTH]
        hidden = len(members) - len(shown)
        titles = [*(str(number + 1) for number in range(len(shown))), *["..."][:hidden]]
        for index, title in enumerate(titles):
            indent = "  " * self._depth
            corner = "  " if index else "+-"
            self.lines.append(f"{indent}{corner}+---------------- {title} ----------------")
            self._closing = index == len(titles) - 1
            self._depth += 1
            if index < len(shown):
                self.chain(shown[index])
            else:
                self._write([f"and {hidden} more exception{'s' * (hidden > 1)}"])
            self._depth -= 1
            if self._closing and index == len(titles) - 1:
                self.lines.append(f"{indent}  +------------------------------------")
                self._closing = False

    def _write(self, lines: Iterable[str], margin: str = "|") -> None:
        if self._depth:
            prefix = f"{'  ' * self._depth}{margin} "
            self.lines += [prefix + line for line in lines]
        else:
            self.lines += lines


def _frame_lines(failure: Failure) -> Iterator[str]:
    for frame in failure.frames:
        if not frame.file:
            yield f"  [… {frame.repeated} frames are left out here]"
            continue
        yield one_line(f'  File "{frame.file}", line {frame.line}, in {frame.function}')
        text = next((text for number, text in frame.source if number == frame.line), "")
        if stripped := text.strip():
            yield one_line(f"    {stripped}")
            if carets := _carets(frame, text, stripped):
                yield f"    {carets}"
        if frame.repeated:
            plural = "s" * (frame.repeated > 1)
            yield f"  [Previous line repeated {frame.repeated} more time{plural}]"


def _carets(frame: Frame, text: str, stripped: str) -> str:
    """Return carets under the error's columns; none where they would underline everything."""
    marked = marked_columns(frame, frame.line, text)
    indent = len(text) - len(text.lstrip())
    if marked is None or marked[1] - marked[0] >= len(stripped):
        return ""
    begin, stop = max(marked[0], indent), marked[1]
    return " " * _width(text[indent:begin]) + "^" * _width(text[begin:stop])


def _width(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    return sum(1 + (east_asian_width(character) in "WF") for character in text)


def _ending_lines(failure: Failure) -> Iterator[str]:
    for text in (headline(failure), *failure.notes):
        yield from visible(clip(text, MAX_TRACEBACK)).split("\n")
