"""An error twenty functions deep, in a file on disk, as it comes in production."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Final, TypeAlias


DEPTH: Final = 20

Values: TypeAlias = tuple[Any, Any]
"""The two containers among the locals of one frame."""

_STEP: Final = '''
def step_{number}(customer: str, attempt: int) -> str:
    """Take the order one step further."""
    first, second = VALUES[{number}]
    price = 19.5 + {number}
    express = attempt > 1
    if price < 0:
        return customer
    reference = customer + "/{number}"
    return {call}
'''
_LAST: Final = 'fail("no price for " + reference)'
_START: Final = """\
VALUES = ()


def fail(message):
    raise LookupError(message)
"""


class Raiser:
    """Raises, from `DEPTH` different functions within each other, a new exception at each call."""

    def __init__(self, folder: str, name: str, values: Sequence[Values]) -> None:
        path = Path(folder, f"{name}.py")
        path.write_text(_source(), encoding="utf-8")
        spec = spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise RuntimeError(f"{path} cannot be imported")
        module: Any = module_from_spec(spec)
        spec.loader.exec_module(module)
        module.VALUES = values
        sys.modules[name] = module
        self._first: Callable[[str, int], str] = module.step_0

    def __call__(self) -> Exception:
        """Return an exception whose traceback has `DEPTH` frames, and none of the caller's."""
        try:
            self._first("customer 42", 1)
        except LookupError as exc:
            traceback = exc.__traceback__
            return exc.with_traceback(traceback.tb_next if traceback is not None else None)
        raise RuntimeError("nothing was raised")


def lists(size: int) -> list[Values]:
    """Return two lists of *size* for each frame, of numbers and of short texts."""
    return [
        (list(range(start, start + size)), [f"item {number}" for number in range(size)])
        for start in range(DEPTH)
    ]


def trees(depth: int = 5, keys: int = 5) -> list[Values]:
    """Return for each frame a dictionary of dictionaries, *depth* deep, and a list of 10."""
    return [(_tree(depth, keys), list(range(10))) for _ in range(DEPTH)]


def _tree(depth: int, keys: int) -> dict[str, Any]:
    return {
        f"key_{number}": _tree(depth - 1, keys) if depth > 1 else f"value {number}"
        for number in range(keys)
    }


def _source() -> str:
    # The function that raises is one of the frames.
    steps = [
        _STEP.format(
            number=number,
            call=_LAST if number == DEPTH - 2 else f"step_{number + 1}(customer, attempt)",
        )
        for number in range(DEPTH - 1)
    ]
    return "\n".join([_START, *steps])
