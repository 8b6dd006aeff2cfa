"""What one capture may spend: so much JSON, so many values, so much time."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii
from time import perf_counter
from typing import Final, TypeAlias

from errata.anatomy import plain
from errata.report import Description


MAX_CHARACTERS: Final = 300_000
"""Characters of JSON that the values of one capture fill: a report stays under 1 MB."""
MAX_NODES: Final = 4_000
"""Elements, entries and attributes in one capture: each takes about half a microsecond."""
MAX_SECONDS: Final = 0.1
"""After this nothing more is drawn: an error must not stall the other requests of its loop."""
WORST_ESCAPE: Final = 12
"""Characters of JSON for one beyond the Basic Multilingual Plane: two `\\uXXXX`."""
SHORT: Final = 40
"""Characters of a text that is paid for at the price of the worst ASCII, `\\uXXXX`: to count
its escapes takes longer than so little is worth."""
ASCII_ESCAPE: Final = 6

Known: TypeAlias = tuple[dict[str, Description], int, int]
"""A picture, and the nodes and characters that it took."""


class Budget:
    """What one capture may spend on pictures: *characters* of JSON, *nodes* and *seconds*.

    Args:
        lasting: all values live longer than the budget. Then what several frames of a stack
            hand on to each other is drawn once.
    """

    __slots__ = ("characters", "deadline", "known", "nodes")

    def __init__(
        self,
        *,
        characters: int = MAX_CHARACTERS,
        nodes: int = MAX_NODES,
        seconds: float = MAX_SECONDS,
        lasting: bool = False,
    ) -> None:
        self.characters = characters
        self.nodes = nodes
        self.deadline = perf_counter() + seconds  # may be put off
        self.known: dict[int, Known] | None = {} if lasting else None

    def text(self, text: str, limit: int) -> str:
        """Return *text* as exact `str`, cut to about *limit* characters, and pay for it.

        What is longer keeps head and tail and says between them how much is missing; lone
        surrogates become backslash escapes.
        """
        if type(text) is str and len(text) <= SHORT and text.isascii():
            self.characters -= ASCII_ESCAPE * len(text)
            return text
        short = plain(text, limit)
        cost = len(encode_basestring_ascii(short))
        room = max(self.characters, 0)
        if cost > room:
            # As if it were escaped more or less evenly; if it is not, as if at its worst.
            short = plain(text, len(short) * room // cost * 9 // 10)
            cost = len(encode_basestring_ascii(short))
            if cost > room:
                short = plain(text, room // WORST_ESCAPE)
                cost = len(encode_basestring_ascii(short))
        self.characters -= cost
        return short
