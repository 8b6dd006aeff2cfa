"""Reports of every exception: whole where possible, and in every case a report."""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata import capture as capture_module
from errata import chain
from errata.capture import capture, fingerprint, new_error_id
from errata.report import Crumb, Failure, Query, Report
from tests.hostile import (
    PROPERTIES,
    TRAPS,
    HostileMeta,
    Stopwatch,
    UserCodeRan,
    assert_sound,
    hostile,
    raised,
)
from tests.test_describe import VALUES


SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/items/5",
    "query_string": b"q=1",
    "headers": [(b"cookie", b"a=b")],
    "path_template": "/items/{id}",
}


def failure_of(exc: BaseException) -> Failure:
    """Return the failure of a sound report of *exc*."""
    report = capture(exc, SCOPE)
    assert_sound(report)
    return report.failure


def fail(cause: BaseException | None = None, context: BaseException | None = None) -> BaseException:
    """Return a raised exception with the given chain."""

    def throw() -> None:
        raise ValueError("outer")

    exc = raised(throw)
    exc.__cause__ = cause
    exc.__context__ = context
    if cause is None:
        exc.__suppress_context__ = False
    return exc


# The whole report.


def test_a_report_says_everything() -> None:
    """What happened, where, to which request, and what led there."""
    exc = fail()
    query = Query(sql="SELECT 1")
    crumb = Crumb(message="before")
    before = time.time()
    report = capture(
        exc,
        SCOPE,
        error_id="e" * 32,
        phase="streaming",
        mechanism="hook",
        handled=True,
        status=503,
        duration=0.25,
        fingerprint="f" * 32,
        body=b"body",
        body_truncated=True,
        client="10.0.0.1",
        queries=[query],
        crumbs=[crumb],
        versions={"python": "3"},
    )
    assert_sound(report)
    assert before <= report.timestamp <= time.time()
    assert (report.error_id, report.fingerprint, report.count) == ("e" * 32, "f" * 32, 1)
    assert (report.phase, report.mechanism, report.handled) == ("streaming", "hook", True)
    assert (report.status, report.duration, report.versions) == (503, 0.25, {"python": "3"})
    assert (report.queries, report.crumbs) == ((query,), (crumb,))
    failure = report.failure
    assert (failure.type, failure.module, failure.message) == ("ValueError", "builtins", "outer")
    assert [frame.function.rpartition(".")[2] for frame in failure.frames] == ["throw"]
    request = report.request
    assert request is not None
    assert (request.path, request.route, request.client) == ("/items/5", "/items/{id}", "10.0.0.1")
    assert (request.query, request.cookies) == ((("q", "1"),), (("a", "b"),))
    assert request.body == "body… (truncated)"


def test_defaults_are_made_up() -> None:
    """Without more than the exception there are still an id, a time and a fingerprint."""
    exc = fail()
    report = capture(exc)
    assert len(report.error_id) == 32
    assert report.fingerprint == fingerprint(exc)
    assert report.request is None
    assert (report.queries, report.crumbs, report.versions) == ((), (), {})
    assert capture(exc).error_id != report.error_id


def test_error_ids_are_random() -> None:
    """32 hexadecimal digits, never twice."""
    ids = {new_error_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(len(bytes.fromhex(error_id)) == 16 for error_id in ids)


def test_the_light_report_has_no_details() -> None:
    """For a repeated error: type, message, notes, and which request."""
    exc = fail(cause=KeyError("inner"))
    exc.add_note("a note")
    report = capture(exc, SCOPE, frames=False, body=b"x")
    assert_sound(report)
    assert report.failure == Failure(
        type="ValueError", module="builtins", message="outer", notes=("a note",)
    )
    assert report.request is not None
    assert (report.request.method, report.request.route) == ("GET", "/items/{id}")
    assert (report.request.headers, report.request.body) == ((), None)


def test_a_traceback_can_be_given() -> None:
    """Starlette clears the exception's own after a handler ran."""
    exc = fail()
    traceback, exc.__traceback__ = exc.__traceback__, None
    assert capture(exc).failure.frames == ()
    report = capture(exc, traceback=traceback)
    assert len(report.failure.frames) == 1
    assert report.fingerprint == fingerprint(exc, traceback) != fingerprint(exc)


def test_the_oldest_of_a_long_trail_are_left_out() -> None:
    """The newest queries and crumbs are kept, as many as there is room for."""
    queries = [Query(sql=f"{number:04}" + "x" * 4_000, params="ö" * 500) for number in range(100)]
    crumbs = [Crumb(message=f"{number:04}" + "x" * 4_000) for number in range(100)]
    report = capture(fail(), queries=queries, crumbs=crumbs)
    assert len(assert_sound(report)) < 180_000
    assert 5 < len(report.queries) < 20
    assert report.queries[-1].sql.startswith("0099")
    assert report.crumbs[-1].message.startswith("0099")
    assert report.crumbs[0].message < report.crumbs[1].message


def test_entries_that_are_no_json_are_left_out() -> None:
    """A crumb made by hand of live objects does not get into a report."""
    fields: Any = {"value": object()}
    odd = Crumb(message="odd", fields=fields)
    assert capture(fail(), crumbs=[odd, Crumb(message="good")]).crumbs == (Crumb(message="good"),)


# Chains.


def test_a_cause_is_shown() -> None:
    """`raise … from …`, with the frames of both."""

    def throw() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    failure = failure_of(raised(throw))
    assert failure.cause is not None
    assert failure.cause.message == "'inner'"
    assert len(failure.cause.frames) == 1
    assert failure.context is failure.suppressed is None


def test_a_context_is_shown_or_was_suppressed() -> None:
    """`from None` hides the context from users, not from those who must mend it."""
    context = KeyError("inner")
    failure = failure_of(fail(context=context))
    assert failure.context is not None
    assert failure.suppressed is failure.cause is None
    hiding = fail(context=context)
    hiding.__suppress_context__ = True
    failure = failure_of(hiding)
    assert failure.suppressed is not None
    assert failure.suppressed.type == "KeyError"
    assert failure.context is failure.cause is None


def test_a_cause_and_another_context_are_both_shown() -> None:
    """The context that an explicit cause hid is not lost."""
    failure = failure_of(fail(cause=KeyError("cause"), context=TypeError("context")))
    assert failure.cause is not None
    assert failure.suppressed is not None
    assert failure.suppressed.message == "context"


def test_groups_are_a_tree() -> None:
    """Members, with chains of their own, and groups in groups."""
    inner = BaseExceptionGroup("inner", [KeyError("a"), fail(cause=TypeError("b"))])
    failure = failure_of(BaseExceptionGroup("outer", [inner, OSError("c")]))
    assert failure.message == "outer (2 sub-exceptions)"
    first, second = failure.members
    assert second.message == "c"
    assert [member.type for member in first.members] == ["KeyError", "ValueError"]
    assert first.members[1].cause is not None
    assert len(first.members[1].frames) == 1


def test_the_exception_that_a_group_wraps_is_shown_once() -> None:
    """What was handled when the group was made is its context too."""
    member = ValueError("member")
    group = ExceptionGroup("group", [member])
    group.__context__ = member
    failure = failure_of(group)
    assert [one.message for one in failure.members] == ["member"]
    assert failure.context is None


def test_cycles_end() -> None:
    """Exceptions that cause each other, or themselves, are shown once."""
    first, second = ValueError("1"), KeyError("2")
    first.__cause__, second.__cause__ = second, first
    failure = failure_of(first)
    assert failure.cause is not None
    assert failure.cause.cause is None
    first.__cause__ = first
    assert failure_of(first).cause is None


def count(failure: Failure) -> int:
    """Return how many failures a report holds."""
    linked = [failure.cause, failure.context, failure.suppressed, *failure.members]
    return 1 + sum(count(one) for one in linked if one is not None)


def nesting(failure: Failure) -> int:
    """Return how deep they are nested."""
    linked = [failure.cause, failure.context, failure.suppressed, *failure.members]
    return 1 + max((nesting(one) for one in linked if one is not None), default=0)


@pytest.mark.parametrize("length", [3_000, 30_000])
def test_a_long_chain_keeps_both_ends(length: int) -> None:
    """The exception that was raised and the root cause are kept, and the rest is counted."""
    exc: BaseException = ValueError("root")
    for number in range(length):
        following = ValueError(str(number))
        following.__cause__ = exc
        exc = following
    with Stopwatch():
        failure = failure_of(exc)
    assert nesting(failure) == count(failure) == chain.MAX_NESTING
    link: Failure | None = failure
    messages: list[str] = []
    notes: list[str] = []
    while link is not None:
        messages.append(link.message)
        notes.extend(link.notes)
        link = link.cause
    assert messages[0] == str(length - 1)
    assert any("further exceptions are left out" in note for note in notes)
    if length < chain.MAX_LINE:
        assert messages[-1] == "root"
        assert notes == [f"errata: {length + 1 - 50:,} further exceptions are left out here"]
    while exc.__cause__ is not None:  # one by one: freeing them at once would recurse
        exc = exc.__cause__


def test_a_wide_group_is_cut() -> None:
    """Of 20,000 members thirty are shown, and the rest is counted."""
    group = ExceptionGroup("wide", [ValueError(number) for number in range(20_000)])
    with Stopwatch():
        failure = failure_of(group)
    assert [one.message for one in failure.members] == [str(number) for number in range(30)]
    assert failure.notes == ("errata: 19,970 further exceptions are left out here",)


def test_deep_groups_keep_the_innermost() -> None:
    """Of 900 groups in each other the middle is folded, and the leaf is shown."""
    exc: Exception = ValueError("leaf")
    for number in range(900):
        exc = ExceptionGroup(str(number), [exc])
    failure = failure_of(exc)
    assert nesting(failure) == chain.MAX_NESTING
    while failure.members:
        failure = failure.members[0]
    assert failure.message == "leaf"


def test_a_tree_of_groups_is_bounded() -> None:
    """Groups of groups of chains: a hundred exceptions, fairly taken from all branches."""

    def tree(depth: int) -> Exception:
        if depth == 0:
            leaf = ValueError("leaf")
            leaf.__cause__ = KeyError("root")
            return leaf
        return ExceptionGroup("branch", [tree(depth - 1) for _ in range(6)])

    with Stopwatch():
        failure = failure_of(tree(5))
    assert 50 < count(failure) <= chain.MAX_FAILURES
    assert all(member.members for member in failure.members)


def test_a_deep_tree_is_bounded() -> None:
    """900 groups in each other, each with another member beside."""
    exc: Exception = ValueError("leaf")
    for number in range(900):
        exc = ExceptionGroup(str(number), [ValueError(number), exc])
    failure = failure_of(exc)
    assert nesting(failure) <= chain.MAX_NESTING
    assert count(failure) <= chain.MAX_FAILURES


# Hostile exceptions.


def _hostile_error(metaclass: Any = type, **namespace: Any) -> BaseException:
    traps = {name: trap for name, trap in TRAPS.items() if name != "__str__"}
    cls = type.__new__(metaclass, "Hostile", (ValueError,), {**traps, **PROPERTIES, **namespace})
    error: BaseException = ValueError.__new__(cls, "why")
    return error


CHAIN = dict.fromkeys(
    ("__cause__", "__context__", "__traceback__", "__notes__", "exceptions", "message"),
    PROPERTIES["path"],
)


@pytest.mark.parametrize("metaclass", [type, HostileMeta], ids=["type", "HostileMeta"])
def test_no_code_of_an_exception_runs(metaclass: Any) -> None:
    """Not even as a cause, a context or a member is anything of it asked."""
    for link in ("cause", "context", "member"):
        exc = _hostile_error(metaclass, **CHAIN)
        whole = BaseExceptionGroup("group", [exc]) if link == "member" else fail(**{link: exc})
        failure = failure_of(whole)
        linked = failure.cause or failure.context or failure.members[0]
        assert (linked.type, linked.message) == ("Hostile", "why")
        assert len(fingerprint(whole)) == 32
    assert failure_of(_hostile_error(metaclass, **CHAIN)).message == "why"


@pytest.mark.parametrize("wrong", ["__eq__", "__hash__", "__bool__"])
def test_a_false_exception_is_an_exception(wrong: str) -> None:
    """An exception may be false, equal to nothing or without a hash."""

    def negative(self: object, *_: object) -> Any:
        return 0

    odd: BaseException = type("Odd", (KeyError,), {wrong: negative})("x")
    failure = failure_of(fail(cause=odd))
    assert failure.cause is not None
    assert failure.cause.type == "Odd"
    assert failure_of(odd).message == "'x'"


def test_locals_are_not_asked_either() -> None:
    """A frame full of traps: the values are shown, and none of them runs."""

    def throw() -> None:
        local = hostile(object)
        items = [hostile(list), {"key": hostile(dict)}]
        raise ValueError(len([local, items]))

    shown = failure_of(raised(throw)).frames[0].locals
    assert list(shown) == ["local", "items"]
    assert shown["items"]["size"] == 2  # type: ignore[index, call-overload]


def test_a_str_that_hangs_costs_the_message_only() -> None:
    """Frames, locals and the request are there nevertheless."""
    never = threading.Event()
    exc: BaseException = type("Slow", (ValueError,), {"__str__": lambda self: never.wait()})()
    with Stopwatch():
        failure = failure_of(fail(cause=exc))
    never.set()
    assert failure.cause is not None
    assert "took longer" in failure.cause.message
    assert failure.frames[0].locals == {}


def test_recursion_errors_are_small() -> None:
    """The deepest recursion is a few frames, whatever function calls which."""

    def even(number: int) -> None:
        odd(number + 1)

    def odd(number: int) -> None:
        even(number + 1)

    exc = raised(lambda: even(0))
    assert type(exc) is RecursionError
    failure = failure_of(exc)
    assert len(failure.frames) < 6
    assert max(frame.repeated for frame in failure.frames) > 300


def test_it_works_near_the_end_of_the_stack() -> None:
    """Where Python itself has no room left, there is at least a report of the type."""
    reports: list[Report] = []

    def descend() -> None:
        try:
            descend()
        except RecursionError:
            reports.append(capture(ValueError("deep"), SCOPE))
            raise

    assert type(raised(descend)) is RecursionError
    assert {report.failure.type for report in reports} == {"ValueError"}
    assert reports[-1].failure.message == "deep"


def test_huge_locals_are_fast() -> None:
    """100 MB of text, five million numbers and a dictionary five thousand deep."""

    def throw() -> None:
        text = "x" * 100_000_000
        numbers = [0] * 5_000_000
        deep: dict[str, Any] = {}
        for _ in range(5_000):
            deep = {"deeper": deep}
        raise ValueError(len(text) + len(numbers))

    exc = raised(throw)
    with Stopwatch():
        failure = failure_of(exc)
    assert list(failure.frames[0].locals) == ["text", "numbers", "deep", "_"]


def test_a_syntax_error_names_its_place() -> None:
    """Message, file, line and text of code that is in no file."""
    failure = failure_of(raised(lambda: compile("1 +", "<made up>", "exec")))
    assert failure.message.startswith("invalid syntax")
    assert failure.notes == ('File "<made up>", line 1: 1 +',)


def _deep_in_a_library(number: int, wide: object) -> None:
    text, other = "\x01" * 900, "\U0001f600" * 900
    names = {text: wide, other: [text, other, wide] * 9}
    if number:
        # A new function each time: nothing of this is folded.
        exec("f(number, wide)", {"f": _deep_in_a_library, "number": number - 1, "wide": names})
    raise ValueError(other * 10, names)


def test_the_worst_report_is_small_and_fast() -> None:
    """Everything at its limit at once, all of it escaped, stays below a megabyte."""
    wide = {f"{n}" + "𐌰" * 190: ["é" * 999] * 10 for n in range(20)}
    exc = raised(lambda: _deep_in_a_library(120, wide))
    for number in range(150):
        following = raised(lambda: _deep_in_a_library(2, wide))
        following.__cause__ = exc
        following.add_note("\x01" * 100_000)
        exc = following
        if number % 3:
            exc = BaseExceptionGroup("\x01" * 100_000, [exc, *map(KeyError, range(40))])
    scope = SCOPE | {
        "path": "\x01" * 100_000,
        "query_string": b"\x01=%01&" * 10_000,
        "headers": [(b"\xff" * 900, b"\xff" * 900)] * 500,
    }
    queries = [Query(sql="\x01" * 4_000, params="\x01" * 900)] * 100
    crumbs = [Crumb(message="\x01" * 4_000)] * 100
    with Stopwatch():
        report = capture(exc, scope, body=b"\x01" * 100_000, queries=queries, crumbs=crumbs)
    assert len(assert_sound(report)) > 300_000


# When we fail ourselves.


def test_failing_frames_cost_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with one failure's frames, the rest is there."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(chain, "draw_frames", broken)
    failure = failure_of(fail(cause=KeyError("x")))
    assert failure.frames == ()
    assert failure.notes == ("errata: no frames, reading them raised ZeroDivisionError",)
    assert failure.cause is not None
    assert failure.message == "outer"


def test_a_failing_plan_costs_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a chain there are still type, message and request."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(chain, "_plan", broken)
    failure = failure_of(fail())
    assert failure.message == "outer"
    assert failure.notes == ("errata: the rest is missing, reading it raised ZeroDivisionError",)
    monkeypatch.setattr(capture_module, "outline_failure", broken)
    monkeypatch.setattr(capture_module, "draw_request", broken)
    report = capture(fail(), SCOPE)
    assert (report.failure.type, report.failure.message) == ("ValueError", "")
    assert "the message is missing" in report.failure.notes[0]
    assert report.request is None
    assert len(report.fingerprint) == 32


def test_what_is_no_exception_is_reported_too() -> None:
    """A caller's mistake must not be an error while an error is reported."""
    wrong: Any = object()
    assert capture(wrong).failure.type == "object"
    assert len(fingerprint(wrong)) == 32


# Nothing is kept.


class Local:
    """Something that can be watched."""


@pytest.mark.parametrize("words", [None, lambda self: "words"], ids=["plain", "str in a thread"])
@pytest.mark.parametrize("whole", [True, False])
def test_nothing_is_kept_alive(words: Callable[[object], str] | None, whole: bool) -> None:
    """Once the caller lets go, exception, frames and locals are gone, without the collector."""
    watched: list[weakref.ref[Any]] = []
    cls: Any = type("Watched", (ValueError,), {"__str__": words} if words else {})

    def throw() -> None:
        local = Local()
        watched.append(weakref.ref(local))
        raise cls("x", [local])

    gc.disable()
    try:
        try:
            throw()
        except ValueError as exc:
            watched.append(weakref.ref(exc))
            report = capture(exc, SCOPE, frames=whole)
        assert report.failure.type == "Watched"
        assert [ref() for ref in watched] == [None, None]
    finally:
        gc.enable()


def test_the_locals_of_the_caller_stay() -> None:
    """Who has called `locals()` before still has them, the exception too."""

    def catch() -> tuple[dict[str, Any], Report]:
        try:
            raise ValueError("x")
        except ValueError as exc:
            mine = locals()
            return mine, capture(exc)

    mine, report = catch()
    assert type(mine["exc"]) is ValueError
    assert list(report.failure.frames[-1].locals) == ["exc", "mine"]


# Fingerprints.


def call(name: str, body: str = "raise ValueError", file: str = "app.py", **names: Any) -> Any:
    """Return a function made of source."""
    namespace: dict[str, Any] = {"__name__": "app", **names}
    exec(compile(f"def {name}(*args):\n {body}", file, "exec"), namespace)
    return namespace[name]


def print_of(function: Callable[[], object]) -> str:
    """Return the fingerprint of what *function* raises."""
    return fingerprint(raised(function))


def test_equal_errors_have_equal_fingerprints() -> None:
    """Neither message, line, id nor an equal module loaded again matters."""
    one = call("one")
    assert print_of(one) == print_of(one) == print_of(call("one"))
    assert print_of(one) == print_of(call("one", "\n\n raise ValueError(5)"))
    assert int(print_of(one), 16) >= 0
    assert len(print_of(one)) == 32


DIFFERENT: dict[str, Callable[[], object]] = {
    "one": call("one"),
    "another function": call("two"),
    "another file": call("one", file="other.py"),
    "another type": call("one", "raise KeyError"),
    "called from elsewhere": call("two", "one()", one=call("one")),
    "called the other way": call("one", "two()", two=call("two")),
    "with a cause": call("one", "raise ValueError from KeyError()"),
    "with another cause": call("one", "raise ValueError from OSError()"),
    "with a context": call("one", "try: 1 / 0\n finally: raise ValueError"),
    "a group": call("one", "raise ExceptionGroup('', [ValueError()])"),
    "a group of others": call("one", "raise ExceptionGroup('', [KeyError()])"),
}


def test_different_errors_have_different_fingerprints() -> None:
    """Type, places and relatives tell errors apart."""
    prints = {name: print_of(function) for name, function in DIFFERENT.items()}
    assert len(set(prints.values())) == len(DIFFERENT)
    hidden = call("one", "try: 1 / 0\n finally: raise ValueError from None")
    assert print_of(hidden) == prints["one"]


def test_the_depth_of_a_recursion_does_not_matter() -> None:
    """One recursion is one error, however deep it was, and wherever it hit the limit."""
    names: dict[str, Any] = {"__name__": "app"}
    exec("def a(n): b(n - 1) if n else 1 / 0\ndef b(n): a(n - 1)", names)
    assert print_of(lambda: names["a"](10)) == print_of(lambda: names["a"](200))
    exec("def even(): odd()\ndef odd(): even()", names)
    prints = set()
    for wrap in range(4):
        deeper = names["even"]
        for _ in range(wrap):
            deeper = partial(_call, deeper)
        prints.add(print_of(partial(_call, deeper)))
    assert len(prints) == 1


def _call(function: Callable[[], None]) -> None:
    function()


def test_a_fingerprint_of_a_giant_is_fast() -> None:
    """A hundred thousand frames and members cost a moment."""
    (frame,) = [raised(call("one")).__traceback__.tb_frame]  # type: ignore[union-attr]
    traceback = None
    for _ in range(100_000):
        traceback = types.TracebackType(traceback, frame, 0, 1)
    group = ExceptionGroup("", [ValueError()] * 100_000)
    with Stopwatch():
        for _ in range(20):
            assert len(fingerprint(group, traceback)) == 32


def test_a_fingerprint_survives_odd_names() -> None:
    """File and function names may be anything that Python lets them be."""
    odd = call("one", file="\udcff.py").__code__.replace(co_qualname=hostile(str, "\ud800"))
    assert len(print_of(types.FunctionType(odd, {}))) == 32


# Properties.


@given(st.lists(VALUES, max_size=2), st.booleans())
def test_every_exception_has_a_report(values: list[Any], chained: bool) -> None:
    """Any arguments, locals and notes give a sound report."""

    def throw(local: object) -> None:
        raise ValueError(*values)

    exc = raised(lambda: throw(values))
    exc.__notes__ = values
    assert_sound(capture(fail(cause=exc) if chained else exc, {"type": "http", "headers": values}))


def test_the_traps_work() -> None:
    """The hostile exceptions of these tests do notice when their code runs."""
    with pytest.raises(UserCodeRan):
        bool(_hostile_error())
    assert sys.getrecursionlimit() >= 1_000
    assert json.loads(assert_sound(capture(_hostile_error())))["failure"]["type"] == "Hostile"
