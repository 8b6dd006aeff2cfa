"""Pictures of values: faithful for what is built in, safe for everything else."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import threading
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.describe import Budget, describe, describe_names
from tests.hostile import PROPERTIES, TRAPS, HostileMeta, Stopwatch, UserCodeRan, hostile


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Login(NamedTuple):
    user: str
    password: str


class Plain:
    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)

    def greet(self) -> None: ...


class Slotted:
    __slots__ = ("__private", "empty", "shown")

    def __init__(self) -> None:
        self.shown = 1
        self.__private = 2


class SlottedChild(Slotted):
    def __init__(self) -> None:
        super().__init__()
        self.own = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int


class ApiSecret:
    def __init__(self) -> None:
        self._value = "not for you"


class ApiKey(ApiSecret):
    pass


def picture(value: object, **limits: Any) -> Any:
    """Return the picture of *value*, which has been through JSON."""
    drawn = describe(value, Budget(**limits))
    assert json.loads(json.dumps(drawn, allow_nan=False)) == drawn
    return drawn


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, -(2**63), 2**63 - 1, 1.5, -0.0, "", "text", "a" * 1000, "größer 😀"],
)
def test_simple_values_stand_for_themselves(value: object) -> None:
    """What JSON can say exactly is not wrapped."""
    assert picture(value) == value
    assert type(picture(value)) is type(value)


MOMENT = dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.UTC)
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
LOCAL = MOMENT.astimezone(BERLIN)
IDENTITY = "00000000-0000-0001-0000-0000000000ff"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**63, {"type": "int", "text": "9223372036854775808"}),
        (float("nan"), {"type": "float", "text": "nan"}),
        (float("-inf"), {"type": "float", "text": "-inf"}),
        (1 + 2j, {"type": "complex", "text": "(1+2j)"}),
        (b"\x00a", {"type": "bytes", "size": 2, "text": "b'\\x00a'"}),
        (bytearray(b"a"), {"type": "bytearray", "size": 1, "text": "b'a'"}),
        (memoryview(b"abc"), {"type": "memoryview", "size": 3, "text": "b'abc'"}),
        (memoryview(b"abcd").cast("I"), {"type": "memoryview", "size": 4}),
        ([], {"type": "list", "size": 0}),
        ([1, []], {"type": "list", "size": 2, "items": [1, {"type": "list", "size": 0}]}),
        ((1, "a"), {"type": "tuple", "size": 2, "items": [1, "a"]}),
        ({3}, {"type": "set", "size": 1, "items": [3]}),
        (frozenset({3}), {"type": "frozenset", "size": 1, "items": [3]}),
        (collections.deque([1]), {"type": "collections.deque", "size": 1, "items": [1]}),
        ({}, {"type": "dict", "size": 0}),
        ({"a": 1, 2: None}, {"type": "dict", "size": 2, "entries": [["a", 1], [2, None]]}),
        (range(0, 9, 2), {"type": "range", "text": "range(0, 9, 2)"}),
        (range(10**5000), {"type": "range"}),
        (Colour.RED, {"type": f"{__name__}.Colour", "text": "RED"}),
        (Level.HIGH, {"type": f"{__name__}.Level", "text": "HIGH"}),
        (decimal.Decimal("1.50"), {"type": "decimal.Decimal", "text": "1.50"}),
        (decimal.Decimal("1" * 10_000), {"type": "decimal.Decimal"}),
        (uuid.UUID(IDENTITY), {"type": "uuid.UUID", "text": IDENTITY}),
        (MOMENT, {"type": "datetime.datetime", "text": "2024-02-29 12:30:00+00:00"}),
        (LOCAL, {"type": "datetime.datetime", "text": "2024-02-29 13:30:00+01:00"}),
        (MOMENT.time(), {"type": "datetime.time", "text": "12:30:00"}),
        (MOMENT.date(), {"type": "datetime.date", "text": "2024-02-29"}),
        (dt.timedelta(days=1), {"type": "datetime.timedelta", "text": "1 day, 0:00:00"}),
        (dt.UTC, {"type": "datetime.timezone", "text": "UTC"}),
        (BERLIN, {"type": "zoneinfo.ZoneInfo", "text": "Europe/Berlin"}),
        (len, {"type": "builtin_function_or_method", "text": "len"}),
        (json.dumps, {"type": "function", "text": "json.dumps"}),
        (Plain().greet, {"type": "method", "text": f"{__name__}.Plain.greet"}),
        (Plain, {"type": "type", "text": f"{__name__}.Plain"}),
        (int, {"type": "type", "text": "int"}),
        (json, {"type": "module", "text": "json"}),
    ],
)  # fmt: skip
def test_builtin_values_are_shown_by_value(value: object, expected: object) -> None:
    """Built-in types and the standard library's everyday values are readable."""
    assert picture(value) == expected


def test_named_tuples_show_their_names() -> None:
    """Whoever redacts can tell the password from the user."""
    assert picture(Login("ann", "pw")) == {
        "type": f"{__name__}.Login",
        "attributes": {"user": "ann", "password": "pw"},
    }


def test_paths_read_as_paths() -> None:
    """A path is shown as it is written."""
    assert picture(pathlib.PurePosixPath("/a/b"))["text"] == "/a/b"
    assert picture(pathlib.PureWindowsPath("c:/a"))["text"] == "c:\\a"
    assert "text" not in picture(pathlib.PurePosixPath("a" * 10_000))


def test_long_text_keeps_head_and_tail() -> None:
    """Of a long text both ends and the full size are shown."""
    drawn = picture("head" + "-" * 10_000 + "tail")
    assert drawn["type"] == "str"
    assert drawn["size"] == 10_008
    assert drawn["text"].startswith("head-")
    assert drawn["text"].endswith("-tail")
    assert "(+9008 characters)" in drawn["text"]


def test_lone_surrogates_become_escapes() -> None:
    """No text leaves that cannot be sent as UTF-8."""
    assert picture("a\ud800") == "a\\ud800"
    assert picture({"\udfff": Plain(**{"\ud800": "\ud801"})})["entries"][0][0] == "\\udfff"
    assert "\\ud800" in picture("\ud800" * 5_000)["text"]


def test_huge_integers_are_abridged() -> None:
    """An integer of a million digits takes no time and no space."""
    with Stopwatch():
        number = 1 << 3_321_928
        assert picture(number) == {"type": "int", "text": "0x8000000000000000… (3321929 bits)"}
        assert picture(-number)["text"].startswith("-0x8")


def test_objects_show_their_own_plain_attributes() -> None:
    """Instance dictionaries and slots are shown, private ones under their real names."""
    value = Plain(a=1, b=[2], __dunder__=3)
    assert picture(value) == {
        "type": f"{__name__}.Plain",
        "address": hex(id(value)),
        "attributes": {"a": 1, "b": {"type": "list", "size": 1, "items": [2]}},
    }
    assert picture(Point(1, 2))["attributes"] == {"x": 1, "y": 2}
    assert picture(SlottedChild())["attributes"] == {"shown": 1, "_Slotted__private": 2, "own": 3}
    assert "attributes" not in picture(object())


def test_exceptions_show_their_arguments() -> None:
    """An exception among the values is described, and its `__str__` not called."""
    error = hostile(ValueError, "why")
    error_arguments = picture(error)["attributes"]["args"]
    assert error_arguments == {"type": "tuple", "size": 1, "items": ["why"]}


@pytest.mark.parametrize("secret", [ApiSecret(), ApiKey()])
def test_classes_that_hide_a_secret_are_not_opened(secret: object) -> None:
    """A `SecretStr` of any library keeps what it hides, and so do its subclasses."""
    assert "not for you" not in json.dumps(picture(secret))


@pytest.mark.parametrize(
    "value",
    [
        (character for character in ""),
        threading.Lock(),
        reversed([1]),
        {"a": 1}.items(),
        hostile.__code__,
    ],
)
def test_machinery_is_type_and_address(value: object) -> None:
    """What has a state of its own is not touched."""
    assert picture(value).keys() == {"type", "address"}


# Hostile values.


def _with_dict(cls: Any) -> Any:
    value = object.__new__(cls)
    object.__setattr__(value, "shown", 1)
    return value


def _hostile_class(metaclass: Any = type, **namespace: Any) -> Any:
    return type.__new__(metaclass, "Hostile", (), {**TRAPS, **namespace})


def test_no_code_of_an_object_runs() -> None:
    """An object whose every method is a trap is shown with its attributes."""
    assert picture(_with_dict(_hostile_class()))["attributes"] == {"shown": 1}


def test_no_code_of_a_metaclass_runs() -> None:
    """Neither the class of a hostile metaclass nor its instance asks the metaclass."""
    cls = _hostile_class(HostileMeta)
    assert picture(_with_dict(cls))["attributes"] == {"shown": 1}
    assert picture(cls)["text"].endswith(".Hostile")
    assert picture([cls, {1: cls}])["size"] == 2


def test_a_property_over_the_dictionary_is_not_read() -> None:
    """Where a class hides its instance dictionary, only type and address are shown."""
    value: Any = object.__new__(_hostile_class(**PROPERTIES))
    assert picture(value).keys() == {"type", "address"}


def test_a_hidden_dictionary_of_a_base_is_found() -> None:
    """A property over an inherited dictionary hides nothing from us."""
    cls = type("Child", (Plain,), {"__dict__": PROPERTIES["__dict__"]})
    value: Any = Plain.__new__(cls)
    object.__setattr__(value, "shown", 1)
    assert picture(value)["attributes"] == {"shown": 1}


@pytest.mark.parametrize(
    ("base", "args", "shown"),
    [
        (dict, (), {"size": 0}),
        (list, (), {"size": 0}),
        (set, (), {"size": 0}),
        (tuple, ((1, 2),), {"size": 2, "items": [1, 2]}),
        (frozenset, ((1,),), {"size": 1, "items": [1]}),
        (collections.deque, ((1,),), {"size": 1, "items": [1]}),
        (collections.OrderedDict, (), {"size": 0}),
        (str, ("abc",), {"size": 3, "text": "abc"}),
        (bytes, (b"abc",), {"size": 3, "text": "b'abc'"}),
        (bytearray, (), {"size": 0, "text": "b''"}),
        (int, (5,), {"text": "5"}),
        (int, (2**5000,), {"text": f"{2**63:#x}… (5001 bits)"}),
        (float, (1.5,), {"text": "1.5"}),
        (complex, (1,), {"text": "(1+0j)"}),
    ],
)
def test_no_override_of_a_builtin_runs(base: type, args: Any, shown: dict[str, object]) -> None:
    """A subclass of a built-in is read by the built-in's own methods, and named by its type."""
    drawn = picture(hostile(base, *args))
    assert drawn.pop("type").endswith(".Hostile")
    assert drawn == shown


HELPED: dict[str, Callable[[], object]] = {
    "datetime": lambda: MOMENT.replace(tzinfo=hostile(dt.tzinfo)),
    "time": lambda: dt.time(tzinfo=hostile(dt.tzinfo)),
    "decimal": lambda: hostile(decimal.Decimal, "1"),
    "child of datetime": lambda: hostile(dt.datetime, 2024, 1, 1),
    "module": lambda: hostile(type(json)),
    "thread local": lambda: hostile(threading.local),
    "defaultdict": lambda: hostile(collections.defaultdict),
}


@pytest.mark.parametrize("make", HELPED.values(), ids=HELPED)
def test_no_helper_of_a_value_runs(make: Callable[[], object]) -> None:
    """A time zone or a subclass of a known class is never called."""
    assert picture(make())["type"]


def test_a_name_alone_makes_no_known_class() -> None:
    """A class that only calls itself `decimal.Decimal` is not trusted like it."""
    false = type("Decimal", (Plain,), {"__module__": "decimal", **TRAPS})
    assert picture(object.__new__(false)).keys() == {"type", "address"}


def test_parts_put_there_by_force_are_not_run() -> None:
    """A known class may hold anything, and then it is only its type."""
    identity = uuid.uuid4()
    object.__setattr__(identity, "int", hostile(int, 1))
    path = pathlib.PurePosixPath("a")
    parts = "_raw_paths" if hasattr(path, "_raw_paths") else "_parts"
    object.__setattr__(path, parts, [hostile(str, "a")])
    assert picture(identity) == {"type": "uuid.UUID"}
    assert picture(path).keys() == {"type"}


def test_odd_names_of_types_are_survived() -> None:
    """A class without a module, or with one that is no text, still has a name."""
    nameless = type("Nameless", (), {"__module__": hostile(object)})
    assert picture(nameless())["type"] == "?.Nameless"
    namespace: dict[str, Any] = {}
    exec("Homeless = type('Homeless', (), {})", namespace)
    assert picture(namespace["Homeless"]())["type"].endswith("Homeless")
    long = type("L" * 1_000_000, (), {"__qualname__": hostile(str, "\ud800" * 1_000_000)})
    assert len(picture(long())["type"]) < 2_000


def test_named_tuples_with_false_fields_are_tuples() -> None:
    """`_fields` that are not the names of the elements are not believed."""
    wrong = type("Wrong", (tuple,), {"_fields": ("only",)})
    assert picture(wrong((1, 2)))["items"] == [1, 2]
    hostile_fields = type("Wrong", (tuple,), {"_fields": hostile(tuple, ("a", "b"))})
    assert picture(hostile_fields((1, 2)))["items"] == [1, 2]


def test_released_memory_is_only_its_type() -> None:
    """A C type that raises is no reason to raise."""
    view = memoryview(b"abc")
    view.release()
    assert picture(view) == {"type": "memoryview"}


# Bounds.


def test_wide_and_long_values_are_cut() -> None:
    """The first elements are shown, with the full size."""
    assert picture(list(range(10_000)))["items"] == list(range(10))
    assert picture(list(range(10_000)))["size"] == 10_000
    wide = picture({number: number for number in range(1_000)})
    assert len(wide["entries"]) == 20
    assert len(picture(Plain(**{f"a{n}": n for n in range(1_000)}))["attributes"]) == 20


def test_deep_values_are_cut() -> None:
    """Below the fourth container only type and size are shown, and less on demand."""
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    assert json.dumps(picture(deep)).count('"items"') == 4
    assert describe(deep, Budget(), depth=0) == {"type": "list", "size": 1}
    assert json.dumps(describe(deep, Budget(), depth=2)).count('"items"') == 2


def test_cycles_end() -> None:
    """What holds itself is shown once."""
    loop: list[object] = [1]
    loop.append(loop)
    assert picture(loop)["items"] == [1, {"type": "list", "text": "<cycle>"}]
    person = Plain()
    person.friend = person  # type: ignore[attr-defined]
    assert picture(person)["attributes"]["friend"]["text"] == "<cycle>"


def test_one_object_twice_is_no_cycle() -> None:
    """The same object side by side is shown twice."""
    shared = [1]
    assert picture([shared, shared])["items"] == [picture(shared)] * 2


def test_huge_values_are_fast() -> None:
    """Size costs nothing: nothing is copied, searched or counted in Python."""
    text, numbers = "a" * 100_000_000, [0] * 5_000_000
    raw, mapping = bytes(50_000_000), dict.fromkeys(range(300_000))
    numbered = set(mapping)
    with Stopwatch():
        for _ in range(100):
            drawn = picture([text, numbers, raw, mapping, numbered])
    assert len(json.dumps(drawn)) < 10_000


def test_nodes_are_shared_fairly() -> None:
    """A deep value leaves room for its neighbours, and for itself what they do not need."""

    def nested(depth: int) -> Any:
        return {f"k{n}": nested(depth - 1) for n in range(5)} if depth else 0

    drawn = describe_names({"deep": nested(4), "flat": [1, 2, 3]}.items(), Budget(), nodes=40)
    assert drawn["flat"] == {"type": "list", "size": 3, "items": [1, 2, 3]}
    assert 15 < json.dumps(drawn["deep"]).count("k") <= 37


def test_past_a_budget_a_value_is_its_type() -> None:
    """Whatever runs out, nodes, characters or time: nothing more of a value is shown."""
    value = {"a": ["x"]}
    assert picture(value, nodes=0) == {"type": "dict", "size": 1}
    assert picture(value, characters=0) == {"type": "dict"}
    assert picture("x" * 100, characters=0) == {"type": "str"}
    assert picture(value, seconds=-1) == {"type": "dict", "size": 1}
    assert picture(Plain(a=1), seconds=-1).keys() == {"type", "address"}


def test_every_character_is_paid_for() -> None:
    """JSON never grows much beyond the characters that the budget had."""
    evil = [
        "\x01" * 30,
        '"' * 900,
        "\U0001f600" * 900,
        Plain(**{"𐌰" * 200: "é" * 500}),
        b"\0" * 900,
    ]
    wide = [[evil * 2] * 10] * 10
    drawn = picture(wide, characters=20_000)
    assert len(json.dumps(drawn)) < 30_000


def test_text_pays_what_its_escapes_cost() -> None:
    """The end of the budget cuts a text, evenly escaped or not, and never overdraws it."""
    for text in ("a" * 9_000, "\x01" * 9_000, "a" * 8_000 + "\U0001f600" * 1_000):
        budget = Budget(characters=1_000)
        cut = budget.text(text, 9_000)
        assert 50 < len(json.dumps(cut)) <= 1_100
        assert budget.characters > -100


def test_lasting_values_are_drawn_once() -> None:
    """What several frames hand on is one picture, and is paid each time."""
    value = [1, 2, 3]
    budget = Budget(lasting=True)
    first = describe_names({"a": value}.items(), budget)["a"]
    spent = Budget().nodes - budget.nodes
    assert describe_names({"b": value}.items(), budget)["b"] is first
    assert Budget().nodes - budget.nodes == 2 * spent
    assert describe_names({"c": value}.items(), budget, nodes=1)["c"] != first


def test_names_that_are_no_names_are_left_out() -> None:
    """Only text names a variable; dunder names are machinery; long ones are cut."""
    pairs: Any = [(1, 1), ("__a__", 2), (hostile(str, "b"), 3), ("ö" * 5_000, 4), ("c", 5)]
    drawn = describe_names(pairs, Budget(), limit=2)
    assert list(drawn.values()) == [4, 5]
    assert max(map(len, drawn)) < 300
    assert describe_names([], Budget()) == {}


# Other threads.


def test_values_may_change_meanwhile() -> None:
    """Another thread may add, remove and replace while a value is drawn."""
    stop = threading.Event()
    mapping: dict[int, int] = {}
    queue: collections.deque[int] = collections.deque()
    person = Plain()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            mapping[number % 50] = number
            mapping.pop((number * 7) % 50, None)
            queue.append(number)
            if len(queue) > 30:
                queue.clear()
            setattr(person, f"a{number % 40}", number)
            person.__dict__.pop(f"a{(number * 3) % 40}", None)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(2_000):
            assert picture([mapping, queue, person])["size"] == 3
    finally:
        stop.set()
        thread.join()


# Properties.

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters())
    | st.text(st.characters(codec="ascii", exclude_characters="")).map(lambda text: text * 300)
    | st.binary()
    | st.datetimes(timezones=st.timezones() | st.none())
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
VALUES = st.recursive(
    SCALARS | st.decimals(allow_nan=True),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(collections.deque)
        | st.dictionaries(SCALARS, inner)
        | st.frozensets(SCALARS)
        | st.dictionaries(st.text(st.characters()), inner).map(lambda names: Plain(**names))
        | st.lists(inner).map(lambda args: ValueError(*args))
    ),
    max_leaves=20,
)


@given(VALUES, st.integers(-1, 300), st.integers(-1, 5_000), st.integers(0, 4))
def test_every_value_has_a_bounded_picture(
    value: object, nodes: int, characters: int, depth: int
) -> None:
    """Any value within any budget gives a picture that JSON returns unchanged, and a small one."""
    budget = Budget(nodes=nodes, characters=characters)
    drawn = describe(value, budget, depth=depth)
    text = json.dumps(drawn, allow_nan=False)
    assert json.loads(text) == drawn
    assert len(text) < 2 * max(characters, 0) + 10_000
    json.dumps(drawn, ensure_ascii=False).encode()


def test_the_traps_work() -> None:
    """The hostile objects of these tests do notice when their code runs."""
    with pytest.raises(UserCodeRan):
        repr(hostile(list))
