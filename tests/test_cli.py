"""The command `errata`: what it prints, how it ends and what it says when it cannot."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import errata
from errata.cli import DEMO_MODULES, main
from errata.demo import tour


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=30, check=False
    )


@contextmanager
def _demo(*arguments: str, directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `errata demo`; yield the process, and what it has printed before the requests."""
    process = subprocess.Popen(
        [sys.executable, "-m", "errata", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(directory)},
    )
    output = process.stdout
    assert output is not None
    try:
        printed = ""
        while "until Ctrl-C" not in printed:
            line = output.readline()
            assert line, printed
            printed += line
        yield process, printed
    finally:
        process.kill()
        process.wait()
        output.close()


def _url(printed: str) -> str:
    return next(word.rstrip("/") for word in printed.split() if word.startswith("http://"))


# ── errata demo ───────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_serves_beside_a_taken_port(tmp_path, stop):
    """It finds a port, tells of each request on a line, and ends at a signal, leaving nothing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with _demo("--port", str(port), directory=tmp_path) as (process, printed):
            url = _url(printed)
            assert f"Port {port} is taken" in printed
            assert url != f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, trust_env=False) as client:
                page = client.get("/cart", headers={"accept": "text/html"})
                client.post("/purchases/1/pay")
            process.send_signal(stop)
            rest, _ = process.communicate(timeout=10)
    assert "no exchange rate for CHF" in page.text
    assert process.returncode == 0
    error_id = page.headers["x-error-id"]
    log_line, bug, payment = rest.strip().splitlines()
    assert error_id in log_line
    assert bug.split() == [
        "GET",
        "/cart",
        "500",
        "text/html",
        error_id[:8],
        "reported",
        "ValueError",
    ]
    assert payment.endswith("answered by payment_failed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_demo_can_answer_as_in_production(tmp_path):
    """With `--production` nobody sees details; with `--db` the shop's file stays."""
    database = tmp_path / "shop.db"
    arguments = ("--production", "--port", "0", "--db", str(database))
    with _demo(*arguments, directory=tmp_path) as (process, printed):
        assert "taken" not in printed
        with httpx.Client(base_url=_url(printed), trust_env=False) as client:
            page = client.get("/cart", headers={"accept": "text/html"})
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert page.status_code == 500
    assert "CHF" not in page.text
    assert page.headers["x-error-id"] in page.text
    assert list(tmp_path.iterdir()) == [database]


@pytest.mark.parametrize("once", [[], ["--once"]])
def test_a_file_that_is_no_database_is_named(tmp_path, capsys, once):
    """A `--db` that SQLite cannot use is one clear error."""
    path = tmp_path / "notes.txt"
    path.write_text("These are notes, and they stay what they are. " * 50)
    assert main(["demo", "--port", "0", "--db", str(path), *once]) == 2
    error = capsys.readouterr().err
    assert error == f"errata: error: cannot keep the shop in {path}: file is not a database\n"


def test_a_host_that_is_not_ours_is_named(capsys):
    """An address of somebody else's is one clear error."""
    assert main(["demo", "--host", "203.0.113.7"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("errata: error: cannot serve on 203.0.113.7:8000: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("port", ["x", "-1", "65536", "1.5", ""])
def test_a_port_that_is_none_is_named(capsys, port):
    """A port is a number up to 65535, and the error says so."""
    with pytest.raises(SystemExit) as ended:
        main(["demo", f"--port={port}"])
    assert ended.value.code == 2
    assert f"{port} is no port; give 1 to 65535, or 0 for any" in capsys.readouterr().err


@pytest.mark.parametrize("module", DEMO_MODULES)
def test_a_missing_extra_is_one_clear_error(module):
    """Without one of the demo's packages the command names the line that installs it."""
    result = _run("-c", _WITHOUT, module, "demo", "--once")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"errata: error: {module} is not installed; run: pip install 'errata[demo]'\n"
    )


_WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from errata.cli import main
sys.exit(main(sys.argv[2:]))
"""


def test_a_closed_pipe_is_no_traceback(tmp_path):
    """`errata demo --once | head -1` ends quietly, and cleans up."""
    process = subprocess.Popen(
        [sys.executable, "-m", "errata", "demo", "--once"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_no_traceback(monkeypatch):
    """A command that is interrupted ends with the code that shells expect."""

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(tour, "run", interrupted)
    assert main(["demo", "--once"]) == 130


def test_the_result_of_the_tour_is_the_exit_code(monkeypatch):
    """A tour that finds something wrong makes the command fail."""
    monkeypatch.setattr(tour, "run", lambda *args, **options: 1)
    assert main(["demo", "--once"]) == 1


# ── errata ────────────────────────────────────────────────────────────────────────────────


def test_the_version_is_printed():
    """`python -m errata --version` tells the package's version."""
    result = _run("-m", "errata", "--version")
    assert (result.returncode, result.stdout) == (0, f"errata {errata.__version__}\n")


def test_a_command_is_needed(capsys):
    """`errata` alone says what is missing."""
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_the_help_names_the_commands(capsys):
    """`errata --help` tells what there is."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "demo" in capsys.readouterr().out


def test_the_command_loads_nothing_that_it_does_not_need():
    """Only `errata demo` imports what the demo needs."""
    program = "import sys, errata.cli; sys.exit(bool(set(sys.argv[1:]) & sys.modules.keys()))"
    assert _run("-c", program, *DEMO_MODULES, "errata.demo.shop").returncode == 0
