"""The message of an exception: the one place where code of the app may run, under guard.

`str(exc)` is called directly where only C code can run, and little of it: the `__str__` of
a built-in exception over small built-in values. If the values are large, they are described
instead: C code cannot be interrupted. Anything else gets a daemon thread and a little time,
so that a `__str__` that sleeps, loops or raises `SystemExit` costs a placeholder and no more.
"""

from __future__ import annotations

import contextvars
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from time import perf_counter
from typing import Any, Final, TypeAlias

from errata.anatomy import args_of, exception_dict, mro_of, namespace_of, plain, type_name
from errata.budget import Budget
from errata.describe import describe
from errata.readings import MAX_INT_BITS


MAX_MESSAGE: Final = 8_192
"""Characters of a message: more than the longest that a person reads."""
MAX_NOTES: Final = 20
PATIENCE: Final = 0.1
"""Seconds that all `__str__` methods of one capture may take together: the event loop waits."""
MAX_READERS: Final = 4
"""Threads in a `__str__` at once: if so many hang, the next message is withheld."""
MAX_PRINTED_ITEMS: Final = 1_000
MAX_PRINTED_TEXT: Final = 100_000
"""Elements and characters that `repr` may have to go through: some 200 microseconds."""

_Read: TypeAlias = Callable[[BaseException], Any]


class Messages:
    """Reads the messages of one capture; together they may take `PATIENCE` seconds."""

    __slots__ = ("_budget", "_patience")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._patience = PATIENCE

    def read(self, exc: BaseException, limit: int = MAX_MESSAGE) -> str:
        """Return `str(exc)`, cut to about *limit* characters, or a placeholder. Never raises."""
        try:
            text = _builtin_message(exc)
        except Exception as raised:
            text = _unprintable(exc, f"__str__ raised {type_name(type(raised))}")
        return self._budget.text(self._ask(exc) if text is None else text, limit)

    def notes(self, exc: BaseException, limit: int = MAX_MESSAGE) -> list[str]:
        """Return the notes (PEP 678), each cut to about *limit* characters; text only."""
        notes: Any = dict.get(exception_dict(exc), "__notes__")
        if type(notes) is not list and type(notes) is not tuple:
            notes = []
        kept = [note for note in notes[:MAX_NOTES] if issubclass(type(note), str)]
        if len(notes) > MAX_NOTES:
            kept.append(f"(+{len(notes) - MAX_NOTES} notes)")
        kept.extend(_syntax_note(exc))
        return [self._budget.text(note, limit) for note in kept]

    def _ask(self, exc: BaseException) -> str:
        """Call `str(exc)` in a thread, and wait no longer than patience lasts."""
        if sum(type(thread) is _Reader for thread in threading.enumerate()) >= MAX_READERS:
            return _unprintable(exc, f"{MAX_READERS} other __str__ methods hang")
        reader = _Reader(exc)
        started = perf_counter()
        try:
            reader.start()
            reader.join(max(self._patience, 0))
        except RuntimeError:  # no more threads, or the interpreter is shutting down
            return _unprintable(exc, "no thread could be started")
        waited = perf_counter() - started
        self._patience -= waited
        self._budget.deadline += waited  # it is not the values that took so long
        if reader.text is not None:
            return reader.text
        reader.stop()
        return _unprintable(exc, f"__str__ took longer than {PATIENCE:g} s")


class _Reader(threading.Thread):
    """Reads one message. The exception is forgotten as soon as its `__str__` returns."""

    def __init__(self, exc: BaseException) -> None:
        super().__init__(name="errata-message", daemon=True)
        self._subjects = [exc]
        self._context = contextvars.copy_context()
        self.text: str | None = None

    def run(self) -> None:
        """Call `__str__` in the context of the request, as the app would."""
        exc = self._subjects.pop()
        try:
            self.text = plain(self._context.run(str, exc), MAX_MESSAGE)
        except BaseException as raised:  # SystemExit too is only a broken `__str__` here
            self.text = _unprintable(exc, f"__str__ raised {type_name(type(raised))}")

    def stop(self) -> None:
        """Have the thread raise at its next bytecode: a loop must not burn a core for good."""
        with suppress(Exception):  # not every interpreter can do this
            import ctypes

            ident = ctypes.c_ulong(self.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))


def _unprintable(exc: BaseException, reason: str) -> str:
    return f"<unprintable {type_name(type(exc))}: {reason}>"


def _builtin_message(exc: BaseException) -> str | None:
    """Return the message if C code alone makes it; None if code of the app might run."""
    cls = next(cls for cls in mro_of(type(exc)) if "__str__" in namespace_of(cls))
    method = namespace_of(cls)["__str__"]
    args = args_of(exc)
    if method is _BASE_STR and len(args) == 1 and type(args[0]) is str:
        return args[0]  # the frequent case; of any length, because nothing is copied
    printed = _READS.get(id(method))
    if printed is None:
        return None
    room = _Room()
    for read in printed:
        room.take(read(exc))
    if room.characters < 0 or room.items < 0:
        shown = describe(args[0] if len(args) == 1 else args, Budget(characters=MAX_MESSAGE))
        return json.dumps(shown, ensure_ascii=False)
    if not room.only_builtin:
        return None
    text: str = method(exc)
    return text


class _Room:
    """How much `repr` may still go through, and whether only C code has printed it so far."""

    __slots__ = ("characters", "items", "only_builtin")

    def __init__(self) -> None:
        self.characters = MAX_PRINTED_TEXT
        self.items = MAX_PRINTED_ITEMS
        self.only_builtin = True

    def take(self, value: object) -> None:
        """Take the room that `repr(value)` needs."""
        pending = [value]
        while pending and self.items >= 0 and self.characters >= 0:
            item: Any = pending.pop()
            cls = type(item)
            self.items -= 1
            self.only_builtin = self.only_builtin and id(cls) in _PRINTED_BY_C
            # A subclass too may be printed by the method of its base.
            base = next((base for base in _SIZED if issubclass(cls, base)), None)
            if base is int:
                # Quadratic, where `sys.set_int_max_str_digits` allows it.
                self.characters -= int.bit_length(item) ** 2 // MAX_INT_BITS
            elif base in (str, bytes, bytearray):
                self.characters -= base.__len__(item)
            elif base is not None:
                pending += islice(base.__iter__(item), max(self.items, 0) + 1)
                if base is dict:
                    pending += islice(dict.values(item), max(self.items, 0) + 1)


def _syntax_note(exc: BaseException) -> Iterator[str]:
    """Yield where the code is that a `SyntaxError` is about: often in no file."""
    if issubclass(type(exc), SyntaxError):
        file, line, text = (
            SyntaxError.__dict__[name].__get__(exc) for name in ("filename", "lineno", "text")
        )
        if type(file) is str and type(line) is int and type(text) is str:
            yield f'File "{plain(file, 500)}", line {line}: {plain(text, 1_000).strip()}'


def _getter(cls: type, name: str) -> _Read:
    read: _Read = namespace_of(cls)[name].__get__
    return read


_SIZED: Final[tuple[Any, ...]] = (
    *(str, bytes, bytearray, int),
    *(list, tuple, dict, set, frozenset, deque),
)
# By `id()`: a metaclass may define `__hash__`.
_PRINTED_BY_C: Final = frozenset(map(id, (*_SIZED, bool, float, complex, type(None), type)))
_BASE_STR: Final = namespace_of(BaseException)["__str__"]

_OVER_ARGS: Final = (BaseException, KeyError, AttributeError, NameError, ImportError)

# What the `__str__` of each built-in exception prints.
_READS: Final[dict[int, tuple[_Read, ...]]] = {
    id(namespace_of(cls)["__str__"]): tuple(_getter(owner, name) for owner, name in printed)
    for cls, printed in (
        *((cls, ((BaseException, "args"),)) for cls in _OVER_ARGS),
        (BaseExceptionGroup, ((BaseExceptionGroup, "message"),)),
        (SyntaxError, ((SyntaxError, "msg"),)),
        (
            OSError,
            (
                (BaseException, "args"),
                (OSError, "errno"),
                (OSError, "strerror"),
                (OSError, "filename"),
                (OSError, "filename2"),
            ),
        ),
    )
}
