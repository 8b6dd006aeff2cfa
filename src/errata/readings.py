"""How values that are no containers read: one short text each, from C code alone.

`datetime` and `pathlib` are read only where every part is of an exact built-in type, so
that neither a time zone nor a subclass of `str` of somebody's own is ever asked.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from enum import Enum, EnumType
from itertools import pairwise
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final, TypeAlias

from errata.anatomy import (
    instance_attributes,
    instance_dict,
    namespace_of,
    plain_name,
    type_name,
)


MAX_INT_BITS: Final = 2_048
"""Longer integers are abridged: `sys.set_int_max_str_digits` may forbid more than 640 digits."""
MAX_DECIMAL_SIZE: Final = 1_024
"""Bytes in memory, which is some 2,000 digits."""
MAX_PATH: Final = 4_096
"""PATH_MAX of Linux."""

Reader: TypeAlias = Callable[[Any], str | None]
"""Returns how a value reads; None if that cannot be told cheaply and safely."""

_UUID_GROUPS: Final = (0, 8, 12, 16, 20, 32)
_function_of: Final[Callable[[Any], object]] = MethodType.__dict__["__func__"].__get__


def reader_of(cls: type, name: str) -> Reader | None:
    """Return what reads instances of *cls*, called *name*; None if they are no one text."""
    reader = _EXACT.get(id(cls))
    if reader is not None:
        return reader
    # An enum may be an int or a str too, and is found first.
    if issubclass(type(cls), EnumType):
        return _read_enum
    if issubclass(cls, _BASES):
        return next(reader for base, reader in _FAMILIES if issubclass(cls, base))
    return _late_reader(cls, name)


def _late_reader(cls: type, name: str) -> Reader | None:
    """Find the reader of a class of a module that is expensive to import just for its name."""
    reader = _LATE.get(name)
    if reader is not None:
        module, _, qualname = name.rpartition(".")
        if getattr(sys.modules.get(module), qualname, None) is cls:
            return reader
    return None


def _read_int(value: int) -> str:
    bits = int.bit_length(value)
    if bits <= MAX_INT_BITS:
        return int.__repr__(value)
    return f"{int.__rshift__(value, bits - 64):#x}… ({bits} bits)"


def _read_range(value: range) -> str | None:
    bounds = (value.start, value.stop, value.step)
    return None if max(map(int.bit_length, bounds)) > MAX_INT_BITS else repr(value)


def _read_time(value: Any) -> str | None:
    zone = value.tzinfo
    if zone is None or type(zone) is dt.timezone:
        return str(value)
    name = type_name(type(zone))
    return str(value) if _late_reader(type(zone), name) else f"{value.replace(tzinfo=None)} {name}"


def _read_function(value: Any) -> str:
    namespace = namespace_of(FunctionType)
    module, qualname = (namespace[name].__get__(value) for name in ("__module__", "__qualname__"))
    return f"{plain_name(module)}.{plain_name(qualname)}"


def _read_method(value: MethodType) -> str | None:
    function = _function_of(value)
    return _read_function(function) if type(function) is FunctionType else None


def _read_builtin(value: BuiltinFunctionType) -> str:
    # Not its `__qualname__`: that asks the class of the object that it is bound to.
    return plain_name(namespace_of(BuiltinFunctionType)["__name__"].__get__(value))


def _read_module(value: ModuleType) -> str:
    return plain_name(dict.get(instance_dict(value) or {}, "__name__"))


def _read_enum(value: Enum) -> str:
    return plain_name(dict.get(instance_dict(value) or {}, "_name_"))


def _read_decimal(value: Any) -> str | None:
    return str(value) if value.__sizeof__() <= MAX_DECIMAL_SIZE else None


def _read_uuid(value: Any) -> str | None:
    number = namespace_of(type(value))["int"].__get__(value)
    if type(number) is not int:  # somebody has put it there by force
        return None
    digits = f"{number:032x}"
    return "-".join(digits[start:end] for start, end in pairwise(_UUID_GROUPS))


def _read_path(value: Any) -> str | None:
    slots = dict(instance_attributes(value))
    # What `__str__` joins, from Python 3.12 and before.
    parts: Any = slots.get("_raw_paths", slots.get("_parts"))
    if type(parts) is not list or any(type(part) is not str for part in parts):
        return None
    return str(value) if sum(map(len, parts)) <= MAX_PATH else None


# By `id()`: a metaclass may define `__hash__`.
_EXACT: Final[dict[int, Reader]] = {
    id(cls): reader
    for cls, reader in (
        (range, _read_range),
        (dt.datetime, _read_time),
        (dt.time, _read_time),
        (dt.date, str),
        (dt.timedelta, str),
        (dt.timezone, str),
        (FunctionType, _read_function),
        (MethodType, _read_method),
        (BuiltinFunctionType, _read_builtin),
    )
}

_FAMILIES: Final[tuple[tuple[type, Reader], ...]] = (
    (int, _read_int),
    (float, float.__repr__),
    (complex, complex.__repr__),
    (type, type_name),
    (ModuleType, _read_module),
)
_BASES: Final = tuple(base for base, _ in _FAMILIES)

_LATE: Final[dict[str, Reader]] = {
    "decimal.Decimal": _read_decimal,
    "uuid.UUID": _read_uuid,
    "zoneinfo.ZoneInfo": str,
    **{
        f"{module}.{name}": _read_path
        for module in ("pathlib", "pathlib._local")  # the latter in Python 3.13
        for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    },
}
