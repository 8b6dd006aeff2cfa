"""Source code and values as HTML: the parts of the debug page that are too many for a template.

Everything that comes from a report is escaped here. Elements are short and attributes without
quotes: a page may hold thousands of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from html import escape
from importlib import import_module
from os.path import commonprefix
from typing import Any, Final, TypeAlias

from errata.report import Description, Frame
from errata.texts import Reading, brief, clip, marked_columns, one_line, read, visible


MAX_LINE: Final = 400
"""Characters of a line of source; what a capture keeps is shorter."""

MAX_SNIPPETS: Final = 256
"""Highlighted pieces of source that are remembered, some 8 kB each: most errors share frames."""

MAX_DEPTH: Final = 20
"""Levels of a value; a capture draws fewer."""

MAX_KEY: Final = 120
"""Characters of a key."""

MAX_SUMMARY: Final = 100
"""Characters of a container's one-line summary."""

MAX_TEXT: Final = 1_200
"""Characters of a text among the values: what a capture keeps of one."""

_Tokens: TypeAlias = list[tuple[str, str]]
"""Pieces of one line, with the CSS class of each."""

_PYTHON_FILES: Final = (".py", ".pyi", ".pyx", ">")
"""`>` ends `<string>`, `<stdin>` and what notebooks call their cells."""

_text: Final = partial(escape, quote=False)


class Highlighter:
    """Turns the source of frames into HTML, by Pygments, with the error's columns marked."""

    __slots__ = ("_classes", "_lexer", "_snippets")

    def __init__(self) -> None:
        self._lexer: Any = None
        self._classes: dict[Any, str] = {}
        self._snippets: dict[str, list[tuple[_Tokens, str]]] = {}

    def code(self, frame: Frame, context: int) -> str:
        """Return the lines around the error, at most *context* on either side, as spans."""
        if frame.columns is None:
            first = last = frame.line
        else:
            first, last = min(frame.line, frame.columns[0]), max(frame.line, frame.columns[1])
        source = [
            (number, _one_to_one(text))
            for number, text in frame.source
            if first - context <= number <= min(last, first + context) + context
        ]
        if not source:
            return ""
        indent = len(_common_indent(text for _, text in source))
        snippet = "\n".join(text[indent:] for _, text in source)
        lines = self._lines(snippet, is_python=frame.file.endswith(_PYTHON_FILES))
        parts = []
        for (number, text), (tokens, html) in zip(source, lines, strict=True):
            marked = marked_columns(frame, number, text)
            shown = _marked(tokens, marked[0] - indent, marked[1] - indent) if marked else html
            kind = " class=e" if number == frame.line else " class=p" if marked else ""
            parts.append(f"<span{kind} data-n={number}>{shown}\n</span>")
        return "".join(parts)

    def _lines(self, snippet: str, *, is_python: bool) -> list[tuple[_Tokens, str]]:
        if not is_python:
            return [([("", line)], _html([("", line)])) for line in snippet.split("\n")]
        lines = self._snippets.get(snippet)
        if lines is None:
            lines = [(tokens, _html(tokens)) for tokens in self._tokens(snippet)]
            if len(self._snippets) >= MAX_SNIPPETS:
                self._snippets.clear()
            self._snippets[snippet] = lines
        return lines

    def _tokens(self, snippet: str) -> list[_Tokens]:
        if self._lexer is None:
            self._lexer = import_module("pygments.lexers.python").PythonLexer()
        lines: list[_Tokens] = [[]]
        for _, kind, text in self._lexer.get_tokens_unprocessed(snippet + "\n"):
            name = self._classes.get(kind)
            if name is None:
                name = self._classes[kind] = _css_class(kind)
            first, *others = text.split("\n")
            _append(lines[-1], name, first)
            for piece in others:
                lines.append([])
                _append(lines[-1], name, piece)
        return lines[:-1]


def _append(tokens: _Tokens, name: str, text: str) -> None:
    if tokens and tokens[-1][0] == name:
        tokens[-1] = (name, tokens[-1][1] + text)
    elif text:
        tokens.append((name, text))


_CSS_CLASSES: Final = {
    "Token.Comment": "c",
    "Token.Keyword": "k",
    "Token.Keyword.Constant": "n",
    "Token.Literal.Number": "n",
    "Token.Literal.String": "s",
    "Token.Literal.String.Doc": "c",
    "Token.Literal.String.Interpol": "",
    "Token.Name.Builtin": "b",
    "Token.Name.Class": "f",
    "Token.Name.Decorator": "d",
    "Token.Name.Exception": "b",
    "Token.Name.Function": "f",
    "Token.Operator.Word": "k",
}
"""What is coloured, and its CSS class; a kind of token counts as the nearest of these above it."""


def _css_class(kind: Any) -> str:
    while kind is not None:
        name = _CSS_CLASSES.get(str(kind))
        if name is not None:
            return name
        kind = kind.parent
    return ""


def _html(tokens: _Tokens) -> str:
    return "".join(
        f"<i class={name}>{_text(visible(text))}</i>" if name else _text(visible(text))
        for name, text in tokens
    )


def _marked(tokens: _Tokens, begin: int, stop: int) -> str:
    """Return *tokens* as HTML with the characters from *begin* to *stop* marked."""
    parts: tuple[_Tokens, _Tokens, _Tokens] = ([], [], [])
    position = 0
    for name, text in tokens:
        inner = (min(max(cut - position, 0), len(text)) for cut in (begin, stop))
        cuts = [0, *inner, len(text)]
        for part, start, end in zip(parts, cuts, cuts[1:], strict=False):
            if start < end:
                part.append((name, text[start:end]))
        position += len(text)
    before, within, after = map(_html, parts)
    return f"{before}<mark>{within}</mark>{after}"


def _one_to_one(text: str) -> str:
    """Return *text* on one line, each character where it was."""
    return text[:MAX_LINE].replace("\n", " ").replace("\r", " ")


def _common_indent(lines: Iterable[str]) -> str:
    indents = [line[: len(line) - len(line.lstrip())] for line in lines if line.strip()]
    return commonprefix(indents)  # noqa: RUF071  # Characters are what is compared.


class Trees:
    """Turns values into lists that open, within *room* characters for all of a page's."""

    __slots__ = ("_room",)

    def __init__(self, room: int) -> None:
        self._room = room

    def named(self, values: Mapping[str, Description]) -> str:
        """Return named values, such as a frame's locals, as one list; empty if there are none."""
        rows = self._rows(((_text(one_line(name)), value) for name, value in values.items()), 0)
        return f"<ul class=t>{rows}</ul>" if rows else ""

    def value(self, node: Description) -> str:
        """Return one value as a list of one row, without a name."""
        return f"<ul class=t>{self._row('', node, 0)}</ul>"

    def _rows(self, pairs: Iterable[tuple[str, Any]], depth: int) -> str:
        rows = []
        for label, value in pairs:
            if self._room <= 0:
                rows.append("<li class=x>… left out: the page is full")
                break
            rows.append(self._row(label, value, depth))
        return "".join(rows)

    def _row(self, label: str, node: Any, depth: int) -> str:
        if not isinstance(node, (dict, list)):
            kind, text = ("s", repr(clip(node, MAX_TEXT))) if isinstance(node, str) else ("n", node)
            return self._paid(f"<li><b>{label}</b><i class={kind}>{_text(one_line(str(text)))}</i>")
        reading, summary = read(node), brief(node, MAX_SUMMARY)
        if reading.text is not None:
            return self._paid(f"<li><b>{label}</b><i>{_text(brief(node, MAX_TEXT))}</i>")
        if not reading.parts or "…" not in summary or depth >= MAX_DEPTH:
            return self._paid(f"<li><b>{label}</b><i>{_text(summary)}</i>")
        summary = f"<summary><b>{label}</b><i>{_text(summary)}</i></summary>"
        head = self._paid(f"<li><details>{summary}<ul>")
        rows = self._rows(_labelled(reading), depth + 1)
        more = f"<li class=x>… {reading.left_out:,} more" if reading.left_out else ""
        return f"{head}{rows}{more}</ul></details>"

    def _paid(self, html: str) -> str:
        self._room -= len(html)
        return html


def _labelled(reading: Reading) -> Iterator[tuple[str, Any]]:
    for key, value in reading.parts:
        shown = brief(key, MAX_KEY) if reading.join == ": " else one_line(clip(str(key), MAX_KEY))
        yield _text(shown), value
