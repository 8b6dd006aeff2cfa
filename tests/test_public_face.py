"""What `import errata` promises: the names, their documentation and the version."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import errata


ROOT = Path(__file__).resolve().parent.parent


def test_the_list_is_sorted() -> None:
    """Whoever looks for a name in `__all__` finds it where the alphabet says, and once."""
    assert list(errata.__all__) == sorted(set(errata.__all__))


def test_every_name_resolves() -> None:
    """No promise in `__all__` is empty."""
    missing = [name for name in errata.__all__ if not hasattr(errata, name)]
    assert not missing


def test_star_import_works() -> None:
    """`from errata import *` gives the public names and no others."""
    namespace: dict[str, Any] = {}
    exec("from errata import *", namespace)
    assert namespace.keys() - {"__builtins__"} == set(errata.__all__)


def test_nothing_public_is_missing_from_the_list() -> None:
    """What the package shows and errata defines is promised in `__all__`."""
    unlisted = [
        name
        for name, value in vars(errata).items()
        if not name.startswith("_") and _is_ours(value) and name not in errata.__all__
    ]
    assert not unlisted


def test_every_name_has_a_docstring() -> None:
    """`help()` explains every public class, method and function."""
    silent = [
        name
        for public in errata.__all__
        for name, value in _documentable(public, getattr(errata, public))
        if not (getattr(value, "__doc__", None) or "").strip()
    ]
    assert not silent


def test_every_name_is_documented() -> None:
    """The README or a page of the documentation mentions every public name."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    words = set(re.findall(r"\w+", "\n".join(page.read_text() for page in pages)))
    assert not set(errata.__all__) - words


def test_the_version_is_the_packages() -> None:
    """`errata.__version__` is what pip shows and what pyproject.toml says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert errata.__version__ == importlib.metadata.version("errata") == project["version"]


def test_unknown_attributes_are_named() -> None:
    """A misspelt name fails as in any module, the lazy version notwithstanding."""
    misspelt = "ErrorMiddlewear"
    with pytest.raises(AttributeError, match=misspelt):
        getattr(errata, misspelt)


def _is_ours(value: object) -> bool:
    # A constant has no module; a submodule is shown by Python itself once it is imported.
    module = getattr(value, "__module__", "errata")
    return not isinstance(value, ModuleType) and str(module).partition(".")[0] == "errata"


def _documentable(name: str, value: object) -> list[tuple[str, object]]:
    """Return what must have a docstring: a function; a class and its public methods."""
    if not callable(value) or not _is_ours(value):
        return []
    if not isinstance(value, type):
        return [(name, value)]
    members = [
        (f"{name}.{attribute}", member)
        for attribute, member in vars(value).items()
        if not attribute.startswith("_")
        and (callable(member) or isinstance(member, (property, classmethod, staticmethod)))
    ]
    return [(name, value), *members]
