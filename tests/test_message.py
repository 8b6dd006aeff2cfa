"""The message of an exception, whatever its `__str__` does."""

from __future__ import annotations

import contextvars
import decimal
import errno
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from errata.budget import Budget
from errata.message import MAX_READERS, Messages
from tests.hostile import PROPERTIES, TRAPS, Stopwatch, hostile, raised


CALLER: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="nobody")


def read(exc: BaseException) -> str:
    """Return the message of *exc*."""
    return Messages(Budget()).read(exc)


def with_str(method: Callable[[Any], object]) -> BaseException:
    """Return an exception whose `__str__` is *method*."""
    error: BaseException = type("Odd", (ValueError,), {"__str__": method})("why")
    return error


@pytest.fixture
def readers() -> Iterator[Callable[[], list[threading.Thread]]]:
    """The threads that are in a `__str__`; none is left behind."""

    def find() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "errata-message"]

    yield find
    for thread in find():
        thread.join(10)
    assert not find()


def _decode() -> object:
    return b"\xff".decode()


def _encode() -> object:
    return "ö".encode("ascii")


def _open() -> object:
    return open("/does/not/exist")  # noqa: PTH123


def _attribute() -> object:
    return object().nothing  # type: ignore[attr-defined]


def _name() -> object:
    return nothing_of_this_name  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    "make",
    [
        ValueError,
        lambda: ValueError("why"),
        lambda: ValueError("why", 1, None, 2.5, True, b"x", (1, [2]), {"a": {3}}, frozenset(), int),
        lambda: ValueError(decimal.Decimal("1.5")),
        lambda: ValueError(ValueError("inner")),
        lambda: KeyError("key"),
        lambda: KeyError(("a", 1)),
        lambda: OSError(errno.ENOENT, "No such file", "a", None, "b"),
        lambda: ImportError("no module", name="x"),
        lambda: SyntaxError("bad", ("file.py", 1, 2, "text")),
        lambda: ExceptionGroup("several", [ValueError("a"), ValueError("b")]),
        lambda: StopIteration(1),
        lambda: SystemExit(2),
        lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
        lambda: raised(_decode),
        lambda: raised(_encode),
        lambda: raised(_open),
        lambda: raised(_attribute),
        lambda: raised(_name),
        lambda: with_str(lambda self: "my own words"),
    ],
    ids=range(20),
)
def test_the_message_is_what_str_returns(make: Callable[[], BaseException]) -> None:
    """For every well-behaved exception, built-in or not."""
    exc = make()
    assert read(exc) == str(exc)


def test_no_thread_is_needed_for_plain_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A built-in `__str__` over built-in values is called directly."""
    monkeypatch.setattr(threading.Thread, "start", None)
    for exc in (ValueError("a", 1), KeyError("a"), raised(_open), raised(_attribute)):
        assert read(exc) == str(exc)
    assert read(ExceptionGroup("several", [hostile(ValueError)])) == "several (1 sub-exception)"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, ValueError])
def test_a_str_that_raises_is_named(error: type[BaseException]) -> None:
    """Even `SystemExit` in a `__str__` is no more than a broken `__str__`."""

    def fail(self: object) -> str:
        raise error

    name = f"{__name__}.Odd"
    assert read(with_str(fail)) == f"<unprintable {name}: __str__ raised {error.__name__}>"


def test_a_str_of_a_wrong_type_is_named() -> None:
    """`__str__` may return anything; only text is a message."""
    assert "raised TypeError" in read(with_str(lambda self: 1))


def test_a_subclass_of_str_becomes_text() -> None:
    """What `__str__` returns keeps nothing of its class, and none of its code runs."""
    message = read(with_str(lambda self: hostile(str, "words")))
    assert message == "words"
    assert type(message) is str


def test_a_str_that_waits_forever_is_left_behind(
    readers: Callable[[], list[threading.Thread]],
) -> None:
    """A `__str__` that hangs costs a tenth of a second, and only the first few of them a thread."""
    never = threading.Event()
    exc = with_str(lambda self: str(never.wait()))
    with Stopwatch():
        messages = [read(exc) for _ in range(MAX_READERS + 3)]
    try:
        assert all("took longer than 0.1 s" in message for message in messages[:MAX_READERS])
        assert all("hang" in message for message in messages[MAX_READERS:])
        assert len(readers()) == MAX_READERS
    finally:
        never.set()


def test_a_str_that_loops_is_stopped(readers: Callable[[], list[threading.Thread]]) -> None:
    """An endless loop does not burn a core until the process ends."""

    def loop(self: object) -> str:
        while True:
            pass

    assert "took longer" in read(with_str(loop))
    for thread in readers():
        thread.join(10)
    assert not readers()


def test_the_patience_is_for_all_messages_together() -> None:
    """Many slow messages in one report together cost what one costs, and the locals no time."""
    never = threading.Event()
    budget = Budget()
    deadline = budget.deadline
    messages = Messages(budget)
    with Stopwatch():
        for _ in range(3):
            assert "took longer" in messages.read(with_str(lambda self: str(never.wait())))
    never.set()
    assert 0.1 <= budget.deadline - deadline < 0.5


def test_a_str_reads_the_context_of_the_request() -> None:
    """A lazy translation finds its language in the context variables, as anywhere in the app."""
    token = CALLER.set("ann")
    assert read(with_str(lambda self: CALLER.get())) == "ann"
    CALLER.reset(token)


def test_without_threads_there_is_a_placeholder(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the interpreter's end, or at the limit of the machine, no thread can be started."""

    def refuse(self: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert "no thread could be started" in read(with_str(lambda self: "words"))


def test_a_long_message_is_cut() -> None:
    """Of 20 MB head, tail and size are shown."""
    with Stopwatch():
        message = read(ValueError("head" + "x" * 20_000_000 + "tail"))
    assert message.startswith("headx")
    assert message.endswith("xtail")
    assert "(+19991816 characters)" in message
    assert len(message) < 9_000
    assert len(Messages(Budget()).read(ValueError("x" * 1_000), 100)) < 150


def test_huge_arguments_are_described() -> None:
    """What only C code prints cannot be interrupted: of large values there is a picture."""
    shared: list[object] = ["x"]
    for _ in range(100):
        shared = [shared] * 100
    with Stopwatch():
        assert json.loads(read(ValueError(1 << 3_000_000)))["type"] == "int"
        assert json.loads(read(ValueError(list(range(100_000)))))["size"] == 100_000
        assert json.loads(read(ValueError(shared, "why")))["items"][1] == "why"
        assert json.loads(read(KeyError(["x" * 200_000])))["items"][0]["size"] == 200_000
        assert json.loads(read(ValueError(hostile(list), {1: shared})))["type"] == "tuple"
        assert json.loads(read(OSError(5, shared)))["items"][0] == 5
    assert read(ValueError(list(range(100)))) == str(list(range(100)))


def test_arguments_of_somebodys_own_are_printed_under_guard() -> None:
    """The `__repr__` of an argument is as free to misbehave as a `__str__`."""
    never = threading.Event()
    waiting = type("Waiting", (), {"__repr__": lambda self: never.wait()})()
    with Stopwatch():
        assert "took longer" in read(ValueError("a", [waiting]))
    never.set()


def test_lone_surrogates_are_escaped() -> None:
    """Every message can be sent as UTF-8."""
    assert read(ValueError("a\ud800")) == "a\\ud800"


def test_a_hostile_exception_has_a_message() -> None:
    """Only `__str__` is called, and no other method or property."""
    traps = {name: trap for name, trap in TRAPS.items() if name != "__str__"}
    cls = type("Hostile", (ValueError,), {**traps, **PROPERTIES})
    assert read(ValueError.__new__(cls, "why")) == "why"


def test_attributes_that_a_builtin_prints_are_checked() -> None:
    """An `OSError` whose file name is an object of the app is not printed without guard."""
    assert "raised" in read(OSError(1, "why", hostile(object)))
    exc = SyntaxError("x")
    exc.msg = hostile(object)
    assert "raised" in read(exc)


# Notes.


def notes(exc: BaseException) -> list[str]:
    """Return the notes of *exc*."""
    return Messages(Budget()).notes(exc)


def test_notes_are_read() -> None:
    """Notes are shown in their order, cut and made plain text."""
    exc = ValueError()
    assert notes(exc) == []
    exc.add_note("one")
    exc.add_note("\ud800")
    exc.__notes__.append(hostile(str, "three"))
    exc.__notes__.append("x" * 20_000)
    first, second, third, long = notes(exc)
    assert (first, second, third) == ("one", "\\ud800", "three")
    assert type(third) is str
    assert len(long) < 9_000


@pytest.mark.parametrize("false", ["text", 5, None, {"a": 1}])
def test_false_notes_are_ignored(false: object) -> None:
    """`__notes__` may be anything; what is no text in a list or a tuple is no note."""
    exc = ValueError()
    exc.__notes__ = false  # type: ignore[assignment]
    assert notes(exc) == []
    exc.__notes__ = (false, "note")  # type: ignore[assignment]
    assert notes(exc)[-1] == "note"


def test_hostile_notes_do_not_run() -> None:
    """A list of somebody's own is not asked, nor is a property called `__notes__`."""
    exc = ValueError()
    exc.__notes__ = hostile(list)
    assert notes(exc) == []
    assert notes(hostile(ValueError, __notes__=PROPERTIES["path"])) == []


def test_many_notes_are_counted() -> None:
    """The first twenty are shown, and how many there are besides."""
    exc = ValueError()
    for number in range(25):
        exc.add_note(str(number))
    assert notes(exc)[-2:] == ["19", "(+5 notes)"]


def test_a_syntax_error_shows_its_text() -> None:
    """The line is often in no file, and the message does not have it."""
    exc = raised(lambda: compile("x = (1 +\n", "<dynamic>", "exec"))
    assert notes(exc) == ['File "<dynamic>", line 1: x = (1 +']
    assert notes(SyntaxError("without a place")) == []
