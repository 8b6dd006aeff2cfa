"""Storms: a few whole reports, and counts that add up exactly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from errata.report import Failure, Report, SafeReport
from errata.storms import MAX_FINGERPRINTS, WHOLE, WINDOW, Storms


def small(fingerprint):
    failure = Failure(type="ValueError", module="builtins", message="x")
    return SafeReport(Report(error_id="e", failure=failure, fingerprint=fingerprint))


class Feed:
    """Feeds occurrences to `Storms` as the reporter does, with a clock and dice of its own."""

    def __init__(self, chance=lambda: 1.0):
        self.now = 0.0
        self.storms = Storms(clock=lambda: self.now, chance=chance)
        self.delivered = []

    def occur(self, fingerprint="f"):
        count = self.storms.admit(fingerprint)
        if count:
            self.delivered.append((fingerprint, count))
        elif not self.storms.count(fingerprint):
            self.storms.keep(small(fingerprint))

    def collect(self):
        reports = self.storms.collect()
        self.delivered += [(report.fingerprint, report.count) for report in reports]

    def total(self, fingerprint="f"):
        return sum(count for name, count in self.delivered if name == fingerprint)


def test_first_of_a_window_are_whole_and_the_rest_is_counted():
    """After the first 20 nothing is whole, but everything is counted."""
    feed = Feed()
    for _ in range(100):
        feed.occur()
    assert feed.delivered == [("f", 1)] * WHOLE
    feed.collect()
    assert feed.delivered[WHOLE:] == [("f", 100 - WHOLE)]
    feed.collect()
    assert feed.total() == 100


def test_next_window_starts_anew_and_brings_the_outstanding():
    """The first report of the next minute stands for what the last one left."""
    feed = Feed()
    for _ in range(50):
        feed.occur()
    feed.now = WINDOW
    feed.occur()
    assert feed.delivered[-1] == ("f", 1 + 50 - WHOLE)
    assert feed.total() == 51


def test_sample_thins_as_the_storm_grows():
    """A sampled occurrence brings the outstanding ones along."""
    feed = Feed(chance=lambda: 0.01)
    for _ in range(3_000):
        feed.occur()
    feed.collect()
    assert feed.total() == 3_000
    # 20 / seen sinks to 0.01 at 2,000: each before is sampled by these dice, none after.
    assert len(feed.delivered) == 2_000


def test_fingerprints_are_bounded_and_lose_no_count():
    """What leaves to make room is delivered with its count."""
    feed = Feed()
    for _ in range(30):
        feed.occur("first")
    for number in range(MAX_FINGERPRINTS + 10):
        feed.occur(str(number))
    assert len(feed.storms._entries) <= MAX_FINGERPRINTS
    feed.collect()
    assert feed.total("first") == 30


def test_only_the_first_outstanding_needs_a_report():
    """The others are a number; after a collection the next one needs a report again."""
    storms = Storms(clock=lambda: 0.0, chance=lambda: 1.0)
    for _ in range(WHOLE):
        storms.admit("f")
    assert not storms.count("f")
    storms.keep(small("f"))
    assert storms.count("f")
    assert [report.count for report in storms.collect()] == [2]
    assert not storms.count("f")


@given(
    events=st.lists(
        st.one_of(
            st.tuples(st.just("occur"), st.sampled_from("abc")),
            st.tuples(st.just("pass"), st.floats(0, 100)),
            st.tuples(st.just("collect"), st.none()),
        ),
        max_size=300,
    ),
    dice=st.integers(0, 2**32),
)
def test_counts_always_add_up(events, dice):
    """In any order of occurrences, pauses and collections no occurrence is lost or doubled."""
    import random

    feed = Feed(chance=random.Random(dice).random)
    occurred = {"a": 0, "b": 0, "c": 0}
    for event, value in events:
        if event == "occur":
            feed.occur(value)
            occurred[value] += 1
        elif event == "pass":
            feed.now += value
        else:
            feed.collect()
    feed.collect()
    assert {name: feed.total(name) for name in occurred} == occurred
