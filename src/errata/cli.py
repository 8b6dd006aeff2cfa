"""The command `errata`: one function for each subcommand, imported when it is asked for."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Final

import errata


DEMO_MODULES: Final = ("fastapi", "uvicorn", "httpx", "websockets")
"""What the extra `demo` brings."""

MAX_PORT: Final = 65_535

INTERRUPTED: Final = 130
"""The exit code of a command that Ctrl-C has ended, by the convention of shells: 128 + SIGINT."""


class CommandError(Exception):
    """The command cannot do what it was asked to, and its message says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `errata` with *argv*, by default the process's arguments; return its exit code.

    0: all is well; 1: it found something wrong; 2: it cannot do what it was asked to.

    Raises:
        SystemExit: help or the version was asked for (0), or the arguments make no sense (2).
    """
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, TextIOWrapper):
        # A path or a message may hold what a terminal's encoding cannot.
        sys.stdout.reconfigure(errors="backslashreplace")
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except CommandError as error:
        print(f"errata: error: {error}", file=sys.stderr)  # noqa: T201 - what a command is for
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads on (`| head`). What is still to be flushed must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="errata", description=errata.__doc__)
    parser.add_argument("--version", action="version", version=f"errata {errata.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands.add_parser("demo", help="run a shop that fails in every way"))
    return parser


def require(extra: str, modules: Sequence[str]) -> None:
    """Import *modules*, which `errata[extra]` brings.

    Raises:
        CommandError: one is missing; the message has the `pip install` line.
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            missing = error.name or module
            raise CommandError(
                f"{missing} is not installed; run: pip install 'errata[{extra}]'"
            ) from error


# ── errata demo ───────────────────────────────────────────────────────────────────────────


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serve a small shop in which every request fails in a way of its own, and print what"
        " errata did about each. Debug pages are for this machine only."
    )
    parser.set_defaults(command=_demo, debug=True)
    parser.add_argument(
        "--once",
        action="store_true",
        help="send each kind of error once, check what comes of it, and end (of the other"
        " options only --db counts)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to serve on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=_port, default=8000, help="if taken, a free one (default: %(default)s)"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--debug", action="store_true", dest="debug", help="show debug pages (the default)"
    )
    mode.add_argument(
        "--production", action="store_false", dest="debug", help="answer as in production"
    )
    parser.add_argument(
        "--db", metavar="PATH", help="keep the shop's SQLite file here (default: a temporary file)"
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text} is no port; give 1 to {MAX_PORT}, or 0 for any")
    return int(text)


def _demo(arguments: argparse.Namespace) -> int:
    require("demo", DEMO_MODULES)
    import sqlite3

    from errata.demo import console, tour

    try:
        if arguments.once:
            return tour.run(sys.stdout, database=arguments.db)
        with _listen(arguments.host, arguments.port) as listener:
            console.serve(
                sys.stdout,
                listener,
                port=arguments.port,
                debug=arguments.debug,
                database=arguments.db,
            )
    except sqlite3.Error as error:
        raise CommandError(f"cannot keep the shop in {arguments.db}: {error}") from error
    return 0


def _listen(host: str, port: int) -> socket.socket:
    from errata.demo.server import listen

    try:
        return listen(host, port)
    except OSError as error:
        reason = error.strerror or error
        raise CommandError(f"cannot serve on {host}:{port}: {reason}") from error
