"""The house in which the modules live: who may import whom, and how large they may be."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest


SOURCE = Path(__file__).resolve().parent.parent / "src"

# An import points to the same layer or to one below, never up. A package (`stores`) is its
# protocol; `stores.*` are the implementations. `errata` is the public face.
LAYERS = (
    {
        "errata.exceptions",
        "errata.report",
        "errata.rules",
        "errata.timers",
    },
    {
        "errata.anatomy",
        "errata.asgi2",
        "errata.budget",
        "errata.client",
        "errata.defaults",
        "errata.describe",
        "errata.exchange",
        "errata.gate",
        "errata.lifespan",
        "errata.masking",
        "errata.message",
        "errata.notifiers",
        "errata.readings",
        "errata.redaction",
        "errata.reply",
        "errata.request",
        "errata.responses",
        "errata.scope",
        "errata.source",
        "errata.storms",
        "errata.stores",
        "errata.trail",
        "errata.websocket",
        "errata.witness",
    },
    {
        "errata.alerts",
        "errata.answers",
        "errata.capture",
        "errata.chain",
        "errata.connect",
        "errata.documents",
        "errata.handlers",
        "errata.logging",
        "errata.mail",
        "errata.markup",
        "errata.notifiers.*",
        "errata.outbox",
        "errata.outline",
        "errata.pages",
        "errata.reporter",
        "errata.stack",
        "errata.stores.*",
        "errata.templating",
        "errata.testing",
        "errata.texts",
        "errata.tracebacks",
    },
    {
        "errata.health",
        "errata.journey",
        "errata.middleware",
        "errata.security",
        "errata.tracker",
    },
    {
        "errata",
        "errata.__main__",
        "errata.cli",
        "errata.demo",
        "errata.demo.*",
        "errata.integrations",
        "errata.integrations.*",
    },
)

# What every installation has and what is cheap enough to be imported with us. Pygments and
# Jinja2 are there too, but only a page that is rendered pays for them.
IMPORTED_AT_ONCE = {"anyio", "asgiref", "errata", "starlette", "structlog"}

# The modules that are an option themselves: whoever imports one asks for its dependency.
OPTIONS = {
    "errata.demo.console": {"fastapi", "uvicorn"},
    "errata.demo.server": {"fastapi", "uvicorn"},
    "errata.demo.shop": {"fastapi", "uvicorn"},
    "errata.demo.tour": {"fastapi", "uvicorn"},
    "errata.integrations.asyncpg": {"asyncpg"},
    "errata.integrations.blacksheep": {"blacksheep"},
    "errata.integrations.django": {"django"},
    "errata.integrations.falcon": {"falcon"},
    "errata.integrations.litestar": {"litestar"},
    "errata.integrations.opentelemetry": {"opentelemetry"},
    "errata.integrations.quart": {"quart", "werkzeug"},
    "errata.integrations.sanic": {"sanic"},
    "errata.integrations.sentry": {"sentry_sdk"},
    "errata.integrations.sqlalchemy": {"sqlalchemy"},
    "errata.mail": {"aiosmtplib"},
    "errata.notifiers.apprise": {"apprise"},
    "errata.stores.postgres": {"asyncpg"},
}

MAX_LINES = 450


@dataclass(frozen=True)
class Import:
    """One module that an import statement, or a call of `import_module`, names."""

    target: str
    line: int
    runs_at_import: bool
    """False inside a function."""
    only_for_types: bool


@dataclass
class Module:
    """One file of the library and what it imports."""

    name: str
    path: Path
    imports: list[Import] = field(default_factory=list)

    @property
    def layer(self) -> int | None:
        """The module's layer; None if the table does not know it."""
        return _layer(self.name)


def test_every_module_has_a_layer(modules: dict[str, Module]) -> None:
    """A new module is placed in the house before it is used."""
    homeless = sorted(name for name, module in modules.items() if module.layer is None)
    assert not homeless, f"give these modules a layer in LAYERS: {homeless}"


def test_imports_point_down(modules: dict[str, Module]) -> None:
    """No module imports from a layer above its own, lazily or for types alone neither."""
    wrong = [
        f"{module.path.name}:{found.line}: {module.name} (layer {module.layer})"
        f" imports {found.target} (layer {_layer(found.target)})"
        for module in modules.values()
        for found in module.imports
        if _is_ours(found.target) and _is_above(found.target, module)
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_make_no_cycle(modules: dict[str, Module]) -> None:
    """Modules can be read, and imported, one after the other."""
    graph = {
        name: {found.target for found in module.imports if found.runs_at_import} & modules.keys()
        for name, module in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]), pytrace=False)


def test_options_are_imported_when_used(modules: dict[str, Module]) -> None:
    """No module needs more at import than the light core; options are imported lazily."""
    wrong = [
        f"{module.path.name}:{found.line}: {module.name} imports {found.target} at once"
        for module in modules.values()
        for found in module.imports
        if found.runs_at_import
        and not found.only_for_types
        and _is_heavy(found.target.partition(".")[0], module.name)
    ]
    assert not wrong, "\n".join(wrong)


def test_files_stay_small(modules: dict[str, Module]) -> None:
    """One noun a file: what outgrows the limit is two nouns."""
    lengths = {
        module.path.relative_to(SOURCE).as_posix(): len(module.path.read_text().splitlines())
        for module in modules.values()
    }
    large = {path: length for path, length in lengths.items() if length > MAX_LINES}
    assert not large, f"longer than {MAX_LINES} lines: {large}"


def test_importing_errata_loads_no_option() -> None:
    """`import errata` brings in no framework, no driver and no client, and warns of nothing."""
    program = "import json, sys, errata; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.check_output([sys.executable, "-I", "-W", "error", "-c", program])
    options = set().union(*OPTIONS.values())
    assert options.isdisjoint(json.loads(output))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import errata.trail", [("errata.trail", True, False)]),
        ("import errata.report as r", [("errata.report", True, False)]),
        ("from errata.stores import Store", [("errata.stores", True, False)]),
        ("from errata.stores import sqlite", [("errata.stores.sqlite", True, False)]),
        ("from errata import trail", [("errata.trail", True, False)]),
        ("from errata import note", [("errata", True, False)]),
        ("from . import Store", [("errata.stores", True, False)]),
        ("from .sqlite import open", [("errata.stores.sqlite", True, False)]),
        ("from ..trail import note", [("errata.trail", True, False)]),
        ("def f():\n import errata.trail", [("errata.trail", False, False)]),
        ("async def f():\n import jinja2", [("jinja2", False, False)]),
        ("class C:\n import jinja2", [("jinja2", True, False)]),
        ("try:\n import re2\nexcept ImportError: pass", [("re2", True, False)]),
        ("if TYPE_CHECKING:\n import jinja2", [("jinja2", True, True)]),
        ("if typing.TYPE_CHECKING:\n import jinja2", [("jinja2", True, True)]),
        ("if TYPE_CHECKING: pass\nelse:\n import re2", [("re2", True, False)]),
        ("importlib.import_module('jinja2.ext')", [("jinja2.ext", True, False)]),
        ("f = lambda: import_module('trio')", [("trio", False, False)]),
        ("import_module(name)", []),
    ],
)
def test_imports_are_found(code: str, expected: list[tuple[str, bool, bool]]) -> None:
    """The tests above see every way to import a module."""
    known = {"errata", "errata.stores", "errata.stores.sqlite", "errata.trail", "errata.report"}
    finder = _ImportFinder(package="errata.stores", known=known)
    finder.visit(ast.parse(code))
    found = [(each.target, each.runs_at_import, each.only_for_types) for each in finder.imports]
    assert found == expected


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    """Every module of the library by name, parsed and not imported."""
    paths = {_name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}
    return {name: _read(name, path, paths.keys()) for name, path in paths.items()}


def _name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read(name: str, path: Path, known: Collection[str]) -> Module:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    finder = _ImportFinder(package=package, known=known)
    finder.visit(ast.parse(path.read_text(), filename=str(path)))
    return Module(name, path, finder.imports)


class _ImportFinder(ast.NodeVisitor):
    """Collects the imports of one module, those in functions and branches included."""

    def __init__(self, *, package: str, known: Collection[str]) -> None:
        self.imports: list[Import] = []
        self._package = package
        self._known = known
        self._functions = 0
        self._only_for_types = False

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        above = self._package.split(".")[: -(node.level - 1) or None] if node.level else []
        origin = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            submodule = f"{origin}.{alias.name}"
            self._add(submodule if submodule in self._known else origin, node)

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        if name in {"import_module", "__import__"} and isinstance(node.args[0], ast.Constant):
            self._add(str(node.args[0].value), node)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) not in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            self.generic_visit(node)
            return
        self._only_for_types = True
        for statement in node.body:
            self.visit(statement)
        self._only_for_types = False
        for statement in node.orelse:
            self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_function(node)

    def _visit_function(self, node: ast.AST) -> None:
        self._functions += 1
        self.generic_visit(node)
        self._functions -= 1

    def _add(self, target: str, node: ast.stmt | ast.expr) -> None:
        self.imports.append(Import(target, node.lineno, self._functions == 0, self._only_for_types))


def _layer(name: str) -> int | None:
    for layer, names in enumerate(LAYERS):
        if any(fnmatchcase(name, known) for known in names):
            return layer
    return None


def _is_ours(target: str) -> bool:
    return target.partition(".")[0] == "errata"


def _is_above(target: str, module: Module) -> bool:
    above = _layer(target)
    # A module without a layer is another test's finding.
    return above is not None and module.layer is not None and above > module.layer


def _is_heavy(distribution: str, module: str) -> bool:
    allowed = IMPORTED_AT_ONCE | OPTIONS.get(module, set())
    return distribution not in sys.stdlib_module_names and distribution not in allowed
