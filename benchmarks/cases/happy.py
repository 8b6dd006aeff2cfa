"""What a request that goes well pays: the direct call of an ASGI app, without a server."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final

from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Message

from benchmarks.apps import Minimal, not_reading, reading_once
from benchmarks.harness import Burst, Contestant, Group, Scale, Series, measure
from benchmarks.peers import with_sentry
from benchmarks.results import Promise, Section, added_ratio, samples_of, timing_table
from errata import ErrorMiddleware


BASES: Final = ("bare", "bare, beside sentry")
MINIMAL: Final = "by hand: try, sync closure"
STARLETTE: Final = "starlette ServerErrorMiddleware"
ERRATA: Final = "errata ErrorMiddleware"
SENTRY: Final = "sentry-sdk SentryAsgiMiddleware"

APPS: Final[dict[str, ASGIApp]] = {
    "An app that does not call receive()": not_reading,
    "An app that calls receive() once": reading_once,
}
INTRO: Final = """
Direct calls, with a fresh scope and fresh messages each time, of an app that answers 200 in two \
messages. Everything has its default settings. *By hand* is a `try` around the app and a plain \
function around `send` that looks at the message's type: the least that can know whether a \
response has begun.
"""


def run(scale: Scale) -> Section:
    """Measure both apps."""
    outcomes = {
        title: measure(
            (
                Group(build=partial(_ours, app)),
                Group(build=partial(_sentry, app), separate=True),
            ),
            scale,
        )
        for title, app in APPS.items()
    }
    return Section(
        name="happy",
        title="A request that goes well",
        intro=INTRO,
        tables=[
            timing_table(title, series, bases=BASES, reference=STARLETTE)
            for title, series in outcomes.items()
        ],
        promises=_promises(outcomes),
        samples={
            name: samples
            for title, series in outcomes.items()
            for name, samples in samples_of(series, f"{title}: ").items()
        },
    )


def _promises(outcomes: dict[str, dict[str, Series]]) -> list[Promise]:
    not_read, read = outcomes.values()
    promises = [
        Promise(
            text="a good request, added: errata in starlette ServerErrorMiddlewares",
            measured=added_ratio(not_read, ERRATA, STARLETTE),
            limit=1.1,
        )
    ]
    for what, series in (("", not_read), (" that reads", read)):
        if SENTRY in series:
            promises.append(
                Promise(
                    text=f"a good request{what}, added: errata in sentry-sdk middlewares",
                    measured=added_ratio(series, ERRATA, SENTRY),
                    limit=1 / 60,
                )
            )
    return promises


def _ours(app: ASGIApp) -> Sequence[Contestant]:
    return _contestants(
        {
            "bare": app,
            MINIMAL: Minimal(app),
            STARLETTE: ServerErrorMiddleware(app),
            ERRATA: ErrorMiddleware(app),
        }
    )


def _sentry(app: ASGIApp) -> Sequence[Contestant]:
    return _contestants({"bare, beside sentry": app, SENTRY: with_sentry(app)})


def _contestants(apps: dict[str, ASGIApp]) -> list[Contestant]:
    runner = asyncio.Runner()
    atexit.register(runner.close)
    return [Contestant(name, _burst(app, runner)) for name, app in apps.items()]


def _burst(app: ASGIApp, runner: asyncio.Runner) -> Burst:
    def burst(count: int) -> float:
        return runner.run(_call(app, count))

    return burst


async def _call(app: ASGIApp, count: int) -> float:
    began = perf_counter()
    for _ in range(count):
        await app(_scope(), _receive, _send)
    return perf_counter() - began


def _scope() -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/orders/42",
        "raw_path": b"/orders/42",
        "query_string": b"page=2",
        "root_path": "",
        "headers": [
            (b"host", b"example.com"),
            (b"user-agent", b"benchmark"),
            (b"accept", b"application/json"),
        ],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
        "state": {},
    }


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Message) -> None:
    """Take the message, as a server does whose client reads quickly."""
