"""The cases: each is a module here with `run(scale) -> Section`, and nothing else names it."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Final, Protocol, cast

from benchmarks.harness import Scale
from benchmarks.results import Section


class Case(Protocol):
    """What a case's module offers."""

    def run(self, scale: Scale) -> Section: ...


CASES: Final = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Case:
    """Return the case of that name."""
    return cast("Case", import_module(f"{__name__}.{name}"))
