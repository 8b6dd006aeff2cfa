"""The benchmarks run: what they measure is for `scripts/bench`, on a quiet machine."""

from __future__ import annotations

import math

import pytest

from benchmarks.cases import CASES, load
from benchmarks.document import environment, render
from benchmarks.figures import duration, quartiles, ratio
from benchmarks.harness import Scale
from benchmarks.results import Promise


TINY = Scale(rounds=1, sample=0.0, server_rounds=1, server_seconds=0.0, separate=False)


@pytest.mark.parametrize(
    ("name", "rows"), [("happy", "errata ErrorMiddleware"), ("capture", "errata capture")]
)
def test_case_gives_tables_and_a_document(name, rows):
    """A case measures every contestant, and its rows and promises stand in the document."""
    section = load(name).run(TINY)
    document = render([section], command="scripts/bench", scale=TINY, versions=environment())

    assert section.name == name
    assert f"## {section.title}" in document
    for table in section.tables:
        assert any(row[0] == rows for row in table.rows)
        for row in table.rows:
            assert len(row) == len(table.headings)
            assert f"| {' | '.join(row)} |" in document
    for promise in section.promises:
        assert math.isfinite(promise.measured)
        assert promise.text in document
    assert all(seconds > 0 for samples in section.samples.values() for seconds in samples)


def test_cases_are_the_modules_of_their_folder():
    """A case is one file: its name is all that must be known."""
    assert {"capture", "happy", "server"} <= set(CASES)


def test_promise_is_kept_on_the_right_side_of_its_limit():
    """A cost may be at most its limit, a rate must be at least its limit."""
    assert Promise(text="cost", measured=1.0, limit=1.1).kept
    assert not Promise(text="cost", measured=1.2, limit=1.1).kept
    assert Promise(text="rate", measured=0.98, limit=0.97, at_least=True).kept
    assert not Promise(text="rate", measured=0.96, limit=0.97, at_least=True).kept


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2e-9, "2.00 ns"),
        (-253e-9, "-253 ns"),
        (1.234e-6, "1.23 µs"),
        (0.0456, "45.6 ms"),
        (12.0, "12.0 s"),
        (0.0, "0.00 ns"),
    ],
)
def test_duration_has_three_digits_and_a_unit(seconds, text):
    """Times are as exact as they deserve."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1 / 60, "1/60"), (0.125, "1/8.0"), (0.974, "0.97"), (119.6, "120")]
)
def test_ratio_is_read_aloud(value, text):
    """A small ratio is a fraction."""
    assert ratio(value) == text


def test_quartiles_of_few_samples():
    """Quartiles lie between samples where there are few."""
    assert quartiles([5.0]) == (5.0, 5.0, 5.0)
    assert quartiles([3.0, 1.0]) == (1.5, 2.0, 2.5)
