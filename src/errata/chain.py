"""An exception with its causes, contexts and members as a tree of failures: bounded.

Theory of operation. What can be long is a line: causes of causes, groups of one member in
each other. A line is followed to its end in a loop, and if it is too long its middle is
folded, so that the first exception and the root cause both stay. What branches off (the
other members of a group, a context that `from` hid) begins lines of its own, nearest
first. Nobody is visited twice, so a cycle ends where it closes.

The tree is planned first and drawn afterwards, all messages before the first local. It is
at most `MAX_NESTING` deep, because whoever walks it, a JSON encoder too, does so by
recursion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from types import TracebackType
from typing import Final, Literal, TypeAlias

from errata.anatomy import (
    cause_of,
    context_of,
    members_of,
    suppresses_context,
    traceback_of,
    type_name,
    type_names,
)
from errata.budget import Budget
from errata.message import MAX_MESSAGE, Messages
from errata.report import Failure, Frame
from errata.stack import FRAME_CHARACTERS, MAX_FRAMES, draw_frames


MAX_FAILURES: Final = 100
MAX_NESTING: Final = 50
"""Failures within failures; twice as many containers in JSON."""
MAX_MEMBERS: Final = 30
"""Members of one group."""
MAX_LINE: Final = 10_000
"""Exceptions that are followed to find the last of a line: some 10 ms."""
ALL_FRAMES: Final = 300
FEW_FRAMES: Final = 3
"""Frames in one report, and the least of one failure."""
ALL_MESSAGES: Final = 100_000
SHORT_MESSAGE: Final = 500
"""Characters of all messages of one report, and the least that one may have."""

_Link: TypeAlias = Literal["member", "cause", "context", "suppressed"]
"""How one exception hangs on another."""


def draw_failure(exc: BaseException, traceback: TracebackType | None, values: Budget) -> Failure:
    """Draw *exc*, raised with *traceback*, and everything that hangs on it.

    *values* pays for messages, notes and locals.
    """
    nodes = _plan(exc)
    messages = Messages(values)
    longest = max(SHORT_MESSAGE, min(MAX_MESSAGE, ALL_MESSAGES // len(nodes)))
    for node in nodes:
        node.message = messages.read(node.exc, longest)
        node.notes += messages.notes(node.exc, longest)
    frames = Budget(characters=FRAME_CHARACTERS)
    most = max(FEW_FRAMES, min(MAX_FRAMES, ALL_FRAMES // len(nodes)))
    for node in nodes:
        shown = traceback if node is nodes[0] else traceback_of(node.exc)
        try:
            node.frames = draw_frames(shown, values, frames, most)
        except Exception as raised:
            node.notes.append(f"errata: no frames, reading them raised {type_name(type(raised))}")
    # Whatever hangs on a node was planned after it.
    for node in reversed(nodes):
        node.failure = _failure(node)
    return nodes[0].failure


def outline_failure(exc: BaseException, values: Budget) -> Failure:
    """Draw *exc* alone: type, message and notes."""
    messages = Messages(values)
    module, name = type_names(type(exc))
    notes = messages.notes(exc)
    return Failure(type=name, module=module, message=messages.read(exc), notes=tuple(notes))


class _Node:
    """An exception that will be shown, where it hangs, and what is drawn of it so far."""

    __slots__ = ("depth", "exc", "failure", "frames", "left_out", "links", "message", "notes")

    failure: Failure

    def __init__(self, exc: BaseException, depth: int) -> None:
        self.exc = exc
        self.depth = depth
        self.left_out = 0
        self.links: list[tuple[_Link, _Node]] = []
        self.message = ""
        self.notes: list[str] = []
        self.frames: tuple[Frame, ...] = ()


def _failure(node: _Node) -> Failure:
    module, name = type_names(type(node.exc))
    single = {link: linked.failure for link, linked in node.links if link != "member"}
    if node.left_out:
        node.notes.append(f"errata: {node.left_out:,} further exceptions are left out here")
    return Failure(
        type=name,
        module=module,
        message=node.message,
        notes=tuple(node.notes),
        frames=node.frames,
        cause=single.get("cause"),
        context=single.get("context"),
        suppressed=single.get("suppressed"),
        members=tuple(linked.failure for link, linked in node.links if link == "member"),
    )


# The plan.


def _plan(exc: BaseException) -> list[_Node]:
    """Return the exceptions to show, each before those that hang on it."""
    nodes: list[_Node] = []
    seen: set[int] = set()
    waiting: deque[tuple[_Node | None, _Link, BaseException]] = deque([(None, "cause", exc)])
    while waiting:
        parent, link, first = waiting.popleft()
        if id(first) in seen:
            continue
        line = _line(first, seen)
        depth = 0 if parent is None else parent.depth + 1
        fair_share = -(-(MAX_FAILURES - len(nodes)) // (len(waiting) + 1))
        added = _hang(parent, link, line, depth, min(MAX_NESTING - depth, fair_share))
        nodes += added
        for node in added:
            node.left_out += max(len(members_of(node.exc)) - MAX_MEMBERS, 0)
            waiting.extend((node, link, linked) for link, linked in _links(node.exc))
    return nodes


def _line(exc: BaseException, seen: set[int]) -> list[tuple[BaseException, _Link]]:
    """Follow *exc* to its root cause or innermost member; each with its link to the next."""
    line: list[tuple[BaseException, _Link]] = []
    while id(exc) not in seen and len(line) < MAX_LINE:
        seen.add(id(exc))
        links = list(_links(exc))
        if len(links) > 1 and links[1][0] == "member":
            links = [linked for linked in links if linked[0] != "member"]
        link, following = next(
            (linked for linked in links if linked[0] != "suppressed"), ("cause", exc)
        )
        line.append((exc, link))
        exc = following
    return line


def _links(exc: BaseException) -> Iterator[tuple[_Link, BaseException]]:
    """Yield what hangs on *exc*: the first members, the cause, the context."""
    for member in islice(members_of(exc), MAX_MEMBERS):
        yield "member", member
    cause, context = cause_of(exc), context_of(exc)
    if cause is not None:
        yield "cause", cause
    if context is not None and context is not cause:
        yield "suppressed" if suppresses_context(exc) else "context", context


def _hang(
    parent: _Node | None,
    link: _Link,
    line: list[tuple[BaseException, _Link]],
    depth: int,
    room: int,
) -> list[_Node]:
    """Hang *line* on *parent*, of a long one as much of the head and the tail as has room."""
    left_out = max(len(line) - max(room, 0), 0)
    head = (len(line) - left_out + 1) // 2
    added: list[_Node] = []
    for exc, following in line[:head] + line[head + left_out :]:
        node = _Node(exc, depth + len(added))
        if parent is not None:
            parent.links.append((link, node))
        added.append(node)
        parent, link = node, following
    if left_out and (fold := added[head - 1] if added else parent) is not None:
        fold.left_out += left_out
    return added
