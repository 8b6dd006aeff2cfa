"""`ErrorMiddleware` by direct call: each row of the table "what happens when"."""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from typing import Any

import pytest
import structlog
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse

from errata import ErrorMiddleware, ExceptionHandlers, SafeReport, error_response
from errata.testing import MemorySink, failing_app
from tests.asgi import call, http_scope, receive_nothing, respond, websocket_scope


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def sink():
    return MemorySink()


@pytest.fixture(autouse=True)
def logged():
    with structlog.testing.capture_logs() as lines:
        yield lines


async def answered_then(exc, *, status=500, body=b"Internal Server Error", headers=()):
    """Build an app that answers like Starlette and raises afterwards."""

    async def app(scope, receive, send):
        raw = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})
        raise exc

    return app


# ── before the start ────────────────────────────────────────────────────────────────────


async def test_unhandled_exception_is_answered_reported_and_logged_once(sink, logged):
    """One id stands in the body, the header, the report and the log line."""
    app = ErrorMiddleware(failing_app(ValueError("secret text")), report_to=[sink])
    answer = await call(app, http_scope("/orders/7", method="POST"))
    (report,) = sink.reports
    (line,) = logged
    assert answer.raised is None
    assert answer.status == 500
    assert answer.json == {
        "error": "Internal server error",
        "code": "server_error",
        "error_id": report.error_id,
    }
    assert answer.headers["x-error-id"] == report.error_id == line["error_id"]
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert b"secret text" not in answer.body
    assert (report.phase, report.status, report.handled) == ("request", 500, False)
    assert report.failure.type == "ValueError"
    assert report.failure.message == "secret text"
    assert "ValueError: secret text" in line["exception"]
    expected = {
        "log_level": "error",
        "exc_type": "ValueError",
        "message": "secret text",
        "method": "POST",
        "path": "/orders/7",
        "status": 500,
        "phase": "request",
        "client_ip": "127.0.0.1",
    }
    assert {key: line[key] for key in expected} == expected
    assert 0 < line["duration"] < 10


async def test_successful_request_is_untouched(sink, logged):
    """What a healthy app sends arrives as the very same messages."""
    start = {"type": "http.response.start", "status": 200, "headers": []}
    body = {"type": "http.response.body", "body": b"ok"}

    async def app(scope, receive, send):
        await send(start)
        await send(body)

    answer = await call(ErrorMiddleware(app, report_to=[sink]), http_scope())
    assert [
        message is sent for message, sent in zip(answer.messages, (start, body), strict=False)
    ] == [True] * 2
    assert sink.reports == logged == []


@pytest.mark.parametrize("passing", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
async def test_base_exceptions_pass_through(sink, logged, passing):
    """Cancellation and the end of the process are nobody's error."""
    app = ErrorMiddleware(failing_app(passing()), report_to=[sink])
    with pytest.raises(passing):
        await call(app, http_scope())
    assert sink.reports == logged == []


async def test_group_with_a_cancellation_passes_through(sink):
    """A group that holds a cancellation is not an error of the app."""
    group = BaseExceptionGroup("g", [asyncio.CancelledError(), ValueError("x")])
    with pytest.raises(BaseExceptionGroup):
        await call(ErrorMiddleware(failing_app(group), report_to=[sink]), http_scope())
    assert sink.reports == []


async def test_app_that_returns_without_a_response_is_an_error(sink):
    """An app that forgets to answer gives a 500 and a report."""

    async def silent(scope, receive, send):
        pass

    answer = await call(ErrorMiddleware(silent, report_to=[sink]), http_scope())
    assert answer.status == 500
    assert sink.reports[0].failure.type == "ASGIProtocolError"


async def test_client_that_left_gets_nothing_and_is_no_error(sink, logged):
    """A disconnect is counted, not reported."""
    from starlette.requests import ClientDisconnect

    app = ErrorMiddleware(failing_app(ClientDisconnect()), report_to=[sink])
    answer = await call(app, http_scope())
    assert answer.messages == []
    assert app.disconnects == 1
    assert sink.reports == logged == []


async def test_silent_return_after_a_disconnect_is_no_error(sink):
    """An app that returns because the client has gone needs no answer."""

    async def waits(scope, receive, send):
        assert (await receive())["type"] == "http.disconnect"

    app = ErrorMiddleware(waits, report_to=[sink])
    answer = await call(app, http_scope(), [{"type": "http.disconnect"}])
    assert answer.messages == sink.reports == []


async def test_os_error_of_the_servers_send_is_a_disconnect(sink):
    """ASGI servers raise an OSError from send when the client has gone."""

    async def send(message):
        raise BrokenPipeError

    async def receive():
        return {"type": "http.request"}

    app = ErrorMiddleware(respond(), report_to=[sink])
    await app(http_scope(), receive, send)
    assert app.disconnects == 1
    assert sink.reports == []


async def test_os_error_of_the_app_is_an_error(sink):
    """A missing file is the app's own fault, although it is an OSError as well."""
    app = ErrorMiddleware(failing_app(FileNotFoundError("x")), report_to=[sink])
    assert (await call(app, http_scope())).status == 500
    assert app.disconnects == 0
    assert len(sink.reports) == 1


# ── after the start ─────────────────────────────────────────────────────────────────────


async def test_error_in_a_stream_aborts_it(sink):
    """The exception goes out to the server, which then cuts the connection."""
    error = ValueError("x")
    answer = await call(
        ErrorMiddleware(failing_app(error, at="streaming"), report_to=[sink]), http_scope()
    )
    assert answer.raised is error
    assert not answer.complete
    assert (sink.reports[0].phase, sink.reports[0].status) == ("streaming", 200)


async def test_error_after_the_response_is_only_reported(sink):
    """A background task's failure changes nothing for the client."""
    app = ErrorMiddleware(failing_app(ValueError("x"), at="background"), report_to=[sink])
    answer = await call(app, http_scope())
    assert answer.raised is None
    assert (answer.status, answer.body, answer.complete) == (200, b"begun", True)
    assert (sink.reports[0].phase, sink.reports[0].status) == ("background", 200)


async def test_end_of_a_failed_stream_is_never_sent(sink):
    """A middleware that closes the body properly before it raises fools no client."""

    async def closes_then_raises(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        raise ValueError("x")

    answer = await call(ErrorMiddleware(closes_then_raises, report_to=[sink]), http_scope())
    assert isinstance(answer.raised, ValueError)
    assert answer.body == b"one"
    assert not answer.complete
    assert sink.reports[0].phase == "streaming"


async def test_end_of_a_good_stream_does_not_wait_for_the_background(sink):
    """The body's end reaches the client while a background task still works."""
    done, release = asyncio.Event(), asyncio.Event()

    async def streams(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        await release.wait()

    messages = []

    async def send(message):
        messages.append(message)
        if not message.get("more_body", True):
            done.set()

    async def receive():
        return {"type": "http.request"}

    task = asyncio.create_task(ErrorMiddleware(streams)(http_scope(), receive, send))
    async with asyncio.timeout(5):
        await done.wait()
        assert not task.done()
        release.set()
        await task
    assert len(messages) == 3


@pytest.mark.parametrize("status", [200, 503])
async def test_trailers_follow_the_end_of_the_body(status):
    """Trailers stay behind the deferred end of a streamed body, and behind a held answer."""

    async def with_trailers(scope, receive, send):
        start = {"type": "http.response.start", "status": status, "headers": [], "trailers": True}
        await send(start)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        await send({"type": "http.response.trailers", "headers": [(b"x", b"1")]})

    messages = []

    async def send(message):
        messages.append(message["type"])

    scope = http_scope(extensions={"http.response.trailers": {}})
    await ErrorMiddleware(with_trailers)(scope, receive_nothing, send)
    assert messages[-2:] == ["http.response.body", "http.response.trailers"]


# ── held answers ────────────────────────────────────────────────────────────────────────


async def test_default_500_of_a_framework_that_raises_is_replaced(sink):
    """Starlette answers first and raises then: the client gets our answer, with its headers."""
    headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", "21"),
        ("access-control-allow-origin", "*"),
        ("vary", "Origin"),
        ("x-request-id", "abc"),
        ("set-cookie", "a=1"),
    ]
    app = ErrorMiddleware(await answered_then(ValueError("x"), headers=headers), report_to=[sink])
    answer = await call(app, http_scope())
    assert answer.raised is None
    assert answer.json["error_id"] == sink.reports[0].error_id
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["vary"] == "Origin"
    assert answer.headers["x-request-id"] == "abc"
    assert answer.headers["set-cookie"] == "a=1"


async def test_own_500_of_an_app_that_raises_stays(sink):
    """An answer that the app wrote itself arrives byte for byte; only the id is added."""
    headers = [("content-type", "application/json"), ("x-own", "1")]
    app = ErrorMiddleware(
        await answered_then(ValueError("x"), body=b'{"mine": true}', headers=headers),
        report_to=[sink],
    )
    answer = await call(app, http_scope())
    assert answer.body == b'{"mine": true}'
    raw = [(name.encode(), value.encode()) for name, value in headers]
    error_id = sink.reports[0].error_id.encode()
    assert answer.start["headers"] == [*raw, (b"x-error-id", error_id)]


async def test_handler_takes_the_place_of_an_own_500(sink):
    """A handler of ours that claims the exception goes before the app's own answer."""
    app = ErrorMiddleware(await answered_then(ValueError("x"), body=b"mine"), report_to=[sink])

    @app.exception_handler(ValueError)
    async def handler(request, exc):
        return error_response(409, "ours")

    answer = await call(app, http_scope())
    assert (answer.status, answer.json) == (409, {"error": "ours"})
    assert sink.reports == []


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_own_error_answer_without_an_exception_is_untouched(sink, status):
    """A deliberate error answer is the app's business: same messages, no report."""
    app = ErrorMiddleware(respond(status, b"maintenance", {"x-own": "1"}), report_to=[sink])
    answer = await call(app, http_scope())
    assert answer.messages == [
        {"type": "http.response.start", "status": status, "headers": [(b"x-own", b"1")]},
        {"type": "http.response.body", "body": b"maintenance"},
    ]
    assert sink.reports == []


async def test_default_500_without_an_exception_is_unexplained(sink):
    """A framework that swallowed its exception is still found out."""
    app = ErrorMiddleware(respond(500, b"Internal Server Error"), report_to=[sink])
    answer = await call(app, http_scope())
    (report,) = sink.reports
    assert answer.headers["x-error-id"] == report.error_id
    assert report.mechanism == "unexplained"


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_default_gateway_errors_are_answered_but_not_reported(sink, status):
    """A default 502 to 504 is an upstream's trouble or a pause: negotiated, no report."""
    app = ErrorMiddleware(respond(status, b"", {"retry-after": "3"}), report_to=[sink])
    answer = await call(app, http_scope())
    assert answer.status == status
    assert answer.json["code"] in {"bad_gateway", "service_unavailable", "gateway_timeout"}
    assert answer.headers["retry-after"] == "3"
    assert sink.reports == []


async def test_default_503_may_have_a_handler_and_is_no_error(sink):
    """A handler for 503 dresses the pause up; nobody is told of it."""
    app = ErrorMiddleware(respond(503, b""), report_to=[sink], report_handled=True)
    app.exception_handler(503)(lambda request, exc: error_response(503, "back soon"))
    assert (await call(app, http_scope())).json == {"error": "back soon"}
    assert sink.reports == []


async def test_event_stream_is_never_held_back():
    """A 5xx event stream flows while the app goes on."""
    arrived = asyncio.Event()

    async def streams(scope, receive, send):
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.wait_for(arrived.wait(), 5)
        await send({"type": "http.response.body", "body": b""})

    async def send(message):
        if message.get("body"):
            arrived.set()

    await ErrorMiddleware(streams)(http_scope(), receive_nothing, send)
    assert arrived.is_set()


async def test_long_error_answer_is_released():
    """Over 64 KiB an answer cannot be a default: it passes whole and in order."""
    chunks = [bytes([65 + number]) * 30_000 for number in range(4)]

    async def long(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    answer = await call(ErrorMiddleware(long), http_scope())
    assert answer.body == b"".join(chunks) + b"end"
    assert answer.complete


async def test_held_answer_does_not_wait_for_the_background():
    """A deliberate 503 reaches the client while the app goes on with its background task."""
    arrived, release = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await respond(503, b"maintenance")(scope, receive, send)
        await release.wait()

    async def send(message):
        if message["type"] == "http.response.body":
            arrived.set()

    task = asyncio.create_task(ErrorMiddleware(app)(http_scope(), receive_nothing, send))
    async with asyncio.timeout(5):
        await arrived.wait()
        assert not task.done()
        release.set()
        await task


# ── handlers ────────────────────────────────────────────────────────────────────────────


async def test_handler_answers_and_nothing_is_reported(sink, logged):
    """A claimed exception answered below 500 is no error."""
    app = ErrorMiddleware(failing_app(KeyError("x")), report_to=[sink])

    @app.exception_handler(LookupError)
    def handler(request, exc):
        return error_response(404, "gone", code="gone", headers={"retry-after": "9"})

    answer = await call(app, http_scope())
    assert (answer.status, answer.json) == (404, {"error": "gone", "code": "gone"})
    assert answer.headers["retry-after"] == "9"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-error-id"]
    assert sink.reports == logged == []


async def test_report_handled_reports_what_handlers_answer(sink):
    """With report_handled a claimed exception is reported as handled, with its status."""
    app = ErrorMiddleware(failing_app(KeyError("x")), report_to=[sink], report_handled=True)
    app.exception_handler(KeyError)(lambda request, exc: error_response(404, "gone"))
    await call(app, http_scope())
    assert (sink.reports[0].handled, sink.reports[0].status) == (True, 404)


async def test_handler_that_answers_500_is_reported(sink):
    """A handler may dress a 500 up, but it is still an error."""
    app = ErrorMiddleware(failing_app(KeyError("x")), report_to=[sink])
    app.exception_handler(Exception)(lambda request, exc: error_response(500, request.error_id))
    answer = await call(app, http_scope())
    assert answer.json["error"] == sink.reports[0].error_id == answer.headers["x-error-id"]
    assert sink.reports[0].handled


def raising(request, exc):
    raise RuntimeError("handler")


async def raising_async(request, exc):
    raise RuntimeError("handler")


def returning_none(request, exc):
    return None


async def returning_a_number(request, exc):
    return 7


def returning_no_asgi_app(request, exc):
    return lambda: None


@pytest.mark.parametrize(
    "handler", [raising, raising_async, returning_none, returning_a_number, returning_no_asgi_app]
)
async def test_failing_handler_gives_one_report_with_both_errors(sink, logged, handler):
    """The client gets the generic 500; the report holds the handler's error and the app's."""
    app = ErrorMiddleware(failing_app(KeyError("first")), report_to=[sink])
    app.exception_handler(KeyError)(handler)
    answer = await call(app, http_scope())
    (report,) = sink.reports
    assert len(logged) == 1
    assert answer.status == 500
    assert answer.json["error_id"] == report.error_id
    link, types = report.failure, []
    while link is not None:
        types.append(link.type)
        link = link.cause or link.context
    assert types[-1] == "KeyError"
    assert len(types) >= 2


async def test_handler_whose_answer_breaks_off_aborts(sink):
    """An answer of a handler that fails after its start is never taken for a whole one."""

    async def half(scope, receive, send):
        await send({"type": "http.response.start", "status": 409, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("broken")

    error = KeyError("x")
    app = ErrorMiddleware(failing_app(error), report_to=[sink])
    app.exception_handler(KeyError)(lambda request, exc: half)
    answer = await call(app, http_scope())
    assert answer.raised is error
    assert not answer.complete
    assert len(sink.reports) == 1


async def test_default_404_is_dispatched_to_its_handler():
    """A framework's own 404 reaches the handler for 404, as an HTTPException with its headers."""
    app = ErrorMiddleware(respond(404, b"Not Found", {"x-request-id": "abc"}))
    seen = []

    @app.exception_handler(404)
    async def handler(request, exc):
        seen.append(exc)
        return error_response(404, "nowhere")

    answer = await call(app, http_scope())
    assert answer.json == {"error": "nowhere"}
    assert answer.headers["x-request-id"] == "abc"
    assert isinstance(seen[0], HTTPException)
    assert (seen[0].status_code, seen[0].detail) == (404, "Not Found")


async def test_default_405_keeps_allow():
    """The header that tells the right methods survives."""
    app = ErrorMiddleware(respond(405, b"Method Not Allowed", {"allow": "GET"}))
    app.exception_handler(HTTPException)(lambda request, exc: error_response(405, "no"))
    answer = await call(app, http_scope())
    assert (answer.json, answer.headers["allow"]) == ({"error": "no"}, "GET")


@pytest.mark.parametrize("key", [Exception, 405, ValueError])
async def test_default_404_is_untouched_by_other_handlers(key):
    """Neither the catch-all nor another status takes a framework's 404."""
    app = ErrorMiddleware(respond(404, b"Not Found"))
    app.exception_handler(key)(lambda request, exc: error_response(500, "no"))
    assert (await call(app, http_scope())).body == b"Not Found"


async def test_own_404_is_untouched_by_its_handler():
    """What the app wrote itself is never dispatched."""
    app = ErrorMiddleware(respond(404, b'{"detail":"Item not found"}'))
    app.exception_handler(404, HTTPException)(lambda request, exc: error_response(404, "no"))
    assert (await call(app, http_scope())).body == b'{"detail":"Item not found"}'


@pytest.mark.parametrize("headers", [None, {"retry-after": "3"}])
async def test_unclaimed_http_exception_below_500_answers_as_itself(sink, headers):
    """Its status, detail and headers are the answer; it is no error."""
    app = ErrorMiddleware(failing_app(HTTPException(429, "slow down", headers)), report_to=[sink])
    answer = await call(app, http_scope())
    assert (answer.status, answer.json["error"]) == (429, "slow down")
    assert answer.json["code"] == "too_many_requests"
    assert answer.headers.get("retry-after") == (headers or {}).get("retry-after")
    assert answer.headers["x-error-id"]
    assert sink.reports == []


async def test_unclaimed_http_exception_from_500_shows_no_detail(sink):
    """Status and headers are its own, the body is the generic one, and it is reported."""
    exc = HTTPException(503, "db at 10.0.0.7 is down", {"retry-after": "3"})
    answer = await call(ErrorMiddleware(failing_app(exc), report_to=[sink]), http_scope())
    assert (answer.status, answer.headers["retry-after"]) == (503, "3")
    assert b"10.0.0.7" not in answer.body
    assert sink.reports[0].status == 503


async def test_code_of_another_exception_is_no_status(sink):
    """An upstream client's `code` or `status_code` is not ours."""

    class UpstreamError(Exception):
        code = status_code = 404

    answer = await call(
        ErrorMiddleware(failing_app(UpstreamError()), report_to=[sink]), http_scope()
    )
    assert answer.status == 500
    assert len(sink.reports) == 1


# ── groups ──────────────────────────────────────────────────────────────────────────────


def group(*leaves):
    return ExceptionGroup("several", list(leaves))


async def group_answer(exc, handlers=None, sink=None):
    app = ErrorMiddleware(failing_app(exc), handlers=handlers, report_to=[sink] if sink else [])
    return await call(app, http_scope())


async def test_group_of_one_answers_as_its_leaf(sink):
    """A task group around one HTTPException(418) answers 418, however deep, without a report."""
    answer = await group_answer(group(group(HTTPException(418))), sink=sink)
    assert answer.status == 418
    assert sink.reports == []


async def test_handler_for_the_group_class_comes_first():
    """A handler that is registered for groups gets the whole group."""
    handlers = ExceptionHandlers()
    seen = []

    @handlers.exception_handler(ExceptionGroup)
    async def whole(request, exc):
        seen.append(exc)
        return error_response(400, "group")

    handlers.exception_handler(ValueError)(lambda request, exc: error_response(409, "leaf"))
    error = group(ValueError("a"))
    assert (await group_answer(error, handlers)).json == {"error": "group"}
    assert seen == [error]


async def test_highest_status_answers_when_every_leaf_is_claimed():
    """Each leaf's handler is asked, and the gravest answer is given."""
    handlers = ExceptionHandlers()
    handlers.exception_handler(ValueError)(lambda request, exc: error_response(409, "value"))
    handlers.exception_handler(KeyError)(lambda request, exc: error_response(422, "key"))
    handlers.exception_handler(Exception)(lambda request, exc: error_response(500, "all"))
    answer = await group_answer(group(ValueError(), group(KeyError(), ValueError())), handlers)
    assert (answer.status, answer.json) == (422, {"error": "key"})


async def test_group_with_an_unclaimed_leaf_goes_to_the_catch_all(sink):
    """One leaf that nobody knows makes the group a matter of the catch-all."""
    handlers = ExceptionHandlers()
    handlers.exception_handler(ValueError)(lambda request, exc: error_response(409, "value"))
    handlers.exception_handler(Exception)(lambda request, exc: error_response(500, "all"))
    answer = await group_answer(group(ValueError(), OSError()), handlers, sink)
    assert answer.json == {"error": "all"}
    assert [member.type for member in sink.reports[0].failure.members] == ["ValueError", "OSError"]


async def test_unclaimed_group_is_a_generic_500(sink):
    """Without handlers the whole tree is in the report."""
    answer = await group_answer(group(ValueError(), group(KeyError())), sink=sink)
    assert answer.status == 500
    assert sink.reports[0].failure.members[1].members[0].type == "KeyError"


# ── raise_unhandled, nesting, marks ─────────────────────────────────────────────────────


@pytest.mark.parametrize("exc", [ValueError("x"), HTTPException(404), HTTPException(503)])
async def test_raise_unhandled_raises_after_the_answer(exc):
    """What nobody claimed goes out again, once the client has its answer."""
    answer = await call(ErrorMiddleware(failing_app(exc), raise_unhandled=True), http_scope())
    assert answer.raised is exc
    assert answer.complete


async def test_raise_unhandled_keeps_claimed_exceptions(sink):
    """A handler's exception stays in."""
    app = ErrorMiddleware(failing_app(KeyError("x")), raise_unhandled=True)
    app.exception_handler(KeyError)(lambda request, exc: error_response(404, "gone"))
    assert (await call(app, http_scope())).raised is None


@pytest.mark.parametrize("at", ["request", "streaming", "background"])
@pytest.mark.parametrize("raise_unhandled", [False, True])
async def test_nested_twice_reports_once(at, raise_unhandled, logged):
    """Two middlewares around one app share its error."""
    inner, outer = MemorySink(), MemorySink()
    app = ErrorMiddleware(
        ErrorMiddleware(
            failing_app(ValueError("x"), at=at), report_to=[inner], raise_unhandled=raise_unhandled
        ),
        report_to=[outer],
    )
    answer = await call(app, http_scope())
    assert (len(inner.reports), len(outer.reports), len(logged)) == (1, 0, 1)
    if at == "request":
        assert answer.headers["x-error-id"] == inner.reports[0].error_id


async def test_same_exception_object_raised_again_is_a_new_error(sink):
    """A module-level singleton is reported each time that it is raised."""
    app = ErrorMiddleware(failing_app(ValueError("singleton")), report_to=[sink])
    first, second = await call(app, http_scope()), await call(app, http_scope())
    ids = [report.error_id for report in sink.reports]
    assert ids == [first.headers["x-error-id"], second.headers["x-error-id"]]
    assert len(set(ids)) == 2


async def test_error_wrapped_in_a_group_on_the_way_out_is_the_same(logged):
    """A task group between two middlewares does not make a second error of it."""
    sinks = MemorySink(), MemorySink()
    inner = ErrorMiddleware(failing_app(ValueError("x"), at="streaming"), report_to=[sinks[0]])

    async def wraps(scope, receive, send):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(inner(scope, receive, send))

    await call(ErrorMiddleware(wraps, report_to=[sinks[1]]), http_scope())
    assert [len(sink.reports) for sink in sinks] == [1, 0]


async def test_nothing_is_kept_alive():
    """After the request neither the exception nor a local of its frames lives on."""

    class Witness:
        pass

    class WitnessError(Exception):
        witness = None

    references: list[Any] = []

    async def fails(scope, receive, send):
        witness = Witness()
        error = WitnessError("x")
        references.extend([weakref.ref(witness), weakref.ref(error)])
        error.witness = witness
        raise error

    app = ErrorMiddleware(fails, report_to=[MemorySink()])
    await call(app, http_scope())
    gc.collect()
    assert [reference() for reference in references] == [None, None]


# ── websockets ──────────────────────────────────────────────────────────────────────────


async def test_websocket_before_accept_gets_a_denial_response(sink):
    """Where the server can, the handshake is refused with a whole HTTP answer."""
    app = ErrorMiddleware(failing_app(ValueError("x")), report_to=[sink])
    answer = await call(app, websocket_scope())
    assert answer.types == ["websocket.http.response.start", "websocket.http.response.body"]
    assert answer.json["error_id"] == sink.reports[0].error_id
    assert sink.reports[0].phase == "websocket_handshake"
    assert sink.reports[0].request.method == "WEBSOCKET"


async def test_websocket_before_accept_is_closed_without_the_extension(sink):
    """Where the server cannot, it is closed with 1011."""
    app = ErrorMiddleware(failing_app(ValueError("x")), report_to=[sink])
    answer = await call(app, websocket_scope(denial=False))
    assert answer.messages == [{"type": "websocket.close", "code": 1011, "reason": ""}]
    assert len(sink.reports) == 1


@pytest.mark.parametrize(("denial", "expected"), [(True, 403), (False, 1008)])
async def test_websocket_handler_refuses_the_handshake(denial, expected):
    """A handler answers a failed handshake like any request."""
    app = ErrorMiddleware(failing_app(PermissionError("x")))

    @app.exception_handler(PermissionError)
    async def refused(request, exc):
        assert request.url.path == "/ws"
        assert await request.body() == b""
        return PlainTextResponse("no", 403)

    answer = await call(app, websocket_scope(denial=denial))
    assert answer.messages[0].get("status", answer.messages[0].get("code")) == expected


async def test_websocket_after_accept_is_closed_with_a_generic_reason(sink):
    """The close tells the id and nothing of the exception."""
    app = ErrorMiddleware(failing_app(ValueError("secret"), at="streaming"), report_to=[sink])
    answer = await call(app, websocket_scope())
    close = answer.messages[-1]
    assert (close["type"], close["code"]) == ("websocket.close", 1011)
    assert close["reason"] == f"Internal server error {sink.reports[0].error_id}"
    assert len(close["reason"].encode()) <= 123
    assert sink.reports[0].phase == "websocket"


async def test_websocket_client_that_left_is_no_error(sink):
    """A disconnect that the app lets fall is counted, not reported."""
    from starlette.websockets import WebSocketDisconnect

    app = ErrorMiddleware(failing_app(WebSocketDisconnect(), at="streaming"), report_to=[sink])
    answer = await call(app, websocket_scope())
    assert answer.types == ["websocket.accept"]
    assert app.disconnects == 1
    assert sink.reports == []


# ── lifespan ────────────────────────────────────────────────────────────────────────────


async def lifespan(app, *incoming):
    messages = []
    queue = list(incoming)

    async def receive():
        return queue.pop(0)

    async def send(message):
        messages.append(message)

    await app({"type": "lifespan"}, receive, send)
    return messages


async def test_lifespan_failure_is_reported_and_raised(sink):
    """A startup that fails is reported, its sinks are flushed, and it fails."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "Traceback: secret"})
        raise ValueError("secret")

    with pytest.raises(ValueError, match="secret"):
        await lifespan(ErrorMiddleware(app, report_to=[sink]), {"type": "lifespan.startup"})
    assert sink.reports[0].phase == "lifespan"


async def test_app_without_lifespan_is_no_error(sink):
    """An app that refuses the scope before it receives has no lifespan, and no error."""
    with pytest.raises(ValueError, match="x"):
        await lifespan(ErrorMiddleware(failing_app(ValueError("x")), report_to=[sink]))
    assert sink.reports == []


async def test_shutdown_waits_for_the_sinks():
    """The end of the shutdown comes after the last report has been delivered."""
    order = []

    async def slow(report: SafeReport) -> None:
        await asyncio.sleep(0.05)
        order.append("delivered")

    async def app(scope, receive, send):
        if scope["type"] == "http":
            raise ValueError("x")
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    wrapped = ErrorMiddleware(app, report_to=[slow])
    await call(wrapped, http_scope())
    messages = await lifespan(wrapped, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert order == ["delivered"]
    assert messages[-1]["type"] == "lifespan.shutdown.complete"


# ── any app, any configuration ──────────────────────────────────────────────────────────


class Asgi3Class:
    async def __call__(self, scope, receive, send):
        raise ValueError("x")


class Asgi2Class:
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        raise ValueError("x")


def asgi2_function(scope):
    async def instance(receive, send):
        raise ValueError("x")

    return instance


def plain_function(scope, receive, send):
    return failing_app(ValueError("x"))(scope, receive, send)


async def asgi3_function(extra, scope, receive, send):
    raise ValueError("x")


@pytest.mark.parametrize(
    "app",
    [
        Asgi3Class(),
        Asgi3Class().__call__,
        Asgi2Class,
        asgi2_function,
        plain_function,
        functools.partial(asgi3_function, "extra"),
    ],
)
async def test_every_shape_of_app_is_wrapped(sink, app):
    """ASGI 3 and ASGI 2, classes, instances, functions and partials fail alike."""
    answer = await call(ErrorMiddleware(app, report_to=[sink]), http_scope())
    assert answer.status == 500
    assert sink.reports[0].failure.type == "ValueError"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"body_limit": -1}, ValueError, "body_limit is -1"),
        ({"body_limit": "many"}, ValueError, "body_limit is 'many'"),
        ({"report_to": print}, TypeError, "report_to"),
        ({"report_to": [7]}, TypeError, "7"),
        ({"handlers": {ValueError: print}}, TypeError, "handlers"),
        ({"redactor": print}, TypeError, "redactor"),
        ({"debug_clients": ["10.0.0.0/99"]}, ValueError, "10.0.0.0/99"),
        ({"trusted_proxies": ["10.0.0.0/99"]}, ValueError, "10.0.0.0/99"),
        ({"editor": "notepad"}, ValueError, "notepad"),
        ({"templates": "/does/not/exist"}, ValueError, "/does/not/exist"),
    ],
)
async def test_bad_configuration_fails_at_construction(options, error, words):
    """Each wrong option is one clear error that names the value."""
    with pytest.raises(error) as caught:
        ErrorMiddleware(respond(), **options)
    assert words in str(caught.value)


def two_arguments(scope, receive):
    """Take what no version of ASGI gives."""


@pytest.mark.parametrize("app", [None, 7, "app", lambda: None, two_arguments])
async def test_what_is_no_asgi_app_is_refused(app):
    """Something that cannot be an ASGI app fails at construction."""
    with pytest.raises(TypeError, match="app"):
        ErrorMiddleware(app)


async def test_head_gets_no_body(sink):
    """HEAD has the headers of the answer, its length too, and no body."""
    app = ErrorMiddleware(failing_app(ValueError("x")), report_to=[sink])
    answer = await call(app, http_scope(method="HEAD"))
    assert answer.body == b""
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("application/problem+json", "application/problem+json"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/markdown, text/plain;q=0.5", "text/markdown; charset=utf-8"),
        ("image/png", "application/json"),
    ],
)
async def test_answer_is_negotiated(accept, content_type):
    """The client gets what it accepts, with the error id in it."""
    headers = {"accept": accept} if accept else {}
    answer = await call(
        ErrorMiddleware(failing_app(ValueError("secret"))), http_scope(headers=headers)
    )
    assert answer.headers["content-type"] == content_type
    assert answer.headers["x-error-id"].encode() in answer.body
    assert b"secret" not in answer.body
    assert b"ValueError" not in answer.body


async def test_problem_json_is_the_json_everywhere():
    """With problem_json JSON clients get RFC 9457."""
    app = ErrorMiddleware(failing_app(ValueError("x")), problem_json=True)
    answer = await call(app, http_scope(headers={"accept": "application/json"}))
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json["status"], answer.json["title"]) == (500, "Internal Server Error")


async def test_templates_answer_errors_and_default_404s(tmp_path):
    """The user's pages answer for HTML: our 500, and the framework's 404; JSON stays."""
    (tmp_path / "404.html").write_text("<p>lost: {{ path }}</p>")
    (tmp_path / "error.html").write_text("<p>{{ status }} {{ message }} {{ error_id }}</p>")
    html = {"accept": "text/html"}
    missing = ErrorMiddleware(respond(404, b"Not Found"), templates=tmp_path)
    page = await call(missing, http_scope("/<x>", headers=html))
    assert (page.status, page.body) == (404, b"<p>lost: /&lt;x&gt;</p>")
    assert (await call(missing, http_scope())).body == b"Not Found"
    failing = ErrorMiddleware(failing_app(ValueError("x")), templates=tmp_path)
    page = await call(failing, http_scope(headers=html))
    assert page.headers["x-error-id"] in page.body.decode()


async def test_redactor_sees_every_report(sink):
    """No sink gets what the redactor has not passed; one that fails shows nothing."""
    from errata import Redactor

    class Broken(Redactor):
        __slots__ = ()

        def report(self, report):
            raise ValueError("broken")

    app = ErrorMiddleware(failing_app(ValueError("secret")), report_to=[sink], redactor=Broken())
    answer = await call(app, http_scope())
    assert answer.headers["x-error-id"] == sink.reports[0].error_id
    assert "secret" not in str(sink.reports[0])


async def test_fault_of_our_own_is_a_plain_500(monkeypatch, sink, caplog):
    """If answering fails the client still gets a 500 and the app's exception stays in."""
    app = ErrorMiddleware(failing_app(ValueError("x")), report_to=[sink])
    monkeypatch.setattr(app.handlers, "claims", lambda exc: 1 / 0)
    answer = await call(app, http_scope())
    assert (answer.status, answer.json) == (500, {"error": "Internal server error"})
    assert "ZeroDivisionError" in caplog.text
    assert "ValueError" in caplog.text
    assert "division by zero" not in caplog.text


async def test_storm_is_thinned_and_counts_exactly(sink, logged):
    """300 equal errors: every answer and line, few reports, and their counts add up."""
    app = ErrorMiddleware(failing_app(ValueError("storm")), report_to=[sink])
    for _ in range(300):
        assert (await call(app, http_scope())).status == 500
    assert len(logged) == 300
    assert all("exception" in line for line in logged[:20])
    assert sum("exception" not in line for line in logged) > 150
    assert await app.drain()
    assert len(sink.reports) < 150
    assert sink.count == 300


async def test_debug_page_is_for_loopback(sink, logged):
    """In debug the page goes to loopback; to others the production answer, and the log says why."""
    app = ErrorMiddleware(failing_app(ValueError("shown")), debug=True, report_to=[sink])
    headers = {"host": "localhost:8000", "accept": "text/html"}
    page = await call(app, http_scope(headers=headers))
    assert b"shown" in page.body
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    away = await call(app, http_scope(headers=headers, client=("203.0.113.9", 1)))
    assert b"shown" not in away.body
    assert "203.0.113.9" in logged[-1]["debug_withheld"]


@pytest.mark.parametrize("accept", ["application/json", "text/plain", "text/markdown"])
async def test_debug_page_speaks_what_the_client_accepts(accept):
    """The details come as JSON, text or markdown too."""
    app = ErrorMiddleware(failing_app(ValueError("shown")), debug=True)
    answer = await call(app, http_scope(headers={"host": "localhost", "accept": accept}))
    assert answer.headers["content-type"].startswith(accept)
    assert b"shown" in answer.body


async def test_add_middleware_and_json_response_work_together():
    """A Starlette response of a sync handler needs nothing special."""
    app = ErrorMiddleware(failing_app(KeyError("x")))
    app.exception_handler(KeyError)(lambda request, exc: JSONResponse({"a": 1}, 418))
    answer = await call(app, http_scope())
    assert (answer.status, answer.json) == (418, {"a": 1})
