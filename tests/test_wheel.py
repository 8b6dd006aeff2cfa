"""What users install: the wheel, alone, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "errata"

# One worker builds and installs once for all of these tests.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("wheel"),
]

APP = '''\
"""One request to an app that raises, with nothing but the core installed."""

import asyncio
import json
import sys

from errata import ErrorMiddleware


async def broken(scope, receive, send):
    raise ZeroDivisionError("nobody may read this")


async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}


messages = []


async def send(message):
    messages.append(message)


scope = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/",
    "raw_path": b"/",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"localhost"), (b"accept", b"application/json")],
    "client": ("127.0.0.1", 50000),
    "server": ("127.0.0.1", 8000),
}
asyncio.run(ErrorMiddleware(broken)(scope, receive, send))

start, *rest = messages
answer = {
    "status": start["status"],
    "headers": {name.decode().lower(): value.decode() for name, value in start["headers"]},
    "body": b"".join(message.get("body", b"") for message in rest).decode(),
}
print(json.dumps(answer))
'''


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Modules, templates and `py.typed` are in; tests and other files of ours are not."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        f"errata/{path.relative_to(PACKAGE).as_posix()}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == sources
    assert "errata/py.typed" in names
    assert any(name.startswith("errata/templates/") for name in names)


def test_the_wheel_holds_the_licence(wheel: Path) -> None:
    """The licence travels with the code, as it demands."""
    with zipfile.ZipFile(wheel) as archive:
        (licence,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_the_package_imports_with_its_core_dependencies(installed: Path, tmp_path: Path) -> None:
    """`import errata` needs no extra, warns of nothing and comes from the wheel."""
    output = _run(
        installed, "-W", "error", "-c", "import errata; print(errata.__file__)", at=tmp_path
    )
    assert Path(output.strip()).is_relative_to(installed.parent.parent)


def test_the_middleware_answers_with_its_core_dependencies(installed: Path, tmp_path: Path) -> None:
    """One line around an app that raises, and the caller gets a clean JSON 500."""
    (tmp_path / "app.py").write_text(APP)
    answer = json.loads(_run(installed, "app.py", at=tmp_path).splitlines()[-1])
    assert answer["status"] == 500
    assert answer["headers"]["content-type"].partition(";")[0] == "application/json"
    body = json.loads(answer["body"])
    assert body["error_id"] == answer["headers"]["x-error-id"]
    assert body["error"]
    assert "nobody may read this" not in answer["body"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of the source distribution as a release is."""
    folder = tmp_path_factory.mktemp("dist")
    # Without Hatchling at hand `build` fetches it.
    isolation = ["--no-isolation"] if find_spec("hatchling") else []
    _run(
        Path(sys.executable),
        "-m",
        "build",
        *isolation,
        "--outdir",
        str(folder),
        str(ROOT),
        at=folder,
    )
    assert len(list(folder.glob("*.tar.gz"))) == 1
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and its core dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    _run(Path(sys.executable), "-m", "venv", str(folder), at=folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    _run(python, "-m", "pip", "install", "--quiet", "--no-input", str(wheel), at=folder)
    return python


def _run(python: Path, *arguments: str, at: Path) -> str:
    """Return what the program prints; a failure shows its errors (offline: pip's)."""
    # Isolated (-I): neither the modules of this folder nor PYTHONPATH are seen.
    result = subprocess.run(
        [python, "-I", *arguments], cwd=at, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        command = " ".join(arguments)
        pytest.fail(f"{command} exited with {result.returncode}:\n{result.stdout}{result.stderr}")
    return result.stdout
