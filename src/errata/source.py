"""The lines of source around an error."""

from __future__ import annotations

import linecache
import os
import stat
from functools import lru_cache
from importlib.machinery import ModuleSpec
from json.encoder import encode_basestring_ascii
from time import perf_counter
from types import TracebackType
from typing import Any, Final, TypeAlias

from errata.anatomy import plain
from errata.budget import Budget


CONTEXT_LINES: Final = 5
"""Lines of source before the error, and as many after it."""
MAX_LINE: Final = 250
MAX_SOURCE_SIZE: Final = 2_000_000
"""Bytes of a file that is read for a few lines of it: some 10 ms."""
MAX_CACHED: Final = 1_024
"""Places whose lines are remembered: less than 1 MB."""

Lines: TypeAlias = tuple[tuple[int, str], ...]


def draw_source(step: TracebackType, values: Budget, frames: Budget) -> Lines:
    """Return the numbered lines around *step*; nothing if they cannot be had quickly.

    *frames* pays for them; the deadline is that of *values*.
    """
    # Made exact: it is going to be hashed.
    file = str.__str__(step.tb_frame.f_code.co_filename)
    try:
        lines = _lines(file, step, values.deadline)
        window, cost = _window(file, step.tb_lineno, id(lines)) if lines else ((), 0)
    except Exception:  # a loader of somebody's own, or a file that is no text
        return ()
    if cost > frames.characters:
        return ()
    frames.characters -= cost
    return window


@lru_cache(maxsize=MAX_CACHED)
def _window(file: str, line: int, version: int) -> tuple[Lines, int]:
    """Return the lines around *line*, and the characters of JSON in them.

    *version* is new when `linecache` has read the file again.
    """
    first = max(line - 1 - CONTEXT_LINES, 0)
    lines = linecache.getlines(file)[first : line + CONTEXT_LINES]
    texts = [plain(text.rstrip("\n"), MAX_LINE) for text in lines]
    return tuple(enumerate(texts, first + 1)), sum(map(len, map(encode_basestring_ascii, texts)))


def _lines(file: str, step: TracebackType, deadline: float) -> list[str]:
    """Return the lines of *file*, as long as it is quick to read.

    What `linecache` has is not checked against the disk: these are the lines that ran.
    """
    entry = linecache.cache.get(file, ())
    if len(entry) > 1:
        return entry[2]
    # A loader may be noted there, and no lines yet.
    if perf_counter() > deadline:
        return []
    try:
        status = os.stat(file)  # noqa: PTH116 - `pathlib` is slow to import, and unused else
    except (OSError, ValueError):
        if not _note_loader(file, step.tb_frame.f_globals):
            return []
    else:
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SOURCE_SIZE:
            return []
    return linecache.getlines(file)


def _note_loader(file: str, namespace: dict[str, Any]) -> bool:
    """Tell `linecache` the loader of an imported module: its source may be in an archive."""
    spec = dict.get(namespace, "__spec__")
    if type(spec) is not ModuleSpec or type(spec.name) is not str:
        return False
    module = {"__name__": spec.name, "__spec__": spec, "__loader__": spec.loader}
    return linecache.lazycache(file, module)
