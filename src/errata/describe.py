"""Pictures of Python values: bounded, and drawn without running anybody's code.

Built-in values are shown by value, other objects by type, address and plain attributes.
No `__repr__`, `__eq__`, `__hash__`, `__len__` or property runs: no lazy query is
evaluated, and nothing that sleeps, raises or never ends is met.

Whoever edits this file keeps three rules. A class is compared with `is`, found by `id()`
(a metaclass may define `__hash__`), or tested by `issubclass` against a class whose own
metaclass is `type` or `EnumType`; never by `isinstance`, which reads `__class__`. A
subclass of a built-in is read by the built-in's own C methods. Every character is paid.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from itertools import chain, islice
from math import isfinite
from time import perf_counter
from typing import Any, Final, TypeAlias

from errata.anatomy import (
    MAX_NAME,
    args_of,
    instance_attributes,
    mro_of,
    namespace_of,
    plain_name,
    qualname_of,
    type_name,
)
from errata.budget import ASCII_ESCAPE, MAX_NODES, SHORT, WORST_ESCAPE, Budget, Known
from errata.readings import Reader, reader_of
from errata.report import Description


__all__ = ["Budget", "describe", "describe_names"]

MAX_DEPTH: Final = 4
"""Containers within containers."""
MAX_ITEMS: Final = 10
"""Elements of one sequence or set (Sentry shows as many)."""
MAX_ENTRIES: Final = 20
"""Pairs of one mapping, attributes of one object: an ASGI scope has about fifteen."""
MAX_TEXT: Final = 1_000
"""Characters of one text: a screenful."""
MAX_BYTES: Final = 256
MAX_CACHED_NAMES: Final = 512
"""Sets of names whose check is remembered: the functions of a busy app, in some 100 KB."""
MAX_REMEMBERED: Final = 2_000
"""Characters of such a set: whatever is longer is no function's."""
NODE_COST: Final = 64
"""Characters of JSON around one picture: its keys, its address and the quotes."""
_MIN_INT: Final = -(2**63)
_MAX_INT: Final = 2**63 - 1
_FIRST: Final = slice(MAX_ITEMS)

_Path: TypeAlias = tuple[int, ...]
_Picture: TypeAlias = dict[str, Description]
_Drawer: TypeAlias = Callable[[Any, str, Budget, _Path], _Picture]
_Drawing: TypeAlias = tuple[str, int, _Drawer]
"""The name of a type, the characters around a picture of it, and how to draw one."""


def describe(value: object, budget: Budget, *, depth: int = MAX_DEPTH) -> Description:
    """Draw *value*, at most *depth* containers deep (never more than `MAX_DEPTH`).

    What goes beyond the budget is only its type. Never raises.
    """
    if perf_counter() > budget.deadline:
        budget.nodes = 0
    return _draw_all((value,), budget, (0,) * (MAX_DEPTH - depth))[0]


def describe_names(
    pairs: Iterable[tuple[object, object]],
    budget: Budget,
    *,
    limit: int = MAX_ENTRIES,
    nodes: int = MAX_NODES,
) -> dict[str, Description]:
    """Draw the first *limit* named values, such as the locals of a frame, in at most *nodes*.

    What is no name, and names with two underscores in front, are left out. Never raises.
    """
    # Once for all of them: so few nodes are drawn in a fraction of a millisecond.
    if perf_counter() > budget.deadline:
        budget.nodes = 0
    granted = min(nodes, budget.nodes)
    reserve = budget.nodes - granted
    budget.nodes = granted
    drawn = _draw_named(pairs, limit, budget, ())
    budget.nodes += reserve
    return drawn


def _draw_named(
    pairs: Iterable[tuple[object, object]], limit: int, budget: Budget, path: _Path
) -> dict[str, Description]:
    pairs = list(pairs)
    names: tuple[Any, ...] = tuple([name for name, _ in pairs])
    cost = None
    if {str}.issuperset(map(type, names)) and sum(map(len, names)) <= MAX_REMEMBERED:
        cost = _cost_of_names(names, limit)
    if cost is None:
        return _draw_selected(pairs, limit, budget, path)
    budget.characters -= cost
    return dict(zip(names, _draw_all([value for _, value in pairs], budget, path), strict=True))


@lru_cache(maxsize=MAX_CACHED_NAMES)
def _cost_of_names(names: tuple[str, ...], limit: int) -> int | None:
    """Return the characters of names that can all be shown as they are; else None.

    A function has the same variables each time, and an object the same attributes.
    """
    text = "".join(names)
    plain = text.isascii() and text.isprintable() and len(names) <= limit
    if not plain or any(name.startswith("__") or len(name) > MAX_NAME for name in names):
        return None
    return 2 * len(text)  # all might be quotes


def _draw_selected(
    pairs: Iterable[tuple[object, object]], limit: int, budget: Budget, path: _Path
) -> dict[str, Description]:
    named = {
        name: value for name, value in pairs if type(name) is str and not name.startswith("__")
    }
    if len(named) > limit or max(map(len, named), default=0) > MAX_NAME:
        named = {plain_name(name): value for name, value in islice(named.items(), limit)}
    text = "".join(named)
    if text.isascii() and text.isprintable():
        budget.characters -= 2 * len(text)
    else:
        budget.characters -= WORST_ESCAPE * len(text)
        named = {plain_name(name): value for name, value in named.items()}
    return dict(zip(named, _draw_all(list(named.values()), budget, path), strict=True))


def _draw_all(values: Sequence[Any], budget: Budget, path: _Path) -> list[Description]:
    """Draw *values*, side by side at the end of *path*.

    Each gets a fair share of the nodes, and what it leaves over goes to those after it: a
    deep value does not hide its neighbours.
    """
    drawn: list[Description] = []
    for value in values:
        cls = type(value)
        if (cls is int and _MIN_INT <= value <= _MAX_INT) or value is None or cls is bool:
            drawn.append(value)
        elif cls is str and len(value) <= SHORT and value.isascii():
            budget.characters -= ASCII_ESCAPE * len(value)  # as `Budget.text`, without the call
            drawn.append(value)
        elif cls is float and isfinite(value):
            drawn.append(value)
        elif cls is str and len(value) <= MAX_TEXT and budget.characters > 0:
            drawn.append(budget.text(value, MAX_TEXT))
        else:
            left = budget.nodes
            share = budget.nodes = left // (len(values) - len(drawn))
            drawn.append(_draw(value, cls, budget, path))
            budget.nodes += left - share
    return drawn


def _draw(value: Any, cls: type, budget: Budget, path: _Path) -> _Picture:
    name, cost, draw = _EXACT.get(id(cls)) or _drawing_of(cls)
    budget.characters -= cost
    if budget.characters <= 0:
        return {"type": name}
    if id(value) in path:
        return {"type": name, "text": "<cycle>"}
    try:
        if path or budget.known is None:
            return draw(value, name, budget, path)
        return _draw_once(value, name, budget, draw, budget.known)
    except Exception:
        # Another thread changes it just now, or a C type broke in a way nobody foresaw.
        return {"type": name}


def _draw_once(
    value: object, name: str, budget: Budget, draw: _Drawer, known: dict[int, Known]
) -> _Picture:
    """Draw *value*, unless there is a picture of it already that fits into the budget."""
    found = known.get(id(value))
    if found is not None and found[1] <= budget.nodes:
        budget.nodes -= found[1]
        budget.characters -= found[2]
        return found[0]
    nodes, characters = budget.nodes, budget.characters
    picture = draw(value, name, budget, ())
    known[id(value)] = picture, nodes - budget.nodes, characters - budget.characters
    return picture


def _drawing_of(cls: type) -> _Drawing:
    """Find out how to draw instances of *cls*, which is none of the frequent types."""
    name = type_name(cls)
    reader = reader_of(cls, name)
    if reader is not None:
        draw: _Drawer = partial(_draw_reading, reader)
    elif issubclass(cls, _BASES):
        draw = next(draw for base, draw in _FAMILIES if issubclass(cls, base))
    else:
        draw = _draw_object
    cost = NODE_COST + len(name) * (1 if name.isascii() else WORST_ESCAPE)
    return name, cost, draw


def _draw_reading(reader: Reader, value: Any, name: str, budget: Budget, path: _Path) -> _Picture:
    text = reader(value)
    return {"type": name} if text is None else {"type": name, "text": budget.text(text, MAX_TEXT)}


# Containers.


def _draw_list(value: Any, name: str, budget: Budget, path: _Path) -> _Picture:
    items = list.__getitem__(value, _FIRST)
    picture: _Picture = {"type": name, "size": list.__len__(value)}
    return _sequence(picture, value, items, budget, path)


def _draw_tuple(value: Any, name: str, budget: Budget, path: _Path) -> _Picture:
    items = tuple.__getitem__(value, _FIRST)
    picture: _Picture = {"type": name, "size": tuple.__len__(value)}
    return _sequence(picture, value, items, budget, path)


def _draw_tuple_subclass(value: Any, name: str, budget: Budget, path: _Path) -> _Picture:
    """Draw a named tuple by its names, so that a password in it can be told from a city."""
    for cls in mro_of(type(value)):
        fields = namespace_of(cls).get("_fields")
        if type(fields) is tuple and len(fields) == tuple.__len__(value):
            pairs = zip(fields, tuple.__iter__(value), strict=True)
            return _attributes({"type": name}, value, pairs, budget, path)
    return _draw_tuple(value, name, budget, path)


def _draw_set(value: Any, name: str, budget: Budget, path: _Path) -> _Picture:
    base: Any = set if issubclass(type(value), set) else frozenset
    items = list(islice(base.__iter__(value), MAX_ITEMS))
    picture: _Picture = {"type": name, "size": base.__len__(value)}
    return _sequence(picture, value, items, budget, path)


def _draw_deque(value: Any, name: str, budget: Budget, path: _Path) -> _Picture:
    items = list(islice(deque.__iter__(value), MAX_ITEMS))
    picture: _Picture = {"type": name, "size": deque.__len__(value)}
    return _sequence(picture, value, items, budget, path)


def _sequence(
    picture: _Picture, value: object, items: Sequence[Any], budget: Budget, path: _Path
) -> _Picture:
    if len(items) > budget.nodes:
        items = items[: max(budget.nodes, 0)]
    if len(path) >= MAX_DEPTH or not items:
        return picture
    budget.nodes -= len(items)
    picture["items"] = _draw_all(items, budget, (*path, id(value)))
    return picture


def _draw_dict(value: Any, name: str, budget: Budget, path: _Path) -> _Picture:
    picture: _Picture = {"type": name, "size": dict.__len__(value)}
    room = min(MAX_ENTRIES, budget.nodes)
    if len(path) >= MAX_DEPTH or room <= 0:
        return picture
    # One C call without a step of Python between: no other thread can change the size.
    pairs = list(islice(dict.items(value), room))
    if pairs:
        budget.nodes -= len(pairs)
        drawn = _draw_all(list(chain.from_iterable(pairs)), budget, (*path, id(value)))
        picture["entries"] = [[drawn[at], drawn[at + 1]] for at in range(0, len(drawn), 2)]
    return picture


# Objects.


def _draw_object(value: Any, name: str, budget: Budget, path: _Path) -> _Picture:
    picture: _Picture = {"type": name, "address": hex(id(value))}
    if _keeps_secret(type(value)):
        return picture
    return _attributes(picture, value, instance_attributes(value), budget, path)


def _draw_exception(value: Any, name: str, budget: Budget, path: _Path) -> _Picture:
    picture: _Picture = {"type": name, "address": hex(id(value))}
    pairs = chain([("args", args_of(value))], instance_attributes(value))
    return _attributes(picture, value, pairs, budget, path)


def _attributes(
    picture: _Picture,
    value: object,
    pairs: Iterable[tuple[object, object]],
    budget: Budget,
    path: _Path,
) -> _Picture:
    room = min(MAX_ENTRIES, budget.nodes)
    if len(path) >= MAX_DEPTH or room <= 0:
        return picture
    drawn = _draw_named(pairs, room, budget, (*path, id(value)))
    if drawn:
        budget.nodes -= len(drawn)
        picture["attributes"] = drawn
    return picture


def _keeps_secret(cls: type) -> bool:
    """Tell whether *cls* exists to hide what it holds, as pydantic's and Starlette's do.

    Their attribute is called `_value`, which no rule for field names finds.
    """
    return any("secret" in str.lower(qualname_of(base)) for base in mro_of(cls))


# Text and bytes.


def _draw_str(value: Any, name: str, budget: Budget, path: _Path) -> _Picture:
    return {"type": name, "size": str.__len__(value), "text": budget.text(value, MAX_TEXT)}


def _draw_bytes(value: Any, name: str, budget: Budget, path: _Path) -> _Picture:
    base: Any = bytes if issubclass(type(value), bytes) else bytearray
    head = bytes(base.__getitem__(value, slice(MAX_BYTES)))
    return {
        "type": name,
        "size": base.__len__(value),
        "text": budget.text(repr(head), MAX_TEXT),
    }


def _draw_memoryview(value: Any, name: str, budget: Budget, path: _Path) -> _Picture:
    picture: _Picture = {"type": name, "size": value.nbytes}
    if value.ndim == 1 and value.itemsize == 1:
        picture["text"] = budget.text(repr(value[:MAX_BYTES].tobytes()), MAX_TEXT)
    return picture


# The most frequent types by `id()`.
_EXACT: Final[dict[int, _Drawing]] = {
    id(cls): (cls.__name__, NODE_COST + len(cls.__name__), draw)
    for cls, draw in (
        (list, _draw_list),
        (dict, _draw_dict),
        (tuple, _draw_tuple),
        (set, _draw_set),
        (frozenset, _draw_set),
        (str, _draw_str),
        (bytes, _draw_bytes),
        (bytearray, _draw_bytes),
        (memoryview, _draw_memoryview),
    )
}

_FAMILIES: Final[tuple[tuple[type, _Drawer], ...]] = (
    (dict, _draw_dict),
    (BaseException, _draw_exception),
    (tuple, _draw_tuple_subclass),
    (list, _draw_list),
    (set, _draw_set),
    (frozenset, _draw_set),
    (str, _draw_str),
    (deque, _draw_deque),
    (bytes, _draw_bytes),
    (bytearray, _draw_bytes),
)
_BASES: Final = tuple(base for base, _ in _FAMILIES)
