"""Storms: when one error comes thousands of times, capture a few whole and count the rest."""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from errata.report import SafeReport


WINDOW: Final = 60.0
"""Seconds after which a fingerprint starts anew and its outstanding count is delivered."""

WHOLE: Final = 20
"""Occurrences of one fingerprint in a window that are captured whole."""

MAX_FINGERPRINTS: Final = 1_000
"""Fingerprints that are watched at once; the one unseen for longest leaves, its count delivered."""


@dataclass(slots=True)
class _Entry:
    since: float
    seen: int = 0
    outstanding: int = 0
    first: SafeReport | None = None
    """A small report of the first outstanding occurrence: it stands for them all."""


class Storms:
    """Decides for each occurrence whether it is captured whole, and loses no count.

    After the first `WHOLE` of a window an occurrence is captured with the probability
    `WHOLE / seen`: an evenly thinning sample, some 20 more for each e-fold of the storm.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._evicted: list[SafeReport] = []

    def admit(self, fingerprint: str) -> int:
        """Count one occurrence.

        Returns:
            0 when it is only to be counted; else how many occurrences its whole report
            stands for, itself and the outstanding ones of an earlier window.
        """
        now = self._clock()
        with self._lock:
            entry = self._entries.get(fingerprint)
            if entry is None:
                entry = self._entries[fingerprint] = _Entry(now)
                self._evict()
            else:
                self._entries.move_to_end(fingerprint)
            if now - entry.since >= WINDOW:
                entry.since, entry.seen = now, 0
            entry.seen += 1
            if entry.seen <= WHOLE or self._chance() < WHOLE / entry.seen:
                count, entry.outstanding, entry.first = 1 + entry.outstanding, 0, None
                return count
            return 0

    def count(self, fingerprint: str) -> bool:
        """Count one more outstanding occurrence, if a small report stands for it already."""
        with self._lock:
            entry = self._entries.get(fingerprint)
            if entry is None or entry.first is None:
                return False
            entry.outstanding += 1
            return True

    def keep(self, report: SafeReport) -> None:
        """Let the small *report* stand for the outstanding occurrences, its own the first.

        Someone must call `collect()` when the window is over.
        """
        with self._lock:
            entry = self._entries.get(report.fingerprint)
            if entry is None or entry.first is not None:
                self._evicted.append(report)
                return
            entry.outstanding += 1
            entry.first = report

    def collect(self) -> list[SafeReport]:
        """Return what is outstanding, one report for each fingerprint, and forget it."""
        with self._lock:
            reports, self._evicted = self._evicted, []
            for entry in self._entries.values():
                reports.extend(_settle(entry))
        return reports

    def _evict(self) -> None:
        while len(self._entries) > MAX_FINGERPRINTS:
            _, entry = self._entries.popitem(last=False)
            self._evicted.extend(_settle(entry))


def _settle(entry: _Entry) -> list[SafeReport]:
    if not entry.outstanding or entry.first is None:
        return []
    settled = SafeReport(replace(entry.first, count=entry.outstanding))
    entry.outstanding, entry.first = 0, None
    return [settled]
