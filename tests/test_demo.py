"""The demo and the examples: what they show happens, and what does not is noticed."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import httpx
import pytest
import structlog
from starlette.responses import PlainTextResponse

from errata import ErrorMiddleware
from errata.demo.console import MAX_UNTOLD, Inbox, Terminal, visit_line, welcome
from errata.demo.server import Visit, listen, url_of
from errata.demo.shop import SIGHTS, Database, create_app, create_shop
from errata.demo.steps import STEPS, Answer, Evidence, Expect, Step, complaints
from errata.demo.tour import run
from errata.report import Failure, Frame, Report, RequestInfo, SafeReport
from errata.testing import MemorySink
from examples import bare_asgi, fastapi_app, starlette_stack


BROWSER = {"accept": "text/html"}
BUG = next(step for step in STEPS if step.request == "GET /cart")


# ── errata demo --once ────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_the_tour_finds_everything_as_expected(tmp_path):
    """`errata demo --once` ends with 0, has a line for each step, and leaves nothing behind."""
    # A proxy that does not exist: the environment's must not be asked.
    environment = os.environ | {"TMPDIR": str(tmp_path), "HTTP_PROXY": "http://127.0.0.1:9"}
    result = subprocess.run(
        [sys.executable, "-m", "errata", "demo", "--once"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    for step in STEPS:
        assert any(step.title in line and line.endswith(" ok") for line in lines), step.title
    assert lines[-1].startswith(f"{len(STEPS)} steps in ")
    assert "FAILED" not in result.stdout
    assert "\x1b" not in result.stdout
    assert result.stderr == ""
    assert list(tmp_path.iterdir()) == []


def _without_sinks(database: str, **options: Any) -> Any:
    return create_app(database, **options | {"report_to": ()})


def _with_each_sink_twice(database: str, *, debug: bool, report_to: Any) -> Any:
    return create_app(database, debug=debug, report_to=[*report_to, *report_to])


def _talkative(database: str, **options: Any) -> Any:
    app = create_app(database, **options)
    app.handlers.add(Exception, lambda request, exc: PlainTextResponse(str(exc), 500))
    return app


def _silent(database: str, **options: Any) -> Any:
    app = create_app(database, **options)
    app.handlers.add(Exception, lambda request, exc: PlainTextResponse("", 200))
    return app


@pytest.mark.parametrize(
    ("create", "step", "complaint"),
    [
        (_without_sinks, BUG, "0 errors reported, not 1"),
        (_with_each_sink_twice, BUG, "2 errors reported, not 1"),
        (_talkative, BUG, "the answer discloses 'no exchange rate for CHF'"),
        (_silent, BUG, "status: 200, not 500"),
        (_silent, BUG, "0 log lines, not 1"),
        (create_app, replace(BUG, expect=Expect(404)), "status: 500, not 404"),
        (create_app, replace(BUG, request="GET http://127.0.0.1:1/"), "ConnectError"),
        (create_app, replace(BUG, request="WS /cart"), "content type"),
    ],
)
def test_the_tour_notices_what_is_wrong(create, step, complaint):
    """Whatever is not as expected is named on its line, and the exit code is 1."""
    out = io.StringIO()
    assert run(out, steps=[step], create=create) == 1
    (line,) = (line for line in out.getvalue().splitlines() if line.lstrip().startswith("a bug"))
    assert "FAILED: " in line
    assert complaint in line
    assert "1 FAILED" in out.getvalue().splitlines()[-1]


def test_the_tour_notices_what_a_shutdown_loses(monkeypatch):
    """Nobody but the shutdown delivers what the last step has left: if it forgets, that shows."""

    def create(database: str, **options: Any) -> Any:
        app = create_app(database, **options)

        async def forget(seconds: float = 0) -> bool:
            return True

        monkeypatch.setattr(app, "drain", forget)
        return app

    # Every report waits to be collected, as most in a storm do.
    monkeypatch.setattr("errata.storms.WHOLE", 0)
    out = io.StringIO()
    assert run(out, steps=[replace(BUG, times=2)], create=create) == 1
    assert "FAILED: 0 errors reported, not 2" in out.getvalue()
    assert run(out, steps=[replace(BUG, times=2)]) == 0


def test_the_tour_notices_what_the_server_logs():
    """An error that is left to the server's log is a failure, although the answer was right."""

    def create(database: str, **options: Any) -> Any:
        return ErrorMiddleware(create_shop(Database(database)), log=False, **options)

    out = io.StringIO()
    step = next(step for step in STEPS if step.request == "GET /export")
    assert run(out, steps=[step], create=create) == 1
    assert "FAILED: the server has something to log: Exception in ASGI app" in out.getvalue()


def test_the_tour_leaves_the_process_as_it_was():
    """Logging is configured, threads are at work and sockets open only as long as it runs."""
    config, level = structlog.get_config(), logging.getLogger("errata.demo").level
    handlers = list(logging.getLogger("uvicorn.error").handlers)
    assert run(io.StringIO(), steps=[BUG]) == 0
    assert structlog.get_config() == config
    assert logging.getLogger("errata.demo").level == level
    assert logging.getLogger("uvicorn.error").handlers == handlers
    assert not [each for each in threading.enumerate() if each.name == "errata-demo"]


def test_the_tour_keeps_a_database_that_is_named(tmp_path):
    """A path that is given is used, and stays."""
    path = tmp_path / "shop.db"
    assert run(io.StringIO(), database=str(path), steps=[BUG]) == 0
    assert path.read_bytes().startswith(b"SQLite format 3")


# ── the checks ────────────────────────────────────────────────────────────────────────────

ID = "a" * 32
OTHER_ID = "b" * 32
STEP = Step("a step", "GET /", Expect(500, body=None, shows=("Internal",), reported="ValueError"))
BODY = b'{"error":"Internal server error","error_id":"%s"}' % ID.encode()
HEADERS = {"content-type": "application/json", "x-error-id": ID}
ANSWER = Answer(500, HEADERS, BODY)
REQUEST = RequestInfo(method="GET", path="/")
REPORT = Report(
    error_id=ID,
    failure=Failure(
        type="ValueError",
        module="builtins",
        message="too dear",
        cause=Failure(type="KeyError", module="builtins", message="'CHF'"),
    ),
    request=REQUEST,
)
GOOD = Evidence(step=STEP, answers=[ANSWER], reports=[SafeReport(REPORT)], log=[{"error_id": ID}])


def _answers(**changes: Any) -> Evidence:
    return replace(GOOD, answers=[replace(ANSWER, **changes)])


def _reports(*reports: Report) -> Evidence:
    return replace(GOOD, reports=[SafeReport(report) for report in reports])


def _expects(**changes: Any) -> Evidence:
    return replace(GOOD, step=replace(STEP, expect=replace(STEP.expect, **changes)))


def _with_password(**changes: Any) -> Evidence:
    step = replace(STEP, form={"password": "open-sesame"})
    return replace(_reports(replace(REPORT, **changes)), step=step)


def _frame(**local: Any) -> Failure:
    frame = Frame(file="shop.py", function="login", module="shop", line=1, locals=local)
    return replace(REPORT.failure, frames=(frame,))


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (GOOD, []),
        (_answers(status=200), ["status: 200, not 500"]),
        (
            _answers(headers=HEADERS | {"content-type": "text/html; charset=utf-8"}),
            ["content type: text/html, not application/json"],
        ),
        (_answers(broken=True), ["broken body: True, not False"]),
        (
            _answers(headers={"content-type": "application/json"}),
            ["error id: False, not True", "an answer whose id is in no log line"],
        ),
        (
            _answers(headers=HEADERS | {"x-error-id": OTHER_ID}),
            [
                "an answer whose id is in no log line",
                "an answer whose body does not tell the id of its header",
            ],
        ),
        (_answers(body=BODY[:30]), ["an answer whose body does not tell the id of its header"]),
        (_answers(body=BODY[20:]), ["the body does not show 'Internal'"]),
        (_answers(body=BODY + b"too dear"), ["the answer discloses 'too dear'"]),
        (_answers(body=BODY + b"KeyError"), ["the answer discloses 'KeyError'"]),
        (_answers(headers=HEADERS | {"x": "'CHF'"}), ["the answer discloses \"'CHF'\""]),
        (_expects(body=b"{}"), [f"body: {BODY!r}, not b'{{}}'"]),
        (_expects(headers=(("retry-after", "9"),)), ["retry-after: None, not 9"]),
        (
            _expects(phase="streaming"),
            ["error id: True, not False", "ValueError in request reported"],
        ),
        (
            replace(
                _answers(headers={}, close_code=1011, close_reason=f"Sorry {OTHER_ID}"),
                step=replace(
                    STEP,
                    expect=Expect(500, "", close_code=1011, reported="ValueError", phase="request"),
                ),
            ),
            [
                "error id: False, not True",
                "an answer whose id is in no log line",
                "a close whose reason does not tell the id",
            ],
        ),
        (_reports(), ["0 errors reported, not 1"]),
        (_reports(replace(REPORT, count=2)), ["2 errors reported, not 1"]),
        (_reports(REPORT, REPORT), ["2 errors reported, not 1", "2 reports, more than 1"]),
        (_reports(replace(REPORT, error_id=OTHER_ID)), ["a report whose id is in no log line"]),
        (_reports(replace(REPORT, phase="background")), ["ValueError in background reported"]),
        (
            _with_password(request=replace(REQUEST, body="password=open-sesame")),
            ["the report holds the password"],
        ),
        (_with_password(failure=_frame(given="open-sesame")), ["the report holds the password"]),
        (_with_password(failure=_frame(given="***")), []),
        (replace(GOOD, log=[{"error_id": ID}] * 2), ["2 log lines, not 1"]),
        (
            replace(
                GOOD, answers=[ANSWER, replace(ANSWER, status=200), replace(ANSWER, status=200)]
            ),
            ["status: 200, not 500"],
        ),
    ],
)
def test_every_deviation_has_its_complaint(evidence, expected):
    """A step that went well gives no complaint; each thing that did not gives its own, once."""
    assert complaints(evidence) == expected


# ── the shop ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def client(tmp_path):
    sink = MemorySink()
    app = create_app(tmp_path / "shop.db", debug=True, report_to=[sink])
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=BROWSER)


async def test_the_home_page_leads_to_every_sight(client):
    """Whoever opens the demo in a browser reaches each failure with one click."""
    async with client:
        page = (await client.get("/")).text
    for sight in SIGHTS:
        link = f'href="{sight.path}"' if sight.form is None else f'action="{sight.path}"'
        assert link in page


@pytest.mark.parametrize("sight", [sight for sight in SIGHTS if not sight.answer], ids=str)
async def test_sights_show_the_debug_page(client, sight):
    """What the demo announces as a debug page is one, and tells of the shop's own code."""
    async with client:
        if sight.form is None:
            answer = await client.get(sight.path)
        else:
            answer = await client.post(sight.path, data=sight.form)
    assert answer.status_code == 500
    assert "shop.py" in answer.text


# ── the lines of errata demo ──────────────────────────────────────────────────────────────


STREAMED = replace(REPORT, phase="streaming")
STREAMED_LINE = "reported ValueError (streaming)"


class Screen(io.StringIO):
    """A stream that somebody looks at."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("visit", "reports", "expected"),
    [
        (Visit("GET", "/", 200, "text/html"), [], "GET   /                         200  text/html"),
        (
            Visit("GET", "/cart", 500, "text/html", ID),
            [REPORT],
            "GET   /cart                     500  text/html         aaaaaaaa  reported ValueError",
        ),
        (
            Visit("GET", "/cart", 500, "text/html", ID),
            [],
            "GET   /cart                     500  text/html         aaaaaaaa  answered, counted",
        ),
        (
            Visit("POST", "/pay", 402, "application/json", ID, answered_by="paid"),
            [],
            "POST  /pay                      402  application/json  aaaaaaaa  answered by paid",
        ),
        (
            Visit("GET", "/gone", 410, "application/json", ID),
            [],
            "GET   /gone                     410  application/json  aaaaaaaa  answered",
        ),
        (
            Visit("GET", "/export", 200, "text/csv"),
            [STREAMED],
            f"GET   /export                   200  text/csv          aaaaaaaa  {STREAMED_LINE}",
        ),
        (
            Visit("WS", "/ws", 101, "", close_code=1011),
            [STREAMED],
            (
                "WS    /ws                       101                    aaaaaaaa  closed 1011, "
                f"{STREAMED_LINE}"
            ),
        ),
        (Visit("GET", "/\x1b[2J\n", None), [], "GET   /\\x1b[2J\\n                -"),
        (Visit("GET", "/" + "a" * 99, 200), [], f"GET   /{'a' * 59}… (+40)  200"),
    ],
)
def test_a_line_tells_what_errata_did(visit, reports, expected):
    """One line: method, path, status, type, id and deeds; no request can write on the screen."""
    terminal = Terminal(io.StringIO())
    assert visit_line(visit, [SafeReport(report) for report in reports], terminal) == expected


def test_colours_are_for_a_screen():
    """A terminal gets colours, a file or a pipe plain text."""
    visit = Visit("GET", "/cart", 500)
    assert "\x1b[31m500" in visit_line(visit, [], Terminal(Screen()))
    assert "\x1b" not in visit_line(visit, [], Terminal(io.StringIO()))


def test_the_welcome_names_what_will_be_seen():
    """Every link is there with its address, and promises what this mode shows."""
    terminal = Terminal(io.StringIO())
    debug = "\n".join(welcome("http://127.0.0.1:8000", terminal, debug=True))
    production = "\n".join(welcome("http://127.0.0.1:8000", terminal, debug=False))
    for sight in SIGHTS:
        assert (f"http://127.0.0.1:8000{sight.path} " in debug) == (sight.form is None)
    assert ": the debug page" in debug
    assert ": the debug page" not in production


async def test_the_inbox_gives_each_report_once():
    """A report is told of on its request's line, and nothing piles up."""
    inbox = Inbox()
    other = replace(REPORT, request=RequestInfo(method="GET", path="/other"))
    for report in (REPORT, other, replace(REPORT, request=None)):
        await inbox(SafeReport(report))
    assert inbox.take("/") == [REPORT]
    assert inbox.take("/") == []
    for _ in range(MAX_UNTOLD + 1):
        await inbox(SafeReport(REPORT))
    assert len(inbox.take("/")) == MAX_UNTOLD


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_a_taken_port_is_replaced(host, shown):
    """A port that somebody listens on gives a free one; the address is one for a browser."""
    try:
        first = listen(host)
    except OSError:
        pytest.skip(f"{host} is not to be had here")
    with first, listen(host, first.getsockname()[1]) as second:
        assert first.getsockname()[1] != second.getsockname()[1]
        assert url_of(second) == f"http://{shown}:{second.getsockname()[1]}"


# ── the examples ──────────────────────────────────────────────────────────────────────────


def _client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000")


async def test_the_fastapi_example_answers_and_tells_the_team(capsys):
    """Handlers answer by type and by status; the sink hears of what nobody claimed."""
    async with _client_of(fastapi_app.app) as client:
        sold_out = await client.get("/orders/lamp")
        unknown = await client.get("/nowhere")
        assert capsys.readouterr().out == ""
        bug = await client.get("/report")
    # Without asyncio the sinks run on a thread of their own.
    await fastapi_app.app.drain()
    assert (sold_out.status_code, sold_out.json()) == (
        409,
        {
            "error": "There is no lamp left",
            "code": "out_of_stock",
            "details": {"product": "lamp"},
        },
    )
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert bug.status_code == 500
    assert f"ZeroDivisionError in /report ({bug.json()['error_id']})" in capsys.readouterr().out


@pytest.mark.parametrize("app", [starlette_stack.app, starlette_stack.same_app])
async def test_the_starlette_example_keeps_the_cors_headers(app):
    """With CORS outside of errata a page from elsewhere may read the error and its id."""
    origin = "https://shop.example"
    async with _client_of(app) as client:
        answer = await client.get("/", headers={"origin": origin})
    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-expose-headers"] == "X-Error-ID"
    assert answer.json()["error_id"] == answer.headers["x-error-id"]


async def test_the_bare_example_needs_no_framework():
    """errata goes around a plain ASGI function."""
    async with _client_of(bare_asgi.app) as client:
        assert (await client.get("/hello")).text == "Hello!\n"
        bug = await client.get("/")
    assert (bug.status_code, bug.json()["error"]) == (500, "Internal server error")
