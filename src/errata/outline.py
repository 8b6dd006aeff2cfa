"""A report as the debug page lays it out: what stands where, what is open, what is left out.

Frames stand with the most recent call first: what failed is at the top of the page. Library
frames that follow each other fold into one line. Everything is bounded, so that a page stays
under 600 kB however deep the stack and long the chain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import quote

from errata.markup import Highlighter, Trees
from errata.report import Failure, Frame
from errata.texts import one_line, type_name


MAX_SECTIONS: Final = 100
"""Exceptions of a chain or group on one page."""

MAX_FRAMES: Final = 300
"""Frames on one page, over all its exceptions; a capture keeps 100 of each."""

SOURCE_ROOM: Final = 250_000
LOCALS_ROOM: Final = 120_000
"""Characters of HTML for source and for variables: the most recent frames come first."""

MAX_PACKAGES: Final = 4
"""Packages named in the line that library frames fold into."""

LIBRARY_CONTEXT: Final = 2
"""Lines of source on either side, where the app's own frames show all that there are."""

_EDITORS: Final = {
    "vscode": "vscode://file{path}:{line}",
    "cursor": "cursor://file{path}:{line}",
    "zed": "zed://file{path}:{line}",
    "pycharm": "pycharm://open?file={path}&line={line}",
    "vim": "mvim://open?url=file://{path}&line={line}",
}
_URL_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_SCRIPT_SCHEMES: Final = frozenset({"javascript", "data", "vbscript"})


class EditorLinks:
    """Makes links that open a line of source in an editor.

    Args:
        editor: `vscode`, `cursor`, `zed`, `pycharm`, `vim` (MacVim), a URL that holds
            `{path}` and `{line}`, or None for no links.
        path_map: pairs of a prefix of paths where the app runs, such as a container, and what
            stands for it where the editor runs. The first that fits is taken.

    Raises:
        ValueError: *editor* is neither a known name nor such a URL, or its scheme runs
            scripts; a pair of *path_map* is not two texts, or its first is empty.
    """

    __slots__ = ("_path_map", "_template")

    def __init__(self, editor: str | None, path_map: Iterable[tuple[str, str]]) -> None:
        self._template = None if editor is None else _editor_template(editor)
        self._path_map = [_checked_pair(pair) for pair in path_map]

    def href(self, frame: Frame) -> str:
        """Return the link to the frame's line; empty without an editor or an absolute path."""
        path = self._mapped(frame.file.replace("\\", "/"))
        if re.match(r"[A-Za-z]:/", path):
            path = f"/{path}"
        if self._template is None or not path.startswith("/"):
            return ""
        quoted = quote(path.encode("utf-8", "replace"), safe="/:")
        return self._template.replace("{path}", quoted).replace("{line}", str(frame.line))

    def _mapped(self, path: str) -> str:
        for prefix, host in self._path_map:
            if path == prefix or path.startswith(f"{prefix}/"):
                return host + path[len(prefix) :]
        return path


def _editor_template(editor: str) -> str:
    template = str(_EDITORS.get(editor, editor))
    scheme = _URL_SCHEME.match(template)
    if (
        scheme is None
        or scheme[1].lower() in _SCRIPT_SCHEMES
        or not all(place in template for place in ("{path}", "{line}"))
    ):
        raise ValueError(
            f"editor={editor!r} is no editor that is known: give one of {', '.join(_EDITORS)}, "
            "or a URL such as 'myeditor://open?file={path}&line={line}'"
        )
    return template


def _checked_pair(pair: Sequence[str]) -> tuple[str, str]:
    is_pair = not isinstance(pair, str) and len(pair) == 2
    if not is_pair or not all(isinstance(prefix, str) for prefix in pair) or not pair[0]:
        raise ValueError(
            f"path_map holds {pair!r}: give pairs of prefixes, such as ('/app', '/home/me/app')"
        )
    before, after = (prefix.replace("\\", "/") for prefix in pair)
    return before.rstrip("/"), after.rstrip("/")


class FrameView(NamedTuple):
    """One frame; `code` and `locals` are HTML, empty where there is nothing to show."""

    function: str
    folder: str
    name: str
    line: int
    repeated: int
    href: str
    is_open: bool
    code: str
    locals: str


class Run(NamedTuple):
    """Frames that follow each other: the app's (no summary), a library's, or a gap."""

    summary: str
    frames: list[FrameView]
    is_open: bool = False
    is_gap: bool = False


class Event(NamedTuple):
    """A step through the exceptions behind the first: something opens or closes."""

    opens: Literal["section", "hidden", "note", ""] = ""
    closes: Literal["section", "hidden", ""] = ""
    label: str = ""
    title: str = ""
    message: str = ""
    notes: tuple[str, ...] = ()
    runs: Sequence[Run] = ()


class _Relative(NamedTuple):
    label: str
    failure: Failure
    is_member: bool = False


_Task: TypeAlias = Event | _Relative


class Outline:
    """Lays out one page; what is asked for first gets the room."""

    def __init__(self, highlighter: Highlighter, links: EditorLinks, trees: Trees) -> None:
        self._highlighter = highlighter
        self._links = links
        self._trees = trees
        self._frames = MAX_FRAMES
        self._source_room = SOURCE_ROOM

    def runs(self, failure: Failure) -> list[Run]:
        """Return the frames of one exception; of them the app's most recent is open."""
        frames = failure.frames[::-1]
        shown, left_out = frames[: self._frames], len(frames) - self._frames
        self._frames -= len(shown)
        opened = next((frame for frame in shown if frame.in_app and frame.file), None)
        if opened is None:
            opened = next((frame for frame in shown if frame.file), None)
        groups = groupby(shown, key=_kind_of)
        runs = [self._run(list(group), kind, opened) for kind, group in groups]
        if left_out > 0:
            runs.append(Run(f"{left_out:,} more frames are left out", [], is_gap=True))
        return runs

    def _run(self, frames: list[Frame], kind: str, opened: Frame | None) -> Run:
        if kind == "gap":
            count = sum(frame.repeated for frame in frames)
            return Run(f"{count:,} frames are left out here", [], is_gap=True)
        summary = ""
        if kind == "library" and len(frames) > 1:
            packages = list(dict.fromkeys(frame.module.partition(".")[0] for frame in frames))
            names = ", ".join(packages[:MAX_PACKAGES]) + ", …" * (len(packages) > MAX_PACKAGES)
            summary = f"{len(frames):,} library frames: {names}"
        is_open = any(frame is opened for frame in frames)
        return Run(
            summary, [self._view(frame, is_open=frame is opened) for frame in frames], is_open
        )

    def _view(self, frame: Frame, *, is_open: bool) -> FrameView:
        context = len(frame.source) if frame.in_app or is_open else LIBRARY_CONTEXT
        code = self._highlighter.code(frame, context if self._source_room > 0 else 0)
        self._source_room -= len(code)
        folder, slash, name = _short_path(frame.file).rpartition("/")
        return FrameView(
            function=one_line(frame.function),
            folder=one_line(folder + slash),
            name=one_line(name),
            line=frame.line,
            repeated=frame.repeated,
            href=self._links.href(frame),
            is_open=is_open,
            code=code,
            locals=self._trees.named(frame.locals),
        )

    def chain(self, failure: Failure) -> Iterator[Event]:
        """Walk through what stands behind *failure*; without recursion, for it may be deep."""
        tasks = [*_members(failure), *_led_to(failure)][::-1]
        sections = 0
        while tasks:
            task = tasks.pop()
            if isinstance(task, Event):
                yield task
                continue
            sections += 1
            if sections < MAX_SECTIONS:
                yield self._section(task.label, task.failure)
                tasks += _after(task)[::-1]
            elif sections == MAX_SECTIONS:
                yield Event("note", label="More exceptions are left out.")

    def _section(self, label: str, failure: Failure) -> Event:
        return Event(
            "section",
            label=label,
            title=one_line(type_name(failure)),
            message=failure.message,
            notes=failure.notes,
            runs=self.runs(failure),
        )


def _after(task: _Relative) -> list[_Task]:
    """Return what follows: what led to a member stands inside it, or it would seem the group's."""
    members, led_to = _members(task.failure), _led_to(task.failure)
    close = Event(closes="section")
    return [*members, *led_to, close] if task.is_member else [*members, close, *led_to]


def _members(failure: Failure) -> list[_Task]:
    count = len(failure.members)
    return [
        _Relative(f"Member {number:,} of {count:,}:", member, is_member=True)
        for number, member in enumerate(failure.members[:MAX_SECTIONS], 1)
    ]


def _led_to(failure: Failure) -> list[_Task]:
    tasks: list[_Task] = []
    if failure.cause is not None:
        tasks.append(_Relative("Caused by", failure.cause))
    if failure.context is not None:
        tasks.append(_Relative("Raised while handling", failure.context))
    if failure.suppressed is not None:
        label = f"Hidden by “raise … from”: {type_name(failure.suppressed)}"
        relative = _Relative("Raised while handling", failure.suppressed)
        tasks += [Event("hidden", label=one_line(label)), relative, Event(closes="hidden")]
    return tasks


def _kind_of(frame: Frame) -> str:
    if not frame.file:
        return "gap"
    return "app" if frame.in_app else "library"


def _short_path(file: str) -> str:
    """Return the path from the installed packages on, where it leads there."""
    path = file.replace("\\", "/")
    for folder in ("/site-packages/", "/dist-packages/"):
        path = path.rpartition(folder)[2]
    return path
