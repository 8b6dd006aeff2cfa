"""Tracebacks of reports: Python's own layout, within bounds."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from dataclasses import replace

import pytest

from errata.capture import capture
from errata.report import Failure, SafeReport
from errata.tracebacks import traceback_text
from tests.reports import a_frame, chained, report_of, sample_report


class Oops(Exception):
    """An error of the tests'."""


def _raise(exc: BaseException) -> None:
    raise exc


def _chained() -> None:
    try:
        _raise(KeyError("a"))
    except KeyError as exc:
        raise Oops("two\nlines") from exc


def _in_handler() -> None:
    try:
        _chained()
    except Oops:
        _raise(ValueError())


def _hidden() -> None:
    try:
        _chained()
    except Oops:
        raise ValueError("x") from None


def _noted() -> None:
    exc = Oops("x")
    exc.add_note("note\nof two lines")
    exc.add_note("another")
    raise exc


def _caught(function: Callable[[], None]) -> Exception:
    try:
        function()
    except Exception as exc:
        return exc
    raise AssertionError


def _group() -> None:
    inner = ExceptionGroup("inner", [_caught(_chained), *[ValueError(str(n)) for n in range(20)]])
    raise ExceptionGroup("outer", [_caught(_noted), inner, _caught(_in_handler)])


def _group_at_the_end() -> None:
    inner = ExceptionGroup("inner", [_caught(_chained)])
    try:
        raise ExceptionGroup("outer", [ValueError(), inner])
    except ExceptionGroup as exc:
        raise Oops from exc


def _deep_groups() -> None:
    exc: Exception = ValueError("leaf")
    for _ in range(5):
        exc = ExceptionGroup("deep", [exc])
    raise exc


@pytest.mark.parametrize(
    "function",
    [_chained, _in_handler, _hidden, _noted, _group, _group_at_the_end, _deep_groups],
)
def test_tracebacks_read_as_pythons_own(function: Callable[[], None]) -> None:
    """Chains, notes and groups are laid out line by line as `traceback` does it."""
    exc = _caught(function)
    expected = "".join(traceback.format_exception(exc)).splitlines()
    shown = traceback_text(SafeReport(capture(exc))).splitlines()
    assert list(map(str.rstrip, _without_carets(shown))) == list(
        map(str.rstrip, _without_carets(expected))
    )


def _without_carets(lines: list[str]) -> list[str]:
    # Which parts are underlined, and with what, differs between versions of Python.
    return [line for line in lines if not re.fullmatch(r"[ |]*[~^]+", line)]


def test_carets_stand_under_the_error() -> None:
    """Characters of double width are two columns of a terminal."""
    text = '    x = "漢字" + order["é"]'
    begin, stop = (len(text[:index].encode()) for index in (text.index("order"), len(text)))
    frame = a_frame(1, source=((1, text),), columns=(1, 1, begin, stop))
    lines = traceback_text(report_of(frame)).splitlines()
    assert lines[2] == '    x = "漢字" + order["é"]'
    assert lines[3] == "    " + " " * 13 + "^" * 10


def test_groups_are_shown_as_deep_and_wide_as_python_does() -> None:
    """What is beyond the limits of `traceback` is counted."""
    leaf = Failure(type="E", module="m", message="leaf")
    deep = leaf
    for _ in range(20):
        deep = replace(leaf, message="group", members=(deep,))
    assert "groups are shown 10 deep" in traceback_text(sample_report(failure=deep))
    wide = replace(leaf, members=(leaf,) * 17)
    assert "and 2 more exceptions" in traceback_text(sample_report(failure=wide))


def test_a_long_chain_says_what_is_left_out() -> None:
    """A traceback ends at a hundred exceptions."""
    text = traceback_text(chained(250, "cause"))
    assert text.count("direct cause of the following") == 99
    assert text.startswith("… what led to it is left out …")


def test_a_long_traceback_keeps_both_ends() -> None:
    """Where it began and how it ended are what is read first."""
    text = traceback_text(
        report_of(a_frame(function="begin"), *[a_frame()] * 2000, message="the end")
    )
    assert len(text) < 101_000
    assert "in begin" in text[:300]
    assert text.endswith("^\nm.E: the end")
    assert "characters are left out here" in text


def test_a_frame_cannot_forge_lines() -> None:
    """A line break in a file's name or in source does not begin a line of its own."""
    frame = a_frame(file="/a\nb.py", function="f\n", source=((107, "x\ny"),))
    assert traceback_text(report_of(frame)).splitlines()[1:3] == [
        '  File "/a\\nb.py", line 107, in f\\n',
        "    x\\ny",
    ]
