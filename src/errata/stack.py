"""A traceback as frames: bounded, with recursion folded, and without a live object in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from inspect import CO_OPTIMIZED
from itertools import islice
from json.encoder import encode_basestring_ascii
from types import (
    BuiltinFunctionType,
    CodeType,
    FrameType,
    FunctionType,
    ModuleType,
    TracebackType,
)
from typing import Any, Final, NamedTuple, TypeAlias, cast

from errata.anatomy import MAX_NAME, plain, plain_name
from errata.budget import Budget
from errata.describe import describe_names
from errata.report import Description, Frame
from errata.source import draw_source


MAX_FRAMES: Final = 100
"""Frames of one traceback."""
HEAD_SHARE: Final = 0.3
"""The outermost among the frames that are kept: the error is at the other end."""
MAX_CYCLE: Final = 8
"""Calls that go round in turn and are still seen to be one recursion."""
MAX_LOCALS: Final = 30
MAX_GLOBALS: Final = 500
"""Names of a module that are searched for variables."""
MAX_FILE_NAME: Final = 400
MAX_INSTRUCTIONS: Final = 10_000
"""Positions of a function's code that are passed over to find one: some 0.5 ms."""
FRAME_CHARACTERS: Final = 220_000
"""Characters of JSON that the frames of one capture fill, apart from their locals."""
FRAME_COST: Final = 300
"""Characters of JSON around one frame: its keys and numbers."""
MAX_CACHED: Final = 1_024
"""Places in the code of which something is remembered: some 200 KB, and their code objects."""
INNERMOST_NODES: Final = 240
FRAME_NODES: Final = 60
"""Elements and attributes that the locals of the innermost frame show, and those of another:
a body or a scope in full where it failed, an outline elsewhere."""

_Columns: TypeAlias = tuple[int, int, int, int]

_STDLIB: Final = os.__file__.rpartition(os.sep)[0] + os.sep
_OWN: Final = __file__.rpartition(os.sep)[0] + os.sep
_DEMO: Final = f"{_OWN}demo{os.sep}"
_DEMO_MODULES: Final = "errata.demo."
_PACKAGES: Final = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_LOCALS_VIEW: Final[type] = type(cast("Any", (_ for _ in ())).gi_frame.f_locals)
"""The type of `f_locals` in a function: a view since Python 3.13 (PEP 667), `dict` before."""


def draw_frames(
    traceback: TracebackType | None, values: Budget, frames: Budget, limit: int = MAX_FRAMES
) -> tuple[Frame, ...]:
    """Draw at most *limit* frames, outermost first.

    *values* pays for the locals, *frames* for the rest. Both are spent from the innermost
    frame outwards, so that only the outer ones of a deep stack starve.
    """
    steps = _walk(traceback)
    repeated = _fold(steps)
    shown = list(repeated)
    head = int(limit * HEAD_SHARE)
    tail = len(shown) - limit + head
    drawn: list[Frame] = []
    skipped = 0
    for position in range(len(shown) - 1, -1, -1):
        if head <= position < tail or frames.characters <= 0:
            skipped += 1
            continue
        if skipped:
            drawn.append(_gap(skipped))
            skipped = 0
        step = steps[shown[position]]
        nodes = FRAME_NODES if drawn else INNERMOST_NODES
        frame = _draw_frame(step, repeated[shown[position]], values, frames, nodes)
        if frame is not None:
            drawn.append(frame)
    if skipped:
        drawn.append(_gap(skipped))
    if steps:
        _forget_locals(steps[0].tb_frame)
    return tuple(reversed(drawn))


def _gap(frames: int) -> Frame:
    return Frame(file="", function="", module="", line=0, repeated=frames)


def _walk(traceback: TracebackType | None) -> list[TracebackType]:
    """Return the steps of *traceback* without our own middleware's in front."""
    steps: list[TracebackType] = []
    while traceback is not None:
        if not steps and _is_ours(traceback) and traceback.tb_next is not None:
            traceback = traceback.tb_next
            continue
        steps.append(traceback)
        traceback = traceback.tb_next
    return steps


def _is_ours(step: TracebackType) -> bool:
    name = dict.get(step.tb_frame.f_globals, "__name__")
    return type(name) is str and name.startswith("errata.") and not name.startswith(_DEMO_MODULES)


def _fold(steps: list[TracebackType]) -> dict[int, int]:
    """Fold what recursion repeats: a cycle of at most `MAX_CYCLE` places, again and again.

    Returns the indices of the steps to show, each with the passes that are folded into it.
    Integers only, where there may be many: the garbage collector does not visit them.
    """
    codes = [id(step.tb_frame.f_code) for step in steps]
    if len(set(codes)) == len(codes):
        return dict.fromkeys(range(len(steps)), 0)
    keys = [code << 32 | (step.tb_lineno or 0) for code, step in zip(codes, steps, strict=True)]
    again = _next_equal(keys)
    repeated: dict[int, int] = {}
    index = 0
    while index < len(keys):
        length, passes = 1, 1
        if again[index] - index <= MAX_CYCLE:
            length, passes = _longest_cycle(keys, again, index)
        for folded in range(index, index + length):
            repeated[folded] = passes - 1
        index += length * passes
    return repeated


def _next_equal(keys: list[int]) -> list[int]:
    """Return for each of *keys* the index where it comes next; past the end if it does not."""
    again = [2 * len(keys)] * len(keys)
    last: dict[int, int] = {}
    for index in range(len(keys) - 1, -1, -1):
        again[index] = last.get(keys[index], again[index])
        last[keys[index]] = index
    return again


def _longest_cycle(keys: list[int], again: list[int], start: int) -> tuple[int, int]:
    """Return length and passes of the cycle at *start* that covers most; (1, 1) if none does."""
    best = (1, 1)
    second = again[start]
    while second < len(keys) and second - start <= MAX_CYCLE:
        length = second - start
        cycle = keys[start:second]
        end = second
        while keys[end : end + length] == cycle:
            end += length
        if end > second and end - start > best[0] * best[1]:
            best = (length, (end - start) // length)
        if len(keys) - end < length:  # it goes on to the end
            break
        second = again[second]
    return best


def _draw_frame(
    step: TracebackType, repeated: int, values: Budget, frames: Budget, nodes: int
) -> Frame | None:
    """Draw one frame; None if it asks to be hidden by a local `__traceback_hide__`."""
    frame = step.tb_frame
    variables = _variables(frame)
    hide = variables.get("__traceback_hide__")
    if (type(hide) is bool or type(hide) is int) and hide:
        return None
    spot = _spot(_Code(frame.f_code), step.tb_lasti)
    frames.characters -= spot.cost
    return Frame(
        file=spot.file,
        function=spot.function,
        module=frames.text(plain_name(dict.get(frame.f_globals, "__name__")), MAX_NAME),
        line=step.tb_lineno or 0,
        columns=spot.columns,
        source=draw_source(step, values, frames),
        locals=_locals(variables, frame.f_code, values, nodes),
        in_app=spot.in_app,
        repeated=repeated,
    )


# Variables.


def _variables(frame: FrameType) -> Mapping[str, Any]:
    """Return the namespace of a frame; none where it is of somebody's own making.

    A metaclass may have made that of a class body, and its methods would run.
    """
    names = frame.f_locals
    known = type(names) is dict or type(names) is _LOCALS_VIEW
    return names if known else {}


def _forget_locals(frame: FrameType) -> None:
    """Undo what `f_locals` does to a function that still runs: it is the one that caught.

    Before Python 3.13 (PEP 667) the frame keeps the dictionary, and with it the exception,
    which holds the frame. Who has called `locals()` there has the same dictionary, and keeps it.
    """
    if frame.f_code.co_flags & CO_OPTIMIZED and _LOCALS_VIEW is dict:
        names = frame.f_locals
        if sys.getrefcount(names) <= 3:  # the frame, the variable, the argument
            names.clear()


def _locals(
    variables: Mapping[str, Any], code: CodeType, values: Budget, nodes: int
) -> dict[str, Description]:
    if values.characters <= 0:
        return {}
    # Taken in one step: another thread may add to the names of a module.
    pairs = list(islice(variables.items(), MAX_GLOBALS))
    if not code.co_flags & CO_OPTIMIZED:  # no function
        pairs = [pair for pair in pairs if not _is_definition(pair[1])]
    return describe_names(pairs, values, limit=MAX_LOCALS, nodes=nodes)


def _is_definition(value: object) -> bool:
    """Tell whether *value* is what a module is full of, and no variable."""
    return issubclass(type(value), (type, ModuleType, FunctionType, BuiltinFunctionType))


# Places in the code.


class _Code:
    """A code object as a key: its own hash is made of its constants, which may be anybody's."""

    __slots__ = ("code",)

    def __init__(self, code: CodeType) -> None:
        self.code = code

    def __hash__(self) -> int:
        return id(self.code)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Code) and self.code is other.code


class _Spot(NamedTuple):
    """What is always the same of a frame that stands at one instruction of one function."""

    file: str
    function: str
    in_app: bool
    columns: _Columns | None
    cost: int
    """Characters of JSON."""


@lru_cache(maxsize=MAX_CACHED)
def _spot(key: _Code, instruction: int) -> _Spot:
    # Cached for the columns: half of what `traceback.format_exception` takes goes into them.
    code = key.code
    file = plain(code.co_filename, MAX_FILE_NAME) or "?"  # nothing would mean a gap
    function = plain_name(code.co_qualname)
    cost = FRAME_COST + len(encode_basestring_ascii(file + function))
    return _Spot(file, function, _is_app(file), _columns(code, instruction // 2), cost)


def _is_app(file: str) -> bool:
    """Tell whether code of *file* is the app's: no package's, not the standard library's."""
    if file.startswith("<frozen ") or any(part in file for part in _PACKAGES):
        return False
    return file.startswith(_DEMO) or not file.startswith((_STDLIB, _OWN))


def _columns(code: CodeType, index: int) -> _Columns | None:
    """Return first line, last line, first column, end column (PEP 657), if all are known."""
    if not 0 <= index <= MAX_INSTRUCTIONS:
        return None
    first, last, start, end = next(islice(code.co_positions(), index, None), (None,) * 4)
    if first is None or last is None or start is None or end is None:
        return None
    return first, last, start, end
