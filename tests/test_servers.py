"""What a client of a real server sees when the app behind errata fails."""

from __future__ import annotations

import json
import logging
import signal
import socket
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import h2.config
import h2.connection
import h2.events
import pytest
import websockets
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from structlog.testing import capture_logs
from websockets.sync.client import connect

from errata import ErrorMiddleware, ExceptionHandlers, error_response
from errata.testing import MemorySink, failing_app
from tests.asgi import Outcome, Server, call, http_scope, respond, websocket_scope
from tests.serving import (
    PATIENCE,
    SERVERS,
    UVICORN,
    Process,
    Records,
    get_request,
    serve,
    serve_process,
    with_lifespan,
)


SECRET = "the text of the exception"
SOON = 0.5
"""Seconds within which a client must have what does not wait for anybody."""
TERMINATOR = b"\r\n0\r\n\r\n"


@pytest.fixture(params=SERVERS)
def server(request) -> str:
    """Name one server after the other."""
    return request.param


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """Collect errata's own log lines."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture(autouse=True)
def _no_fault_of_ours() -> Iterator[None]:
    """Fail a test in which errata complains about itself."""
    complaints = Records()
    logger = logging.getLogger("errata")
    logger.addHandler(complaints)
    yield
    logger.removeHandler(complaints)
    assert complaints.text == ""


def guard(app: Any, **options: Any) -> tuple[ErrorMiddleware, MemorySink]:
    """Return *app* with a lifespan and errata around it, and the sink of its reports."""
    sink = MemorySink()
    return ErrorMiddleware(with_lifespan(app), report_to=[sink], **options), sink


def split(response: bytes) -> tuple[bytes, bytes]:
    """Return the head of a raw response, without its date, and what follows."""
    head, _, body = response.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"date:")]
    return b"\r\n".join(lines), body


def tracebacks(lines: list[Any], served: Any) -> int:
    """Count the tracebacks in errata's log and in the server's."""
    return sum("exception" in line for line in lines) + served.log.tracebacks


# ── before the response ─────────────────────────────────────────────────────────────

ACCEPTED = {
    "application/json": "application/json",
    "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8": "text/html; charset=utf-8",
    "text/plain": "text/plain; charset=utf-8",
    "text/markdown;q=0.9, text/plain;q=0.1": "text/markdown; charset=utf-8",
    "application/problem+json": "application/problem+json",
    "*/*": "application/json",
}


def test_one_error_has_one_id_in_answer_report_and_log(server, lines):
    """Every media type gets a complete, uncached 500 whose id leads to report and log line."""
    app, sink = guard(failing_app(ValueError(SECRET)))
    with serve(app, on=server) as served, served.client() as client:
        answers = [client.get("/", headers={"accept": accept}) for accept in ACCEPTED]
    ids = [answer.headers["x-error-id"] for answer in answers]
    assert len(set(ids)) == len(ACCEPTED)
    assert [report.error_id for report in sink.reports] == ids
    assert [line["error_id"] for line in lines] == ids
    for answer, content_type, error_id in zip(answers, ACCEPTED.values(), ids, strict=True):
        assert answer.status_code == 500
        assert answer.headers["content-type"] == content_type
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert answer.headers["cache-control"] == "no-store"
        assert error_id in answer.text
        assert SECRET not in answer.text
        assert SECRET not in str(answer.headers)
    assert answers[0].json()["error_id"] == ids[0]
    assert answers[4].json()["status"] == 500


def test_head_gets_no_body(server):
    """A failed HEAD request is answered by a head alone, with an error id."""
    app, sink = guard(failing_app(ValueError(SECRET)))
    with serve(app, on=server) as served:
        head, body = split(served.raw(get_request(method="HEAD")))
    (report,) = sink.reports
    assert head.startswith(b"HTTP/1.1 500 ")
    assert report.error_id.encode() in head
    assert body == b""


def test_the_connection_survives_an_error(server):
    """The next request on the same connection is served."""

    async def app(scope, receive, send):
        if scope["path"] == "/fail":
            raise ValueError(SECRET)
        await respond(body=b"served")(scope, receive, send)

    guarded, _ = guard(app)
    with serve(guarded, on=server) as served:
        answers = served.raw(get_request("/fail", close=False) + get_request("/fine"))
    assert answers.count(b"HTTP/1.1 500 ") == 1
    assert answers.count(b"HTTP/1.1 200 ") == 1
    assert answers.endswith((b"served", b"served" + TERMINATOR))


def test_an_unread_upload_does_not_stop_the_answer(server):
    """An error is answered although the app has not read the body that the client sends."""
    app, sink = guard(failing_app(ValueError(SECRET)))
    with serve(app, on=server) as served, served.client() as client:
        answer = client.post("/", content=b"x" * 300_000)
    (report,) = sink.reports
    assert answer.json()["error_id"] == report.error_id


# ── within the response ─────────────────────────────────────────────────────────────


async def failing_stream() -> AsyncIterator[bytes]:
    yield b"begun"
    raise ValueError(SECRET)


async def good_stream() -> AsyncIterator[bytes]:
    yield b"begun"
    yield b"ended"


async def pass_on(request, call_next):
    return await call_next(request)


def streaming(
    stream: Callable[[], AsyncIterator[bytes]], *, layers: int = 0, background: Any = None
) -> Starlette:
    """Return a Starlette app that streams, with some `BaseHTTPMiddleware` around it."""

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(stream(), background=background and BackgroundTask(background))

    middleware = [Middleware(BaseHTTPMiddleware, dispatch=pass_on)] * layers
    return Starlette(routes=[Route("/", endpoint)], middleware=middleware)


def never() -> None:
    raise AssertionError("a background task ran after its response had failed")


STREAMS: dict[str, Callable[[], Any]] = {
    "plain": lambda: failing_app(ValueError(SECRET), at="streaming"),
    "starlette": lambda: streaming(failing_stream),
    "background": lambda: streaming(failing_stream, background=never),
    "middleware": lambda: streaming(failing_stream, layers=1),
    "middlewares": lambda: streaming(failing_stream, layers=2),
    "middleware-background": lambda: streaming(failing_stream, layers=1, background=never),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_failed_stream_is_seen_to_be_incomplete(server, kind, lines):
    """The client gets what was sent and never the end of the chunked body."""
    app, sink = guard(STREAMS[kind]())
    with serve(app, on=server) as served:
        head, body = split(served.raw(get_request()))
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding: chunked" in head.lower()
    assert body == b"5\r\nbegun\r\n"
    (report,) = sink.reports
    assert (report.phase, report.failure.type) == ("streaming", "ValueError")
    assert tracebacks(lines, served) == 1


def test_a_failed_body_of_known_length_is_short(server):
    """Where the length was announced, the client gets fewer bytes."""

    async def app(scope, receive, send):
        headers = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise ValueError(SECRET)

    guarded, sink = guard(app)
    with serve(guarded, on=server) as served:
        _, body = split(served.raw(get_request()))
    assert body == b"begun"
    assert len(sink.reports) == 1


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_a_background_task_does_not_keep_the_end_of_a_stream(server, layers):
    """The client has the whole stream soon, however long a background task goes on."""
    done = threading.Event()

    async def background() -> None:
        await anyio.to_thread.run_sync(done.wait)

    app = ErrorMiddleware(streaming(good_stream, layers=layers, background=background))
    with serve(app, on=server) as served, served.connect() as connection:
        began = time.monotonic()
        connection.send(get_request())
        try:
            received = connection.read_until(lambda received: received.endswith(TERMINATOR))
            elapsed = time.monotonic() - began
        finally:
            done.set()
    assert split(received)[1] == b"5\r\nbegun\r\n5\r\nended" + TERMINATOR
    assert elapsed < SOON


def test_a_good_stream_is_not_delayed(server):
    """Each chunk is with the client before the app makes the next one."""
    step = threading.Semaphore(0)

    async def stream() -> AsyncIterator[bytes]:
        for chunk in (b"one", b"two"):
            yield chunk
            await anyio.to_thread.run_sync(step.acquire)

    app = ErrorMiddleware(streaming(stream))
    with serve(app, on=server) as served, served.connect() as connection:
        connection.send(get_request())
        try:
            connection.read_until(lambda received: b"one" in received)
            assert b"two" not in connection.received
            step.release()
            connection.read_until(lambda received: b"two" in received)
        finally:
            step.release(2)
        assert connection.read().endswith(TERMINATOR)


class H2Client:
    """One HTTP/2 request without TLS, and the events that answer it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        config = h2.config.H2Configuration(client_side=True)
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()

    def get(self) -> list[h2.events.Event]:
        headers = {":method": "GET", ":scheme": "http", ":authority": "localhost", ":path": "/"}
        headers["te"] = "trailers"
        self.connection.send_headers(1, list(headers.items()), end_stream=True)
        events: list[h2.events.Event] = []
        with self.socket:
            while not any(isinstance(event, h2.events.StreamEnded) for event in events):
                self.socket.sendall(self.connection.data_to_send())
                data = self.socket.recv(65_536)
                if not data:
                    break
                events += self.connection.receive_data(data)
        return events


@pytest.mark.parametrize("server", ["hypercorn-asyncio", "hypercorn-trio"])
def test_trailers_follow_the_body(server):
    """Trailers of HTTP/2 come after the whole body and end the response."""

    async def app(scope, receive, send):
        start = {"type": "http.response.start", "status": 200, "headers": [], "trailers": True}
        await send(start)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"6")]})

    guarded, sink = guard(app)
    with serve(guarded, on=server) as served:
        events = H2Client(served.port).get()
    told = [
        event
        for event in events
        if isinstance(event, (h2.events.DataReceived, h2.events.TrailersReceived))
    ]
    assert b"".join(getattr(event, "data", b"") for event in told) == b"onetwo"
    assert isinstance(told[-1], h2.events.TrailersReceived)
    assert (b"x-sum", b"6") in told[-1].headers
    assert sink.reports == []


# ── the log ─────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def failing_lifespan(app: Any) -> Any:
    raise ValueError(SECRET)
    yield


def fail_to_start() -> Starlette:
    return Starlette(lifespan=failing_lifespan)


PHASES = {
    "request": lambda: with_lifespan(failing_app(ValueError(SECRET))),
    "streaming": lambda: with_lifespan(failing_app(ValueError(SECRET), at="streaming")),
    "background": lambda: with_lifespan(failing_app(ValueError(SECRET), at="background")),
    "websocket_handshake": lambda: with_lifespan(failing_app(ValueError(SECRET))),
    "websocket": lambda: with_lifespan(failing_app(ValueError(SECRET), at="streaming")),
    "lifespan": fail_to_start,
}


def provoke(served: Any, phase: str) -> None:
    """Do as a client what makes the app of *phase* fail."""
    if phase == "lifespan":
        assert served.wait_for_exit()
    elif phase.startswith("websocket"):
        with pytest.raises(websockets.WebSocketException), connect(served.ws_url) as socket_:
            socket_.recv(PATIENCE)
    else:
        served.raw(get_request())


@pytest.mark.parametrize("phase", PHASES)
def test_one_error_is_one_traceback(server, phase, lines):
    """Whatever the server and the framework log, each error's traceback is there once."""
    sink = MemorySink()
    with serve(ErrorMiddleware(PHASES[phase](), report_to=[sink]), on=server) as served:
        provoke(served, phase)
    assert [report.phase for report in sink.reports] == [phase]
    assert [line["error_id"] for line in lines] == [sink.reports[0].error_id]
    assert tracebacks(lines, served) == 1, served.log.text


@pytest.mark.parametrize("phase", ["request", "streaming", "background", "websocket"])
def test_without_log_the_servers_own_line_stays(phase, lines):
    """With `log=False` nothing is hidden: what leaves the app is the server's to log."""
    sink = MemorySink()
    app = ErrorMiddleware(PHASES[phase](), report_to=[sink], log=False, raise_unhandled=True)
    with serve(app) as served:
        provoke(served, phase)
    assert len(sink.reports) == 1
    assert lines == []
    assert served.log.tracebacks == 1


@pytest.mark.parametrize("phase", ["request", "streaming", "background", "websocket"])
def test_the_same_object_raised_again_is_a_new_error(server, phase, lines):
    """A module's one exception object is logged and reported each time that it is raised."""
    sink = MemorySink()
    with serve(ErrorMiddleware(PHASES[phase](), report_to=[sink]), on=server) as served:
        for _ in range(3):
            provoke(served, phase)
    assert len({report.error_id for report in sink.reports}) == 3
    assert [line["error_id"] for line in lines] == [report.error_id for report in sink.reports]
    assert tracebacks(lines, served) == 3


def test_errors_that_are_not_ours_stay_in_the_servers_log(lines):
    """The filter on the server's log drops only what errata has logged itself."""

    async def app(scope, receive, send):
        raise KeyError("nobody's")

    ErrorMiddleware(app)
    with serve(app, lifespan="off") as served:
        assert served.get("/").status_code == 500
    assert lines == []
    assert served.log.tracebacks == 1


def test_an_object_that_was_ours_once_is_not_hidden_elsewhere(lines):
    """One log line of ours hides one record of the server: not what another app raises."""
    exc = ValueError(SECRET)
    guarded = ErrorMiddleware(failing_app(exc, at="streaming"))
    bare = failing_app(exc)

    async def app(scope, receive, send):
        await (guarded if scope["path"] == "/guarded" else bare)(scope, receive, send)

    with serve(with_lifespan(app)) as served:
        for path in ("/guarded", "/bare", "/guarded", "/bare"):
            served.raw(get_request(path))
    assert len(lines) == 2
    assert served.log.tracebacks == 2


# ── websockets ──────────────────────────────────────────────────────────────────────

WEBSOCKETS = [
    ("uvicorn-h11", {"ws": "websockets-sansio"}),
    ("uvicorn-h11", {"ws": "wsproto"}),
    ("hypercorn-asyncio", {}),
    ("hypercorn-trio", {}),
]


@pytest.fixture(params=WEBSOCKETS, ids=lambda case: "-".join([case[0], *case[1].values()]))
def stage(request) -> dict[str, Any]:
    """Return the options of one websocket implementation after the other."""
    name, options = request.param
    return {"on": name, **options}


def test_a_failed_handshake_is_denied(stage):
    """Before the accept the client gets an HTTP 500 with the error id."""
    app, sink = guard(failing_app(ValueError(SECRET)))
    with serve(app, **stage) as served, pytest.raises(websockets.InvalidStatus) as caught:
        connect(served.ws_url)
    (report,) = sink.reports
    response = caught.value.response
    assert response.status_code == 500
    assert response.headers["x-error-id"] == report.error_id
    assert response.body is not None
    assert json.loads(response.body)["error_id"] == report.error_id
    assert SECRET.encode() not in response.body
    assert report.request is not None
    assert report.request.method == "WEBSOCKET"


def test_a_handler_denies_a_handshake(stage):
    """A handler answers a failed handshake as it answers a request."""
    handlers = ExceptionHandlers()

    @handlers.exception_handler(ValueError)
    async def refuse(request, exc):
        return error_response(402, "Pay first")

    app, sink = guard(failing_app(ValueError(SECRET)), handlers=handlers)
    with serve(app, **stage) as served, pytest.raises(websockets.InvalidStatus) as caught:
        connect(served.ws_url)
    assert caught.value.response.status_code == 402
    assert caught.value.response.body == b'{"error":"Pay first"}'
    assert sink.reports == []


def test_an_open_websocket_is_closed_with_1011(stage):
    """After the accept the close frame tells the error's id and nothing of the exception."""
    app, sink = guard(failing_app(ValueError(SECRET), at="streaming"))
    with serve(app, **stage) as served, connect(served.ws_url) as client:
        with pytest.raises(websockets.ConnectionClosedError) as caught:
            client.recv(PATIENCE)
        close = caught.value.rcvd
    (report,) = sink.reports
    assert close is not None
    assert close.code == 1011
    assert SECRET not in close.reason
    assert report.error_id in close.reason
    assert len(close.reason.encode()) <= 123


async def echo(websocket):
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


@pytest.mark.parametrize("politely", [True, False])
def test_a_websocket_client_that_leaves_is_no_error(stage, politely, lines):
    """A client that closes or vanishes is counted, not reported."""
    sink = MemorySink()
    app = ErrorMiddleware(Starlette(routes=[WebSocketRoute("/", echo)]), report_to=[sink])
    with serve(app, **stage) as served, connect(served.ws_url) as client:
        client.send("echo")
        assert client.recv(PATIENCE) == "echo"
        if not politely:
            client.socket.shutdown(socket.SHUT_RDWR)
    assert sink.reports == []
    assert tracebacks(lines, served) == 0
    assert app.disconnects == 1


# ── clients that leave ──────────────────────────────────────────────────────────────


async def read_all(request: Request, reached: threading.Event) -> Response:
    async for _ in request.stream():
        reached.set()
    return PlainTextResponse("complete")


async def stream_forever(request: Request, reached: threading.Event) -> Response:
    async def stream() -> AsyncIterator[bytes]:
        while True:
            yield b"more"
            reached.set()
            await anyio.sleep(0.005)

    return StreamingResponse(stream())


async def raise_disconnect(request: Request, reached: threading.Event) -> Response:
    while (await request.receive())["type"] != "http.disconnect":
        reached.set()
    raise ClientDisconnect


async def give_up(request: Request, reached: threading.Event) -> Any:
    while (await request.receive())["type"] != "http.disconnect":
        reached.set()

    async def nothing(scope, receive, send):
        """Answer nobody."""

    return nothing


UPLOAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nthe beginning"
LEAVING = {
    "mid-upload": (read_all, UPLOAD),
    "mid-stream": (stream_forever, get_request()),
    "raises": (raise_disconnect, get_request()),
    "gives-up": (give_up, get_request()),
}


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("kind", LEAVING)
def test_a_client_that_leaves_is_no_error(server, kind, layers, lines):
    """A request that ends because its client vanished is counted, and nothing else."""
    act, request_bytes = LEAVING[kind]
    reached = threading.Event()

    async def endpoint(request: Request) -> Any:
        return await act(request, reached)

    sink = MemorySink()
    app = Starlette(
        routes=[Route("/", endpoint, methods=["GET", "POST"])],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_on)] * layers,
    )
    guarded = ErrorMiddleware(app, report_to=[sink])
    with serve(guarded, on=server) as served, served.connect() as connection:
        connection.send(request_bytes)
        assert reached.wait(PATIENCE)
        connection.vanish()
    assert sink.reports == []
    assert tracebacks(lines, served) == 0
    assert guarded.disconnects == 1


def test_an_error_of_the_app_itself_is_reported_though_the_client_left(server):
    """Only the leaving is no error: what else goes wrong then is reported."""
    reached = threading.Event()

    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            reached.set()
        raise LookupError(SECRET)

    guarded, sink = guard(app)
    with serve(guarded, on=server) as served, served.connect() as connection:
        connection.send(get_request())
        assert reached.wait(PATIENCE)
        connection.vanish()
    assert [report.failure.type for report in sink.reports] == ["LookupError"]


# ── lifespan ────────────────────────────────────────────────────────────────────────


class SlowSink(MemorySink):
    """A sink as slow as a mail server."""

    async def __call__(self, report: Any) -> None:
        await anyio.sleep(0.2)
        await super().__call__(report)


def test_a_failed_startup_is_reported_before_the_server_ends(server, lines):
    """The server exits, and a slow sink has the report by then."""
    sink = SlowSink()
    with serve(ErrorMiddleware(fail_to_start(), report_to=[sink]), on=server) as served:
        assert served.wait_for_exit()
    (report,) = sink.reports
    assert (report.phase, report.failure.message) == ("lifespan", SECRET)
    assert [line["phase"] for line in lines] == ["lifespan"]
    assert SECRET not in served.log.text


def test_a_startup_that_fails_by_message_ends_the_server(server):
    """An app that says `lifespan.startup.failed` and raises nothing still ends the server."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with serve(ErrorMiddleware(app), on=server) as served:
        assert served.wait_for_exit()
    assert "no database" in served.log.text + repr(served.failure)


def test_a_shutdown_waits_for_the_sinks(server):
    """What happened just before the end is delivered before the end."""
    sink = SlowSink()
    app = ErrorMiddleware(with_lifespan(failing_app(ValueError(SECRET))), report_to=[sink])
    with serve(app, on=server) as served:
        for _ in range(3):
            assert served.get("/").status_code == 500
    assert len(sink.reports) == 3


def test_a_failed_shutdown_is_reported(server, lines):
    """An error of the shutdown reaches the sinks too, and the log once."""

    @asynccontextmanager
    async def lifespan(app):
        yield
        raise ValueError(SECRET)

    sink = SlowSink()
    with serve(ErrorMiddleware(Starlette(lifespan=lifespan), report_to=[sink]), on=server) as up:
        pass
    assert [report.phase for report in sink.reports] == ["lifespan"]
    assert tracebacks(lines, up) == 1


def test_an_app_without_lifespan_is_no_error(server, lines):
    """An app that raises on the lifespan scope has none: it is served and nothing reported."""

    async def app(scope, receive, send):
        assert scope["type"] == "http", "no such scope here"
        await respond()(scope, receive, send)

    sink = MemorySink()
    options = {"lifespan": "auto"} if server in UVICORN else {}
    with serve(ErrorMiddleware(app, report_to=[sink]), on=server, **options) as served:
        assert served.get("/").text == "ok"
    assert sink.reports == []
    assert lines == []


# ── answers that the app gave itself ────────────────────────────────────────────────


def starlette(endpoint: Any, **options: Any) -> Starlette:
    return Starlette(routes=[Route("/", endpoint)], **options)


async def fail(request: Request) -> Response:
    raise ValueError(SECRET)


def test_the_default_500_of_starlette_is_replaced(server, lines):
    """What the framework answers by default becomes ours, with the error behind it."""
    sink = MemorySink()
    with serve(ErrorMiddleware(starlette(fail), report_to=[sink]), on=server) as served:
        answer = served.get("/")
    (report,) = sink.reports
    assert answer.status_code == 500
    assert answer.json()["error_id"] == report.error_id == answer.headers["x-error-id"]
    assert report.failure.type == "ValueError"
    assert tracebacks(lines, served) == 1


OWN_HEADERS = [
    (b"content-type", b"application/json"),
    (b"retry-after", b"120"),
    (b"set-cookie", b"a=1"),
    (b"set-cookie", b"b=2"),
]


def own_answer(status: int, *chunks: bytes, fail_after: bool = False) -> Any:
    async def app(scope, receive, send):
        start = {"type": "http.response.start", "status": status, "headers": OWN_HEADERS}
        await send(start)
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if fail_after:
            raise ValueError(SECRET)

    return with_lifespan(app)


@pytest.mark.parametrize("status", [404, 500, 503])
def test_an_answer_of_the_apps_own_stays_as_it_is(server, status):
    """With no exception in sight the app's error answer is the same to the byte."""
    app = own_answer(status, b'{"detail": ', b'"closed for repairs"}')
    with serve(app, on=server) as served:
        bare = split(served.raw(get_request()))
    with serve(ErrorMiddleware(app), on=server) as served:
        guarded = split(served.raw(get_request()))
    assert guarded == bare


@pytest.mark.parametrize("status", [500, 503])
def test_an_answer_of_the_apps_own_gets_an_error_id_only(server, status):
    """With an exception behind it the answer differs by `X-Error-ID` alone."""
    chunks = (b'{"detail": ', b'"closed for repairs"}')
    with serve(own_answer(status, *chunks), on=server) as served:
        head, body = split(served.raw(get_request()))
    sink = MemorySink()
    app = ErrorMiddleware(own_answer(status, *chunks, fail_after=True), report_to=[sink])
    with serve(app, on=server) as served:
        guarded_head, guarded_body = split(served.raw(get_request()))
    (report,) = sink.reports
    assert guarded_body == body
    added = set(guarded_head.split(b"\r\n")) - set(head.split(b"\r\n"))
    assert added == {b"x-error-id: " + report.error_id.encode()}
    assert set(head.split(b"\r\n")) <= set(guarded_head.split(b"\r\n"))
    assert report.status == status


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_background_task_does_not_keep_an_error_answer(server, status):
    """A deliberate error answer is with the client soon, though its task goes on."""
    done = threading.Event()

    async def background() -> None:
        await anyio.to_thread.run_sync(done.wait)

    async def endpoint(request: Request) -> Response:
        task = BackgroundTask(background)
        return JSONResponse({"detail": "later"}, status, background=task)

    sink = MemorySink()
    app = ErrorMiddleware(starlette(endpoint), report_to=[sink])
    with serve(app, on=server) as served, served.connect() as connection:
        began = time.monotonic()
        connection.send(get_request())
        try:
            connection.read_until(lambda received: received.endswith(b'{"detail":"later"}'))
            elapsed = time.monotonic() - began
        finally:
            done.set()
    assert elapsed < SOON
    assert sink.reports == []


def test_an_error_event_stream_passes_at_once(server):
    """An event stream with an error status is never held back."""
    step = threading.Event()

    async def endpoint(request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: one\n\n"
            await anyio.to_thread.run_sync(step.wait)
            yield b"data: two\n\n"

        return StreamingResponse(events(), 500, media_type="text/event-stream")

    with (
        serve(ErrorMiddleware(starlette(endpoint)), on=server) as served,
        served.connect() as connection,
    ):
        connection.send(get_request())
        try:
            connection.read_until(lambda received: b"data: one" in received)
            assert b"data: two" not in connection.received
        finally:
            step.set()
        assert connection.read().endswith(TERMINATOR)


def test_a_large_error_answer_arrives_whole(server):
    """An error answer too large to hold back passes through complete and in order."""
    sizes = {"/a": [200_000], "/b": [40_000] * 5, "/c": [65_536, 1], "/d": [65_537]}
    bodies = {
        path: [bytes([65 + index]) * size for index, size in enumerate(chunks)]
        for path, chunks in sizes.items()
    }

    async def app(scope, receive, send):
        await own_answer(500, *bodies[scope["path"]])(scope, receive, send)

    guarded, sink = guard(app)
    with serve(guarded, on=server) as served:
        answers = {path: served.get(path) for path in bodies}
    for path, answer in answers.items():
        assert answer.status_code == 500
        assert answer.content == b"".join(bodies[path])
    assert sink.reports == []


def test_headers_of_the_replaced_answer_survive(server):
    """What was said about the caller stays; what described the old body goes."""

    async def app(scope, receive, send):
        headers = [
            (b"access-control-allow-origin", b"https://app.test"),
            (b"vary", b"Origin"),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"x-request-id", b"r-1"),
            (b"content-type", b"text/plain"),
            (b"content-length", b"21"),
            (b"content-encoding", b"identity"),
            (b"etag", b'"old"'),
        ]
        await send({"type": "http.response.start", "status": 500, "headers": headers})
        await send({"type": "http.response.body", "body": b"Internal Server Error"})
        raise ValueError(SECRET)

    guarded, _ = guard(app)
    with serve(guarded, on=server) as served:
        answer = served.get("/")
    assert answer.json()["error"] == "Internal server error"
    assert answer.headers["access-control-allow-origin"] == "https://app.test"
    assert answer.headers["vary"] == "Origin"
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["content-type"] == "application/json"
    assert "etag" not in answer.headers
    assert "content-encoding" not in answer.headers


# ── servers in processes of their own ───────────────────────────────────────────────

PROCESS_APP = """
import asyncio, json
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute

from errata import ErrorMiddleware


async def sink(report):
    await asyncio.sleep(0.2)
    with Path("reports.txt").open("a") as file:
        print(report.phase, report.error_id, file=file)


async def fail(request):
    raise ValueError("kaboom in " + request.url.path)


async def stream(request):
    async def chunks():
        yield b"begun"
        raise ValueError("kaboom in a stream")

    return StreamingResponse(chunks())


async def refuse(websocket):
    raise ValueError("kaboom in a handshake")


async def talk(websocket):
    await websocket.accept()
    raise ValueError("kaboom in a websocket")


async def pass_on(request, call_next):
    return await call_next(request)


def layered():
    return Starlette(
        routes=[
            Route("/fail", fail),
            Route("/stream", stream),
            WebSocketRoute("/refuse", refuse),
            WebSocketRoute("/talk", talk),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_on)],
    )


app = ErrorMiddleware(layered(), report_to=[sink])
"""

GRANIAN = ("--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "served:app")
UVICORN_CLI = ("--host", "127.0.0.1", "--port", "{port}", "served:app")
HYPERCORN_CLI = ("--bind", "127.0.0.1:{port}", "served:app")
COMMANDS = {"granian": GRANIAN, "uvicorn": UVICORN_CLI, "hypercorn": HYPERCORN_CLI}


def reports_of(process: Process) -> list[list[str]]:
    file = process.output.with_name("reports.txt")
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_process_tells_everything_before_it_ends(command, tmp_path):
    """In a process of its own: the answer, the abort, the denial, the close, all the reports."""
    with serve_process(command, PROCESS_APP, tmp_path, COMMANDS[command]) as served:
        answer = served.get("/fail")
        assert answer.status_code == 500
        error_id = answer.json()["error_id"]
        assert answer.headers["x-error-id"] == error_id
        _, body = split(served.raw(get_request("/stream")))
        assert b"begun" in body
        assert not body.endswith(TERMINATOR)
        with pytest.raises(websockets.InvalidStatus) as refused:
            connect(served.ws_url + "/refuse")
        closing = pytest.raises(websockets.ConnectionClosedError)
        with connect(served.ws_url + "/talk") as client, closing as closed:
            client.recv(PATIENCE)
    assert refused.value.response.status_code == 500
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011
    assert served.process is not None
    assert served.process.returncode in {0, -signal.SIGTERM}
    reports = reports_of(served)
    assert reports[0] == ["request", error_id]
    phases = ["request", "streaming", "websocket_handshake", "websocket"]
    assert [phase for phase, _ in reports] == phases


@pytest.mark.slow
def test_granian_logs_an_abort_once(tmp_path):
    """What must leave the app to abort a stream is in Granian's output once, too."""
    with serve_process("granian", PROCESS_APP, tmp_path, GRANIAN) as served:
        served.raw(get_request("/stream"))
    assert served.printed.count("Traceback (most recent call last)") == 1, served.printed


# ── by direct call, on asyncio and on trio ──────────────────────────────────────────


async def run(app: Any, scope: dict[str, Any] | None = None, incoming: Any = None) -> Outcome:
    return await call(app, scope or http_scope(), incoming)


async def test_direct_an_error_is_answered_and_reported(anyio_backend):
    """On either loop the caller gets the 500 and the sinks the report."""
    sink = MemorySink()
    app = ErrorMiddleware(failing_app(ValueError(SECRET)), report_to=[sink])
    outcome = await run(app)
    assert await app.drain()
    assert outcome.raised is None
    assert outcome.status == 500
    assert outcome.json["error_id"] == sink.reports[0].error_id


async def test_direct_every_kind_of_sink_gets_the_report(anyio_backend):
    """Async functions, plain functions and objects are all sinks, on either loop."""
    seen: list[tuple[str, str]] = []

    async def coroutine(report: Any) -> None:
        await anyio.sleep(0.01)
        seen.append(("async", report.error_id))

    def plain(report: Any) -> None:
        seen.append(("plain", report.error_id))

    sink = MemorySink()
    app = ErrorMiddleware(failing_app(ValueError(SECRET)), report_to=[coroutine, plain, sink])
    outcome = await run(app)
    assert await app.drain()
    error_id = outcome.json["error_id"]
    assert sorted(seen) == [("async", error_id), ("plain", error_id)]
    assert [report.error_id for report in sink.reports] == [error_id]


async def test_direct_a_drain_tells_when_its_time_was_too_short(anyio_backend):
    """A sink that hangs makes `drain` return False, in the time that it was given."""
    release = threading.Event()

    def hang(report: Any) -> None:
        release.wait(PATIENCE)

    app = ErrorMiddleware(failing_app(ValueError(SECRET)), report_to=[hang])
    await run(app)
    try:
        with anyio.fail_after(PATIENCE / 2):
            assert not await app.drain(0.05)
    finally:
        release.set()
    assert await app.drain()


@pytest.mark.parametrize("is_async", [True, False])
async def test_direct_handlers_answer(anyio_backend, is_async):
    """Async handlers and plain ones, in a thread, answer on either loop."""
    handlers = ExceptionHandlers()
    threads: list[threading.Thread] = []

    async def answer(request, exc):
        threads.append(threading.current_thread())
        return error_response(409, str(exc), code="conflict")

    def answer_plainly(request, exc):
        threads.append(threading.current_thread())
        return error_response(409, str(exc), code="conflict")

    handlers.add(ValueError, answer if is_async else answer_plainly)
    sink = MemorySink()
    app = ErrorMiddleware(failing_app(ValueError("taken")), handlers=handlers, report_to=[sink])
    outcome = await run(app)
    assert await app.drain()
    assert outcome.status == 409
    assert outcome.json == {"error": "taken", "code": "conflict"}
    assert outcome.headers["x-error-id"]
    assert (threads[0] is threading.current_thread()) is is_async
    assert sink.reports == []


async def test_direct_a_failed_stream_is_never_completed(anyio_backend):
    """After the start the exception goes out, and no end of the body before it."""
    exc = ValueError(SECRET)
    app = ErrorMiddleware(failing_app(exc, at="streaming"))
    outcome = await run(app)
    assert outcome.raised is exc
    assert not outcome.complete


async def test_direct_the_end_of_a_stream_is_kept_until_the_app_has_failed(anyio_backend):
    """An empty last chunk before the exception, as `BaseHTTPMiddleware` sends it, is kept."""
    exc = ValueError(SECRET)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        raise exc

    sink = MemorySink()
    guarded = ErrorMiddleware(app, report_to=[sink])
    outcome = await run(guarded)
    assert await guarded.drain()
    assert outcome.raised is exc
    assert not outcome.complete
    assert [report.phase for report in sink.reports] == ["streaming"]


async def test_direct_the_end_of_a_stream_is_not_kept_from_the_client(anyio_backend):
    """It is sent while the app goes on, and once only."""
    sent = anyio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        with anyio.fail_after(PATIENCE / 2):
            await sent.wait()

    server = Server(http_scope())

    async def send(message: Any) -> None:
        await server.send(message)
        if server.outcome.complete:
            sent.set()

    await ErrorMiddleware(app)(http_scope(), server.receive, send)
    assert not server.violations
    assert server.outcome.complete
    assert server.outcome.body == b"all"
    assert len(server.outcome.messages) == 3


async def test_direct_a_background_error_after_a_stream_is_reported(anyio_backend):
    """An error behind the end that the client has is a background task's."""
    sent = anyio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        with anyio.fail_after(PATIENCE / 2):
            await sent.wait()
        raise ValueError(SECRET)

    server = Server(http_scope())
    sink = MemorySink()

    async def send(message: Any) -> None:
        await server.send(message)
        if server.outcome.complete:
            sent.set()

    guarded = ErrorMiddleware(app, report_to=[sink])
    await guarded(http_scope(), server.receive, send)
    assert await guarded.drain()
    assert server.outcome.complete
    assert [report.phase for report in sink.reports] == ["background"]


async def test_direct_a_held_503_is_sent_while_its_task_goes_on(anyio_backend):
    """A deliberate 5xx with a background task reaches the client before the task ends."""
    sent, ended = anyio.Event(), anyio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"busy: try later"})
        with anyio.move_on_after(PATIENCE / 2):
            await sent.wait()
            ended.set()

    server = Server(http_scope())

    async def send(message: Any) -> None:
        await server.send(message)
        if server.outcome.complete:
            sent.set()

    await ErrorMiddleware(app)(http_scope(), server.receive, send)
    assert ended.is_set()
    assert not server.violations
    assert (server.outcome.status, server.outcome.body) == (503, b"busy: try later")


async def test_direct_a_default_500_that_nobody_explains_is_reported(anyio_backend):
    """A framework's bare 500 without an exception becomes ours, `unexplained`."""
    sink = MemorySink()
    app = ErrorMiddleware(respond(500, b"Internal Server Error"), report_to=[sink])
    outcome = await run(app)
    assert await app.drain()
    (report,) = sink.reports
    assert report.mechanism == "unexplained"
    assert outcome.json["error_id"] == report.error_id


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_direct_default_gateway_errors_are_not_reported(anyio_backend, status):
    """A default 502 to 504 is a proxy's word about others, not an error of the app."""
    sink = MemorySink()
    app = ErrorMiddleware(respond(status, b""), report_to=[sink])
    outcome = await run(app)
    assert await app.drain()
    assert outcome.status == status
    assert sink.reports == []


@pytest.mark.parametrize("denial", [True, False])
async def test_direct_a_failed_handshake_is_refused(anyio_backend, denial):
    """With the extension the refusal is an HTTP answer, without it a close with 1011."""
    sink = MemorySink()
    app = ErrorMiddleware(failing_app(ValueError(SECRET)), report_to=[sink])
    outcome = await run(app, websocket_scope(denial=denial))
    assert await app.drain()
    (report,) = sink.reports
    assert report.phase == "websocket_handshake"
    if denial:
        assert outcome.status == 500
        assert outcome.json["error_id"] == report.error_id
    else:
        assert outcome.types == ["websocket.close"]
        assert outcome.messages[0]["code"] == 1011
        assert SECRET not in str(outcome.messages)


async def test_direct_an_open_websocket_is_closed(anyio_backend):
    """After the accept there is one close, with 1011."""
    app = ErrorMiddleware(failing_app(ValueError(SECRET), at="streaming"))
    outcome = await run(app, websocket_scope())
    assert outcome.types == ["websocket.accept", "websocket.close"]
    assert outcome.messages[-1]["code"] == 1011
    assert SECRET not in outcome.messages[-1]["reason"]


async def test_direct_raise_unhandled_raises_the_same_object(anyio_backend):
    """After the answer the app's own exception goes out, the very same."""
    exc = ValueError(SECRET)
    app = ErrorMiddleware(failing_app(exc), raise_unhandled=True)
    outcome = await run(app)
    assert outcome.raised is exc
    assert outcome.status == 500


@pytest.mark.parametrize("at", ["request", "streaming", "background"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_direct_what_ends_a_process_passes_through(anyio_backend, kind, at, lines):
    """`BaseException`s are nobody's error: nothing is answered, reported or logged."""
    sink = MemorySink()
    exc = kind()
    app = ErrorMiddleware(failing_app(exc, at=at), report_to=[sink])
    server = Server(http_scope())
    caught = None
    try:
        await app(http_scope(), server.receive, server.send)
    except BaseException as raised:
        caught = raised
    assert await app.drain()
    assert caught is exc
    assert sink.reports == []
    assert lines == []
    assert len(server.outcome.messages) == (0 if at == "request" else 2)


@pytest.mark.parametrize("scope", [http_scope(), websocket_scope()], ids=["http", "websocket"])
async def test_direct_a_cancelled_request_is_no_error(anyio_backend, scope, lines):
    """A cancellation passes through, and the loop goes on."""
    sink = MemorySink()
    waiting = anyio.Event()

    async def app(scope, receive, send):
        waiting.set()
        await anyio.sleep_forever()

    guarded = ErrorMiddleware(app, report_to=[sink])
    server = Server(scope)
    with anyio.fail_after(PATIENCE / 2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(guarded, dict(scope), server.receive, server.send)
            await waiting.wait()
            tasks.cancel_scope.cancel()
    assert await guarded.drain()
    assert server.outcome.messages == []
    assert sink.reports == []
    assert lines == []


async def test_direct_a_stream_that_is_cancelled_at_its_end_stays_open(anyio_backend):
    """A cancelled app's kept end of the body is not sent afterwards."""
    kept = anyio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        kept.set()
        await anyio.sleep_forever()

    server = Server(http_scope())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ErrorMiddleware(app), http_scope(), server.receive, server.send)
        await kept.wait()
        tasks.cancel_scope.cancel()
    complete_then = server.outcome.complete
    await anyio.sleep(0.1)  # Twice as long as an end is kept at most.
    assert server.outcome.complete == complete_then


async def test_direct_startup_failure_is_reported_and_raised(anyio_backend):
    """A failed startup goes on to the server after the sinks have the report."""
    sink = SlowSink()
    app = ErrorMiddleware(fail_to_start(), report_to=[sink])
    sent: list[Any] = []
    delivered: list[int] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)
        delivered.append(len(sink.reports))

    with pytest.raises(ValueError, match=SECRET):
        await app({"type": "lifespan", "state": {}}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert delivered == [1]
    assert SECRET not in sent[0]["message"]
    assert sink.reports[0].error_id in sent[0]["message"]


@pytest.mark.parametrize("at", ["request", "background"])
async def test_direct_one_object_raised_for_ever_does_not_grow(anyio_backend, at):
    """What errata does not let out again keeps no stack of the requests that it ended."""
    exc = ValueError(SECRET)
    sink = MemorySink()
    app = ErrorMiddleware(failing_app(exc, at=at), report_to=[sink], log=False)
    for _ in range(10):
        await run(app)
    assert await app.drain()
    assert len(list(traceback.walk_tb(exc.__traceback__))) < 10
    assert len({report.fingerprint for report in sink.reports}) == 1


async def test_direct_many_errors_at_once_are_all_counted(anyio_backend):
    """A storm loses no occurrence: what the sinks count adds up exactly."""
    sink = MemorySink()
    app = ErrorMiddleware(failing_app(ValueError(SECRET)), report_to=[sink], log=False)
    outcomes: list[Outcome] = []

    async def one() -> None:
        outcomes.append(await run(app))

    async with anyio.create_task_group() as tasks:
        for _ in range(300):
            tasks.start_soon(one)
    assert await app.drain()
    assert len({outcome.json["error_id"] for outcome in outcomes}) == 300
    assert sink.count == 300
