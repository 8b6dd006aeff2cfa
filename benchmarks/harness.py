"""Fair timing on a machine that is not quiet: paired, interleaved rounds.

A round is three laps; in a lap every contestant runs for about a millisecond, in random order and
without the garbage collector, and its best lap counts (what takes 0.1 s has one). What a contestant
adds is the difference to the base of the *same* round, and only the median of those differences
counts, so that a machine which slows down for a while slows down both.

Contestants that patch what others run on (an SDK with its integrations) are a group of their
own: each group is a process with a base of its own, and the rounds take the groups in turn.
"""

from __future__ import annotations

import gc
import multiprocessing
import random
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias, TypeVar


T = TypeVar("T")

Burst: TypeAlias = Callable[[int], float]
"""Runs an operation so many times and returns the seconds that they took together."""

ROUND_TIMEOUT: Final = 300.0
"""Seconds after which a round is given up: some hundred times what the slowest takes."""
STOP_TIMEOUT: Final = 10.0
LAPS: Final = 3
"""Each short enough to fit between two interruptions; the best of three is seldom interrupted."""
LONG_BURST: Final = 0.1
"""Seconds after which a burst is not repeated in the same round: interruptions are small to it."""
WARM_UP: Final = 5
"""Samples of each contestant that nobody counts: caches fill, the interpreter specialises."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How long and how carefully to measure."""

    rounds: int
    sample: float
    """Seconds that one contestant runs in one lap, at least one operation."""
    server_rounds: int
    server_seconds: float
    separate: bool = True
    """Whether there may be other processes; if not, what needs one is left out."""


FULL: Final = Scale(rounds=401, sample=0.001, server_rounds=7, server_seconds=3.0)
QUICK: Final = Scale(rounds=101, sample=0.001, server_rounds=2, server_seconds=1.0)


@dataclass(frozen=True)
class Contestant:
    """One way to do the work."""

    name: str
    burst: Burst
    once: bool = False
    """Whether one operation a lap is all: its state is used up by it."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Contestants that share a process; the first is the base of the others."""

    build: Callable[[], Sequence[Contestant]]
    """Called in that process: a function of a module."""
    separate: bool = False
    """Whether it must not share a process with anybody else."""


@dataclass
class Series:
    """Seconds for one operation, one sample a round, and what that is over the base."""

    samples: list[float] = field(default_factory=list)
    added: list[float] = field(default_factory=list)


def measure(
    groups: Iterable[Group], scale: Scale, *, rounds: int | None = None
) -> dict[str, Series]:
    """Return a series for each contestant, in the order of the groups."""
    with ExitStack() as stack:
        tracks: list[_Track] = []
        for group in groups:
            if scale.separate:
                tracks.append(stack.enter_context(_Process(group, scale.sample)))
            elif not group.separate:
                tracks.append(_Inline(group, scale.sample))
        series = {name: Series() for track in tracks for name in track.names}
        for _ in range(scale.rounds if rounds is None else rounds):
            for track in shuffled(tracks):
                times = track.run()
                for name, seconds in zip(track.names, times, strict=True):
                    series[name].samples.append(seconds)
                    series[name].added.append(seconds - times[0])
    return series


def shuffled(items: Iterable[T]) -> list[T]:
    """Return *items* in random order: nobody always runs after the same neighbour."""
    return sorted(items, key=lambda _: random.random())


class _Track(Protocol):
    """Where a group runs."""

    @property
    def names(self) -> Sequence[str]: ...

    def run(self) -> list[float]:
        """Run one round; return the seconds for one operation of each contestant."""
        ...


class _Inline:
    """A group in this process."""

    def __init__(self, group: Group, sample: float) -> None:
        self._contestants = group.build()
        self.names = [contestant.name for contestant in self._contestants]
        self._counts = [_calibrate(contestant, sample) for contestant in self._contestants]

    def run(self) -> list[float]:
        counts = self._counts
        best = self._lap(range(len(counts)))
        short = [index for index in best if best[index] * counts[index] < LONG_BURST]
        for _ in range(LAPS - 1):
            for index, seconds in self._lap(short).items():
                best[index] = min(best[index], seconds)
        return [best[index] for index in range(len(counts))]

    def _lap(self, indexes: Iterable[int]) -> dict[int, float]:
        times: dict[int, float] = {}
        gc.collect()
        gc.disable()
        try:
            for index in shuffled(indexes):
                count = self._counts[index]
                times[index] = self._contestants[index].burst(count) / count
        finally:
            gc.enable()
        return times


def _calibrate(contestant: Contestant, sample: float) -> int:
    """Warm *contestant* up; return how many operations fill *sample* seconds."""
    count = 1
    seconds = contestant.burst(count)
    while seconds < sample and not contestant.once:
        count *= 2
        seconds = contestant.burst(count)
    for _ in range(WARM_UP if seconds < LONG_BURST and sample else 0):
        contestant.burst(count)
    return count


class _Process:
    """A group in a process of its own, which ends with this one."""

    def __init__(self, group: Group, sample: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, group, sample), daemon=True)
        self._process.start()
        theirs.close()
        self.names: Sequence[str] = ()

    def __enter__(self) -> Self:
        self.names = self._read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._connection.close()
        self._process.join(STOP_TIMEOUT)
        self._process.kill()

    def run(self) -> list[float]:
        self._connection.send(None)
        return self._read()

    def _read(self) -> list[Any]:
        if not self._connection.poll(ROUND_TIMEOUT):
            raise RuntimeError(f"a round took more than {ROUND_TIMEOUT:.0f} s")
        failed, answer = self._connection.recv()
        if failed:
            raise RuntimeError(f"a contestant failed:\n{answer}")
        return list(answer)


def _serve(connection: Connection, group: Group, sample: float) -> None:
    try:
        track = _Inline(group, sample)
        gc.freeze()  # nothing of the set-up is looked at again in each lap
        connection.send((False, track.names))
        while True:
            connection.recv()
            connection.send((False, track.run()))
    except (EOFError, KeyboardInterrupt):
        return
    except BaseException:
        connection.send((True, traceback.format_exc()))
