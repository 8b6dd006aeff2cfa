"""Objects that fail the test when any of their code runs, and errors that are no better."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from errata.report import Report


class UserCodeRan(BaseException):
    """No `except Exception` stops it: it reaches the test."""


def _trap(name: str) -> Callable[..., Any]:
    def trap(*args: object, **kwargs: object) -> Any:
        raise UserCodeRan(name)

    return trap


_METHODS = (
    *("__repr__", "__str__", "__format__", "__bytes__", "__dir__", "__sizeof__", "__reduce_ex__"),
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__bool__"),
    *("__len__", "__iter__", "__getitem__", "__contains__", "__next__", "__call__", "__missing__"),
    *("__int__", "__index__", "__float__", "__complex__", "__fspath__", "__length_hint__"),
    *("__getattribute__", "__getattr__", "__get__", "__copy__", "__deepcopy__", "__await__"),
    *("keys", "items", "values", "copy", "get", "isoformat", "encode", "utcoffset"),
)
TRAPS: dict[str, Any] = {name: _trap(name) for name in _METHODS}
"""Every method that somebody might call to look at an object."""

PROPERTIES: dict[str, Any] = {
    name: property(_trap(name)) for name in ("__class__", "__dict__", "path", "args")
}

HostileMeta: Any = type(
    "HostileMeta",
    (type,),
    TRAPS
    | {name: property(_trap(name)) for name in ("__module__", "__name__", "__mro__", "__dict__")}
    | {name: _trap(name) for name in ("__instancecheck__", "__subclasscheck__")},
)
"""The class of a class of which nothing may be asked either."""


def hostile(base: type, *args: object, **namespace: object) -> Any:
    """Return an instance, made of *args*, of a subclass of *base* that is all traps."""
    cls: Any = type(base)("Hostile", (base,), {**TRAPS, **namespace})
    return base.__new__(cls, *args) if base is not deque else _filled_deque(cls, args)


def _filled_deque(cls: Any, args: tuple[object, ...]) -> Any:
    value = deque.__new__(cls)
    deque.__init__(value, *args)
    return value


def raised(function: Callable[[], object]) -> BaseException:
    """Return what *function* raises, with its traceback from the function on."""
    try:
        function()
    except BaseException as exc:
        steps = exc.__traceback__
        return exc.with_traceback(steps and steps.tb_next)
    raise AssertionError("nothing was raised")


def assert_sound(report: Report) -> str:
    """Check what holds for every report, and return it as JSON."""
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert Report.from_dict(json.loads(text)) == report
    assert len(text) < 1_000_000
    json.dumps(report.to_dict(), ensure_ascii=False).encode()  # no lone surrogate
    return text


class Stopwatch:
    """Fails where something hangs; how fast it is in detail is for the benchmarks."""

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        assert time.perf_counter() - self._started < 2
