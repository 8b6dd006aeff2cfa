"""What a Python object is made of, read without running its code.

A class may override `__getattribute__`, `__class__` or `__dict__`, and its metaclass
`__module__`, `__hash__` or `__eq__`. So everything here goes through the C descriptors of
`type` and of the instance, which nothing can override, and `type()` says the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from types import GetSetDescriptorType, MappingProxyType, MemberDescriptorType, TracebackType
from typing import Any, Final


MAX_NAME: Final = 200
"""Characters of the name of a type, attribute or variable."""
MAX_ATTRIBUTES: Final = 500
"""Names of one class that are searched for slots, and of one instance."""

mro_of: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
"""The method resolution order of a class."""
namespace_of: Final[Callable[[type], MappingProxyType[str, Any]]] = type.__dict__[
    "__dict__"
].__get__
"""The names that a class itself defines."""

qualname_of: Final[Callable[[type], str]] = type.__dict__["__qualname__"].__get__
"""The qualified name of a class: a `str`, or an instance of a subclass of it."""

args_of: Final[Callable[[BaseException], tuple[object, ...]]] = BaseException.__dict__[
    "args"
].__get__
traceback_of: Final[Callable[[BaseException], TracebackType | None]] = BaseException.__dict__[
    "__traceback__"
].__get__
cause_of: Final[Callable[[BaseException], BaseException | None]] = BaseException.__dict__[
    "__cause__"
].__get__
context_of: Final[Callable[[BaseException], BaseException | None]] = BaseException.__dict__[
    "__context__"
].__get__
suppresses_context: Final[Callable[[BaseException], bool]] = BaseException.__dict__[
    "__suppress_context__"
].__get__
exception_dict: Final[Callable[[BaseException], dict[str, Any]]] = BaseException.__dict__[
    "__dict__"
].__get__
"""What an exception holds, whatever properties its class defines over it."""

_module_of: Final[Callable[[type], object]] = type.__dict__["__module__"].__get__


def plain(text: str, limit: int) -> str:
    """Return *text* as exact `str`, at most about *limit* characters, fit for UTF-8.

    What is longer keeps head and tail and says between them how much is missing. A lone
    surrogate becomes its backslash escape.
    """
    size = str.__len__(text)
    if size <= limit:
        short = text if type(text) is str else str.__str__(text)
    else:
        tail = limit // 4
        head = str.__getitem__(text, slice(limit - tail))
        short = f"{head}…(+{size - limit} characters)…"
        short += str.__getitem__(text, slice(size - tail, None))
    return short if short.isascii() else short.encode("utf-8", "backslashreplace").decode()


def plain_name(name: object) -> str:
    """Return *name* as exact `str` of about `MAX_NAME` characters; `?` if it is no text."""
    if type(name) is str and len(name) <= MAX_NAME and name.isascii():
        return name
    return plain(name, MAX_NAME) if issubclass(type(name), str) else "?"  # type: ignore[arg-type]


def type_names(cls: type) -> tuple[str, str]:
    """Return the module and the qualified name of *cls*."""
    try:
        module = _module_of(cls)
    except AttributeError:  # somebody deleted it
        module = None
    return plain_name(module), plain_name(qualname_of(cls))


def type_name(cls: type) -> str:
    """Return the full name of *cls*, without `builtins`."""
    module, qualname = type_names(cls)
    return qualname if module == "builtins" else f"{module}.{qualname}"


def members_of(exc: BaseException) -> tuple[BaseException, ...]:
    """Return what an exception group holds; nothing for any other exception."""
    if not issubclass(type(exc), BaseExceptionGroup):
        return ()
    members: tuple[BaseException, ...] = BaseExceptionGroup.__dict__["exceptions"].__get__(exc)
    return members


def instance_dict(value: object) -> dict[str, Any] | None:
    """Return the real instance dictionary of *value*; None if there is none to be reached.

    A class that hides it behind a property has none.
    """
    for cls in mro_of(type(value)):
        state = _own_dict(value, namespace_of(cls))
        if state is not None:
            return state
    return None


def instance_attributes(value: object) -> Iterator[tuple[object, object]]:
    """Yield what *value* itself holds, by name: filled slots, then its dictionary.

    Properties and other computed attributes are none of it.
    """
    state = None
    for cls in mro_of(type(value)):
        namespace = namespace_of(cls)
        if "__slots__" in namespace:
            yield from _filled_slots(value, namespace)
        if state is None:
            state = _own_dict(value, namespace)
    if state is not None:
        # In one C call, which no other thread can get between.
        yield from list(islice(dict.items(state), MAX_ATTRIBUTES))


def _own_dict(value: object, namespace: MappingProxyType[str, Any]) -> dict[str, Any] | None:
    found = namespace.get("__dict__")
    if found is not None and (
        type(found) is GetSetDescriptorType or type(found) is MemberDescriptorType  # of a module
    ):
        state = found.__get__(value)
        return state if issubclass(type(state), dict) else None
    return None


def _filled_slots(
    value: object, namespace: MappingProxyType[str, Any]
) -> Iterator[tuple[str, object]]:
    # Not the names that `__slots__` lists: those of private slots are mangled.
    for name, member in islice(namespace.items(), MAX_ATTRIBUTES):
        if type(member) is MemberDescriptorType:
            try:
                yield name, member.__get__(value)
            except AttributeError:  # empty
                continue
