"""Starlette and FastAPI with errata around them, within them, or both."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import anyio
import anyio.to_thread
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse as FastAPIJSONResponse
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from structlog.testing import capture_logs

from errata import ErrorMiddleware, ExceptionHandlers, error_response, note, record_query
from errata.testing import MemorySink
from tests.asgi import Server, call, http_scope, websocket_scope
from tests.serving import Records


SECRET = "the text of the exception"


@pytest.fixture(params=["asyncio", "trio"])
def backend(request) -> str:
    """Name one event loop after the other."""
    return request.param


@pytest.fixture
def sink() -> MemorySink:
    """Return a sink to look at."""
    return MemorySink()


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


@contextmanager
def client_of(app: Any, backend: str = "asyncio", **options: Any) -> Iterator[Any]:
    """Run *app* with its lifespan, whose end delivers the reports."""
    with TestClient(app, backend=backend, **options) as client:  # type: ignore[arg-type]
        yield client


async def fail(request: Request) -> Response:
    raise ValueError(SECRET)


async def fail_in_stream(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"begun"
        raise ValueError(SECRET)

    return StreamingResponse(chunks())


async def fail_in_background(request: Request) -> Response:
    async def task() -> None:
        raise ValueError(SECRET)

    return PlainTextResponse("done", background=BackgroundTask(task))


async def fail_in_handshake(websocket: Any) -> None:
    raise ValueError(SECRET)


async def fail_in_websocket(websocket: Any) -> None:
    await websocket.accept()
    raise ValueError(SECRET)


async def pass_on(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


ROUTES = [
    Route("/", fail, methods=["GET", "POST"]),
    Route("/stream", fail_in_stream),
    Route("/background", fail_in_background),
    WebSocketRoute("/handshake", fail_in_handshake),
    WebSocketRoute("/websocket", fail_in_websocket),
]
CORS = Middleware(CORSMiddleware, allow_origins=["*"])
CROSS = {"origin": "https://app.test"}


def shop(*middleware: Middleware, **options: Any) -> Starlette:
    return Starlette(routes=ROUTES, middleware=list(middleware), **options)


# ── positions ───────────────────────────────────────────────────────────────────────


def around(sink: MemorySink, **options: Any) -> Any:
    return ErrorMiddleware(shop(CORS), report_to=[sink], **options)


def within(sink: MemorySink, **options: Any) -> Any:
    return shop(CORS, Middleware(ErrorMiddleware, report_to=[sink], **options))


def added(sink: MemorySink, **options: Any) -> Any:
    app = shop()
    app.add_middleware(ErrorMiddleware, report_to=[sink], **options)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    return app


def both(sink: MemorySink, **options: Any) -> Any:
    return ErrorMiddleware(within(sink, **options), report_to=[sink], **options)


def thrice(sink: MemorySink, **options: Any) -> Any:
    layers = Middleware(BaseHTTPMiddleware, dispatch=pass_on)
    inner = Middleware(ErrorMiddleware, report_to=[sink], **options)
    return ErrorMiddleware(shop(CORS, inner, layers, inner), report_to=[sink], **options)


POSITIONS = [around, within, added, both, thrice]


@pytest.fixture(params=POSITIONS, ids=lambda position: position.__name__)
def position(request) -> Any:
    """Build the app with errata in one place after the other."""
    return request.param


def test_one_error_is_one_answer_one_report_one_line(position, backend, sink, lines):
    """However many times errata is in the stack, an error is seen once."""
    with client_of(position(sink), backend) as client:
        answer = client.get("/", headers=CROSS)
    (report,) = sink.reports
    (line,) = lines
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "Internal server error",
        "code": "server_error",
        "error_id": report.error_id,
    }
    assert answer.headers.get_list("x-error-id") == [report.error_id]
    assert line["error_id"] == report.error_id
    assert report.failure.message == SECRET


@pytest.mark.parametrize("position", [within, added, both, thrice])
def test_a_500_from_within_carries_cors_headers(position, sink):
    """Inside `CORSMiddleware` the answer is decorated: a browser may read it."""
    with client_of(position(sink)) as client:
        answer = client.get("/", headers=CROSS)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json()["error_id"] == sink.reports[0].error_id


@pytest.mark.parametrize("path", ["/stream", "/background"])
def test_a_late_error_is_one_report_and_one_line(position, path, backend, sink, lines):
    """So is an error after the response has begun; only then does it leave the app."""
    with client_of(position(sink), backend, raise_server_exceptions=False) as client:
        client.get(path)
    assert [report.phase for report in sink.reports] == [
        {"/stream": "streaming", "/background": "background"}[path]
    ]
    assert [line["error_id"] for line in lines] == [sink.reports[0].error_id]


async def test_a_failed_stream_is_never_completed(position, anyio_backend, sink):
    """With errata anywhere the end of a failed body never reaches the server."""
    outcome = await call(position(sink), http_scope("/stream"))
    assert isinstance(outcome.raised, ValueError)
    assert outcome.body == b"begun"
    assert not outcome.complete


class Signal(MemorySink):
    """A sink that tells when it has a report."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Event()

    async def __call__(self, report: Any) -> None:
        await super().__call__(report)
        self.arrived.set()


@pytest.mark.parametrize("path", ["/handshake", "/websocket"])
async def test_a_websocket_error_is_one_report_and_one_line(position, path, anyio_backend, lines):
    """A websocket's error is answered, reported and logged once, too."""
    sink = Signal()
    app = position(sink)
    outcome = await call(app, websocket_scope(path))
    assert outcome.raised is None
    if path == "/handshake":
        assert outcome.status == 500
    else:
        assert outcome.types == ["websocket.accept", "websocket.close"]
        assert outcome.messages[-1]["code"] == 1011
    assert await anyio.to_thread.run_sync(sink.arrived.wait, 10)
    assert len(sink.reports) == 1
    assert [line["error_id"] for line in lines] == [sink.reports[0].error_id]


def test_a_failed_startup_is_one_report_and_one_line(position, backend, sink, lines):
    """The lifespan passes every errata in the stack and is reported by one."""

    @asynccontextmanager
    async def lifespan(app):
        raise ValueError(SECRET)
        yield

    app = position(sink)
    inner: Any = app.app if isinstance(app, ErrorMiddleware) else app
    inner.router.lifespan_context = lifespan
    with pytest.raises(ValueError, match=SECRET), client_of(app, backend):
        pass
    assert [report.phase for report in sink.reports] == ["lifespan"]
    assert len(lines) == 1


def test_a_mounted_app_may_have_its_own(sink, lines):
    """A sub-application's errata answers and reports first; the outer one stays silent."""
    outer = MemorySink()
    mounted = ErrorMiddleware(shop(), report_to=[sink])
    app = ErrorMiddleware(Starlette(routes=[Mount("/shop", mounted)]), report_to=[outer])
    with client_of(app) as client:
        answer = client.get("/shop/")
    assert answer.json()["error_id"] == sink.reports[0].error_id
    assert outer.reports == []
    assert len(lines) == 1


def test_raise_unhandled_raises_in_the_test_client(position, backend, sink):
    """With `raise_unhandled=True` a test sees the app's exception itself."""
    app = position(sink, raise_unhandled=True)
    with client_of(app, backend) as client, pytest.raises(ValueError, match=SECRET):
        client.get("/")
    assert len(sink.reports) == 1


def test_raise_unhandled_raises_after_the_answer(position, sink):
    """The answer is complete before the exception goes out."""
    app = position(sink, raise_unhandled=True)
    with client_of(app, raise_server_exceptions=False) as client:
        answer = client.get("/")
    assert answer.json()["error_id"] == sink.reports[0].error_id


def test_raise_unhandled_leaves_alone_what_a_handler_claims(backend, sink):
    """A handled exception is no failure of the test."""
    app = ErrorMiddleware(shop(), report_to=[sink], raise_unhandled=True)

    @app.exception_handler(ValueError)
    async def answer(request, exc):
        return error_response(418, "short and stout")

    with client_of(app, backend) as client:
        assert client.get("/").status_code == 418
    assert sink.reports == []


# ── what the app answers itself ─────────────────────────────────────────────────────


def exact(answer: Any) -> tuple[Any, ...]:
    """Return what must not differ."""
    return answer.status_code, answer.headers.multi_items(), answer.content


async def own_500(request: Request, exc: Exception) -> Response:
    return JSONResponse({"sorry": "about that"}, 500, headers={"x-mine": "yes"})


def test_an_apps_own_catch_all_answers(backend, sink, lines):
    """Starlette's handler for `Exception` keeps its answer; the error gets an id and a report."""
    app = shop(exception_handlers={Exception: own_500})
    with client_of(app, backend, raise_server_exceptions=False) as client:
        bare = client.get("/")
    with client_of(ErrorMiddleware(app, report_to=[sink]), backend) as client:
        answer = client.get("/")
    (report,) = sink.reports
    assert answer.content == bare.content == b'{"sorry":"about that"}'
    added = [
        pair for pair in answer.headers.multi_items() if pair not in bare.headers.multi_items()
    ]
    assert added == [("x-error-id", report.error_id)]
    assert [line["error_id"] for line in lines] == [report.error_id]


def test_starlettes_debug_page_is_the_apps_own_answer(sink):
    """Who turned on Starlette's debug page gets it, with an error id."""
    app = ErrorMiddleware(shop(debug=True), report_to=[sink])
    with client_of(app) as client:
        answer = client.get("/")
    assert answer.text.startswith("Traceback")
    assert answer.headers["x-error-id"] == sink.reports[0].error_id


def test_an_exception_that_the_app_handles_is_not_ours(backend, sink, lines):
    """What Starlette's own handlers answer below 500 passes untouched, unreported."""

    async def teapot(request, exc):
        return PlainTextResponse("teapot", 418)

    app = shop(exception_handlers={ValueError: teapot})
    with client_of(app, backend) as client:
        bare = client.get("/")
    with client_of(ErrorMiddleware(app, report_to=[sink]), backend) as client:
        assert exact(client.get("/")) == exact(bare)
    assert sink.reports == []
    assert lines == []


def test_an_http_exception_of_a_middleware_gets_its_status(backend, sink, lines):
    """Raised where Starlette has no handler for it, it is answered as it says, not as a 500."""

    class Guard:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                raise HTTPException(401, "Who are you?", headers={"WWW-Authenticate": "Basic"})
            await self.app(scope, receive, send)

    app = ErrorMiddleware(shop(Middleware(Guard)), report_to=[sink])
    with client_of(app, backend) as client:
        answer = client.get("/")
    assert answer.status_code == 401
    assert answer.json()["error"] == "Who are you?"
    assert answer.headers["www-authenticate"] == "Basic"
    assert sink.reports == []
    assert lines == []


def test_head_gets_no_body(backend, sink):
    """A HEAD request that fails is answered by headers alone."""
    app = ErrorMiddleware(shop(), report_to=[sink])
    with client_of(app, backend) as client:
        answer = client.head("/")
    assert (answer.status_code, answer.content) == (500, b"")
    assert answer.headers["x-error-id"] == sink.reports[0].error_id


def test_compression_outside_and_inside(backend, sink):
    """An error answer is readable whichever side of `GZipMiddleware` it comes from."""
    gzip = Middleware(GZipMiddleware, minimum_size=1)
    inner = Middleware(ErrorMiddleware, report_to=[sink])
    for app in (shop(gzip, inner), ErrorMiddleware(shop(gzip), report_to=[sink])):
        with client_of(app, backend) as client:
            answer = client.get("/", headers={"accept-encoding": "gzip"})
        assert answer.json()["error_id"] == sink.reports[-1].error_id
    assert len(sink.reports) == 2


# ── handlers ────────────────────────────────────────────────────────────────────────


class PaymentError(Exception):
    code = "card_declined"


class CardError(PaymentError):
    pass


def raising(exc: Exception, **options: Any) -> Starlette:
    async def endpoint(request: Request) -> Response:
        raise exc

    return Starlette(routes=[Route("/", endpoint)], **options)


@pytest.mark.parametrize("is_async", [True, False])
def test_a_handler_answers_by_mro(backend, is_async, sink):
    """The nearest registered base answers, async or in a thread; nothing is reported."""
    handlers = ExceptionHandlers()

    async def answer(request, exc):
        return error_response(402, str(exc), code=exc.code)

    def answer_plainly(request, exc):
        return error_response(402, str(exc), code=exc.code)

    handlers.add(PaymentError, answer if is_async else answer_plainly)
    handlers.add(Exception, lambda request, exc: error_response(500, "catch-all"))
    app = ErrorMiddleware(raising(CardError("declined")), handlers=handlers, report_to=[sink])
    with client_of(app, backend) as client:
        answer_ = client.get("/")
    assert answer_.status_code == 402
    assert answer_.json() == {"error": "declined", "code": "card_declined"}
    assert answer_.headers["x-error-id"]
    assert answer_.headers["cache-control"] == "no-store"
    assert sink.reports == []


def test_a_handler_sees_one_leaf_of_a_group(backend, sink):
    """A task group's single error is answered as that error."""

    async def endpoint(request: Request) -> Response:
        async def work() -> None:
            raise CardError("declined")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
        raise AssertionError

    app = ErrorMiddleware(Starlette(routes=[Route("/", endpoint)]), report_to=[sink])
    app.exception_handler(PaymentError)(lambda request, exc: error_response(402, str(exc)))
    with client_of(app, backend) as client:
        answer = client.get("/")
    assert (answer.status_code, answer.json()) == (402, {"error": "declined"})


def test_a_handler_that_fails_is_reported_with_what_it_failed_on(backend, sink, lines):
    """The answer is the generic 500, the one report shows both exceptions."""
    app = ErrorMiddleware(raising(ValueError("first")), report_to=[sink])

    @app.exception_handler(ValueError)
    def broken(request, exc):
        raise KeyError("second")

    with client_of(app, backend) as client:
        answer = client.get("/")
    (report,) = sink.reports
    assert answer.status_code == 500
    assert answer.json()["error_id"] == report.error_id
    assert report.failure.type == "KeyError"
    assert report.failure.context is not None
    assert report.failure.context.message == "first"
    assert len(lines) == 1


def test_the_request_of_a_handler_tells_about_the_error(sink):
    """Its id is the answer's, its client is derived from trusted proxies only."""
    seen: list[Any] = []
    app = ErrorMiddleware(raising(ValueError()), report_to=[sink], trusted_proxies=["10.0.0.0/8"])

    @app.exception_handler(ValueError)
    async def look(request, exc):
        seen.append((request.error_id, request.client_ip, request.url.path, request.method))
        return error_response(400, "no")

    with client_of(app, client=("10.0.0.1", 1)) as client:
        answer = client.get("/", headers={"x-forwarded-for": "203.0.113.9"})
    assert seen == [(answer.headers["x-error-id"], "203.0.113.9", "/", "GET")]


# ── FastAPI ─────────────────────────────────────────────────────────────────────────


class Order(BaseModel):
    quantity: int


async def resource() -> AsyncIterator[str]:
    yield "resource"
    raise ValueError(SECRET)


def fastapi() -> FastAPI:
    app = FastAPI()
    add_failing_routes(app)

    @app.get("/gone")
    async def gone():
        raise HTTPException(404)

    @app.get("/broken")
    async def broken():
        raise HTTPException(503, "Back at noon", headers={"Retry-After": "60"})

    @app.get("/own")
    async def own():
        return FastAPIJSONResponse({"detail": "degraded"}, 503)

    return app


def add_failing_routes(app: FastAPI) -> None:

    @app.get("/items/{item_id}")
    async def item(item_id: int):
        if item_id == 404:
            raise HTTPException(404, "Item not found")
        raise ValueError(SECRET)

    @app.get("/plain/{item_id}")
    def plain(item_id: int):
        raise ValueError(SECRET)

    @app.post("/orders")
    async def order(order: Order):
        raise CardError(f"declined {order.quantity}")

    @app.get("/teardown")
    async def teardown(resource: Annotated[str, Depends(resource)]):
        return {"used": resource}

    @app.get("/background")
    async def background(tasks: BackgroundTasks):
        def work() -> None:
            raise ValueError(SECRET)

        tasks.add_task(work)
        return {"accepted": True}


FASTAPI_UNTOUCHED = [
    ("GET", "/items/404"),
    ("GET", "/items/no-number"),
    ("GET", "/unknown"),
    ("GET", "/gone"),
    ("DELETE", "/items/1"),
    ("POST", "/orders"),
    ("GET", "/own"),
    ("GET", "/broken"),
    ("GET", "/openapi.json"),
    ("HEAD", "/items/404"),
]


@pytest.mark.parametrize(("method", "path"), FASTAPI_UNTOUCHED)
def test_what_fastapi_answers_well_is_untouched(method, path, backend, sink, lines):
    """Its HTTP exceptions, validation errors, 404, 405 and own answers stay as they are."""
    with client_of(fastapi(), backend) as client:
        bare = client.request(method, path)
    with client_of(ErrorMiddleware(fastapi(), report_to=[sink]), backend) as client:
        assert exact(client.request(method, path)) == exact(bare)
    assert sink.reports == []
    assert lines == []


@pytest.mark.parametrize("path", ["/items/7", "/plain/7"])
def test_an_error_in_fastapi_is_reported_with_its_route(path, backend, sink, lines):
    """An async or sync endpoint's error is one 500 and one report that names the route."""
    app = ErrorMiddleware(fastapi(), report_to=[sink])
    with client_of(app, backend) as client:
        answer = client.get(path, params={"q": "1"})
    (report,) = sink.reports
    assert answer.json()["error_id"] == report.error_id
    assert report.request is not None
    assert report.request.route == path.replace("7", "{item_id}")
    assert report.request.query == (("q", "1"),)
    assert report.failure.frames[-1].function.rpartition(".")[2] == path.split("/")[1].replace(
        "items", "item"
    )
    assert report.versions["fastapi"]
    assert len(lines) == 1


@pytest.mark.parametrize("key", [404, HTTPException.__mro__[1]])
def test_a_default_404_goes_to_its_handler(key, backend, sink):
    """A handler for 404 or for `HTTPException` answers unknown routes, and only these."""
    app = ErrorMiddleware(fastapi(), report_to=[sink])

    @app.exception_handler(key)
    async def missing(request, exc):
        return error_response(exc.status_code, "Nothing at " + request.url.path)

    with client_of(app, backend) as client:
        unknown, gone = client.get("/unknown"), client.get("/gone")
        own = client.get("/items/404")
    assert (unknown.status_code, unknown.json()) == (404, {"error": "Nothing at /unknown"})
    assert gone.json() == {"error": "Nothing at /gone"}
    assert own.json() == {"detail": "Item not found"}
    assert sink.reports == []


def test_the_catch_all_never_takes_a_default_404(backend):
    """A handler for `Exception` is for failures: an unknown route is none."""
    app = ErrorMiddleware(fastapi())
    app.exception_handler(Exception)(lambda request, exc: error_response(500, "catch-all"))
    with client_of(app, backend) as client:
        assert client.get("/unknown").json() == {"detail": "Not Found"}
        assert client.delete("/items/1").status_code == 405
        assert client.get("/items/1").json() == {"error": "catch-all"}


def test_a_default_405_keeps_its_allow_header(backend):
    """A handler's answer to a 405 still says which methods there are."""
    app = ErrorMiddleware(fastapi())
    app.exception_handler(405)(lambda request, exc: error_response(405, "Not so"))
    with client_of(app, backend) as client:
        answer = client.delete("/items/1")
    assert (answer.status_code, answer.json()) == (405, {"error": "Not so"})
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/teardown", "/background"])
def test_an_error_after_a_complete_response_is_reported_only(path, backend, sink, lines):
    """A failing teardown or background task leaves the client's 200 as it is."""
    app = ErrorMiddleware(fastapi(), report_to=[sink])
    with client_of(app, backend) as client:
        answer = client.get(path)
    assert answer.status_code == 200
    assert "x-error-id" not in answer.headers
    assert [report.phase for report in sink.reports] == ["background"]
    assert sink.reports[0].status == 200
    assert len(lines) == 1


def test_a_handler_reads_the_body_that_fastapi_has_read(backend, sink):
    """`await request.json()` works in a handler though the endpoint's model consumed it."""
    app = ErrorMiddleware(fastapi(), report_to=[sink])

    @app.exception_handler(PaymentError)
    async def declined(request, exc):
        return error_response(402, str(exc), details=await request.json())

    with client_of(app, backend) as client:
        answer = client.post("/orders", json={"quantity": 3})
    assert answer.json() == {"error": "declined 3", "details": {"quantity": 3}}


def test_add_middleware_of_fastapi(backend, sink, lines):
    """`app.add_middleware(ErrorMiddleware, …)` is enough."""
    app = fastapi()
    app.add_middleware(ErrorMiddleware, report_to=[sink])
    with client_of(app, backend) as client:
        answer = client.get("/items/1")
    assert answer.json()["error_id"] == sink.reports[0].error_id
    assert len(sink.reports) == len(lines) == 1


# ── the request's body ──────────────────────────────────────────────────────────────


def reader(how: str) -> Starlette:
    """Return an app that reads its request's body in one way, or a part of it, and fails."""

    async def endpoint(request: Request) -> Response:
        if how == "body":
            await request.body()
        elif how == "form":
            async with request.form() as form:
                assert form
        elif how == "first":
            await request.receive()
        raise ValueError(SECRET)

    return Starlette(routes=[Route("/", endpoint, methods=["POST"])])


def echoing(app: Any, **options: Any) -> ErrorMiddleware:
    """Return *app* with a handler that answers with the body as it can read it."""
    guarded = ErrorMiddleware(app, **options)

    @guarded.exception_handler(ValueError)
    async def answer(request, exc):
        body = await request.body()
        details = {"body": body.decode(), "truncated": request.body_truncated}
        return error_response(400, "no", details=details)

    return guarded


def chunks(*parts: bytes) -> Iterator[bytes]:
    yield from parts


@pytest.mark.parametrize("how", ["nothing", "first", "body"])
def test_a_handler_reads_what_the_app_read_and_what_it_did_not(how, backend):
    """Whatever the app has read before, the handler's request has the whole body."""
    with client_of(echoing(reader(how)), backend) as client:
        answer = client.post("/", content=chunks(b"one ", b"two ", b"three"))
    assert answer.json()["details"] == {"body": "one two three", "truncated": False}


@pytest.mark.parametrize("how", ["nothing", "first", "body"])
@pytest.mark.parametrize(("limit", "body"), [(7, "one two"), (13, "one two three"), (0, "")])
def test_a_long_body_is_truncated(how, limit, body, backend):
    """A handler gets `body_limit` bytes at most, and is told when there were more."""
    with client_of(echoing(reader(how), body_limit=limit), backend) as client:
        answer = client.post("/", content=chunks(b"one ", b"two ", b"three"))
    assert answer.json()["details"] == {"body": body, "truncated": limit < 13}


@pytest.mark.parametrize("how", ["nothing", "form"])
@pytest.mark.parametrize("multipart", [True, False])
def test_a_handler_reads_forms_and_files(how, multipart, backend):
    """`await request.form()` works in a handler, files included."""
    app = ErrorMiddleware(reader(how))

    @app.exception_handler(ValueError)
    async def answer(request, exc):
        async with request.form() as form:
            name = form["name"]
            content = await form["file"].read() if "file" in form else b""
            return error_response(400, "no", details=[name, content.decode()])

    files = {"file": ("a.txt", b"content")} if multipart else None
    with client_of(app, backend) as client:
        details = client.post("/", data={"name": "Ada"}, files=files).json()["details"]
    assert details == ["Ada", "content" if multipart else ""]


PASSWORD = "open-sesame-7"
SECRETIVE: list[tuple[str, dict[str, Any]]] = [
    ("body", {"json": {"name": "Ada", "password": PASSWORD}}),
    ("body", {"data": {"name": "Ada", "password": PASSWORD}}),
    ("form", {"data": {"name": "Ada", "password": PASSWORD}}),
    ("body", {"data": {"password": PASSWORD}, "files": {"file": ("a.txt", b"content")}}),
    ("form", {"data": {"password": PASSWORD}, "files": {"file": ("a.txt", b"content")}}),
    ("nothing", {"headers": {"authorization": f"Bearer {PASSWORD}", "x-api-key": PASSWORD}}),
    ("nothing", {"headers": {"cookie": f"sessionid={PASSWORD}"}}),
    ("nothing", {"params": {"token": PASSWORD}}),
]


@pytest.mark.parametrize(("how", "options"), SECRETIVE)
def test_a_report_does_not_tell_the_secrets_of_a_request(how, options, backend, sink, lines):
    """Neither the request, nor the frames' locals that hold it, nor the log line tell them."""
    app = ErrorMiddleware(reader(how), report_to=[sink])
    with client_of(app, backend) as client:
        client.post("/", **options)
    (report,) = sink.reports
    assert PASSWORD not in str(lines)
    assert [path for path, text in texts(report.to_dict()) if PASSWORD in text] == []


@pytest.mark.parametrize("kind", ["json", "data"])
def test_the_report_has_the_body_that_was_read(kind, backend, sink):
    """What the app has read of a JSON body or form is in the report, its secrets masked."""
    app = ErrorMiddleware(reader("body"), report_to=[sink])
    with client_of(app, backend) as client:
        client.post("/", **{kind: {"name": "Ada", "password": PASSWORD}})
    assert sink.reports[0].request is not None
    assert sink.reports[0].request.body is not None
    assert "Ada" in sink.reports[0].request.body
    assert PASSWORD not in sink.reports[0].request.body


def texts(data: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in *data*, and where it stands."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield path, str(key)
            yield from texts(value, f"{path}.{key}")
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from texts(value, f"{path}[{index}]")
    else:
        yield path, str(data)


def test_a_body_that_nobody_reads_does_not_hold_the_answer_up(backend, sink):
    """Without a handler nobody waits for the rest of an upload."""
    app = ErrorMiddleware(reader("first"), report_to=[sink])
    with client_of(app, backend) as client:
        answer = client.post("/", content=chunks(b"one ", b"two"))
    assert answer.status_code == 500
    assert sink.reports[0].request is not None
    assert "two" not in (sink.reports[0].request.body or "")


# ── the trail ───────────────────────────────────────────────────────────────────────

log = logging.getLogger("tests.shop")


def messages(report: Any) -> list[str]:
    return [crumb.message for crumb in report.crumbs]


async def leave_a_trail(request: Request) -> Response:
    log.warning("looking at %s", request.url.path)
    note("noted", basket=3)
    record_query("SELECT 1 WHERE id = ?", (7,), 0.25)
    await anyio.to_thread.run_sync(log.warning, "in a thread")

    async def child() -> None:
        log.warning("in a task")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child)
    raise ValueError(SECRET)


def trailing(**options: Any) -> Any:
    app = Starlette(
        routes=[Route("/a", leave_a_trail), Route("/b", leave_a_trail)],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_on)],
    )
    return ErrorMiddleware(app, **options)


@pytest.mark.parametrize("options", [{"trail": True}, {"debug": True}], ids=str)
def test_the_report_tells_what_led_to_the_error(options, backend, sink):
    """Log lines, notes and queries of this request are there, from threads and tasks too."""
    with client_of(trailing(report_to=[sink], **options), backend) as client:
        log.warning("before the request")
        client.get("/a")
        log.warning("between the requests")
        client.get("/b")
    for path, report in zip(["/a", "/b"], sink.reports, strict=True):
        assert messages(report) == [f"looking at {path}", "noted", "in a thread", "in a task"]
        assert [crumb.logger for crumb in report.crumbs][:2] == ["tests.shop", "note"]
        assert report.crumbs[1].fields == {"basket": 3}
        (query,) = report.queries
        assert (query.sql, query.duration) == ("SELECT 1 WHERE id = ?", 0.25)
        assert "7" in str(query.params)


@pytest.mark.parametrize("options", [{}, {"debug": True, "trail": False}], ids=str)
def test_there_is_no_trail_unless_asked_for(options, backend, sink):
    """In production nothing is recorded."""
    with client_of(trailing(report_to=[sink], **options), backend) as client:
        client.get("/a")
    (report,) = sink.reports
    assert (report.crumbs, report.queries) == ((), ())


def test_asyncios_own_threads_and_tasks_leave_a_trail(sink):
    """`asyncio.to_thread` and `asyncio.create_task` belong to their request."""

    async def endpoint(request: Request) -> Response:
        await asyncio.to_thread(record_query, "SELECT 2")

        async def child() -> None:
            note("in a task")

        await asyncio.create_task(child())
        raise ValueError(SECRET)

    app = Starlette(routes=[Route("/", endpoint)])
    with client_of(ErrorMiddleware(app, trail=True, report_to=[sink])) as client:
        client.get("/")
    (report,) = sink.reports
    assert [query.sql for query in report.queries] == ["SELECT 2"]
    assert messages(report) == ["in a task"]


async def test_the_trails_of_concurrent_requests_do_not_mix(anyio_backend, sink):
    """Two requests at the same time each have their own trail and no more."""
    arrived = [anyio.Event(), anyio.Event()]

    async def endpoint(request: Request) -> Response:
        number = int(request.path_params["number"])
        note(f"{number} begins")
        arrived[number].set()
        await arrived[1 - number].wait()
        await anyio.to_thread.run_sync(log.warning, "%s ends", number)
        record_query(f"SELECT {number}")
        raise ValueError(SECRET)

    app = Starlette(routes=[Route("/{number}", endpoint)])
    guarded = ErrorMiddleware(app, trail=True, report_to=[sink])
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number in range(2):
                tasks.start_soon(call, guarded, http_scope(f"/{number}"))
    assert await guarded.drain()
    assert len(sink.reports) == 2
    for report in sink.reports:
        assert report.request is not None
        number = report.request.path[1:]
        assert messages(report) == [f"{number} begins", f"{number} ends"]
        assert [query.sql for query in report.queries] == [f"SELECT {number}"]


async def test_a_sink_has_no_part_in_the_trail(anyio_backend, sink):
    """What a sink logs is not recorded, neither for its own request nor for the next."""
    loud = MemorySink()

    async def shout(report: Any) -> None:
        log.warning("delivering")
        await loud(report)

    app = trailing(trail=True, report_to=[shout, sink])
    for _ in range(2):
        await call(app, http_scope("/a"))
        assert await app.drain()
    assert len(loud.reports) == 2
    assert all("delivering" not in messages(report) for report in loud.reports)


async def test_the_trail_ends_with_its_request(anyio_backend):
    """After a request, good or bad, the caller's context is as it was."""
    for endpoint in (leave_a_trail, fail_in_background):
        app = Starlette(routes=[Route("/", endpoint)])
        sink = MemorySink()
        guarded = ErrorMiddleware(app, trail=True, report_to=[sink])
        await call(guarded, http_scope("/"))
        note("after it")
        await call(guarded, http_scope("/"))
        assert await guarded.drain()
        assert "after it" not in messages(sink.reports[-1])


# ── what passes through ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_what_ends_a_process_passes_through_starlette(kind, anyio_backend, sink, lines):
    """Nothing is answered and nothing reported when the process is to end."""

    async def endpoint(request: Request) -> Response:
        raise kind

    guarded = ErrorMiddleware(Starlette(routes=[Route("/", endpoint)]), report_to=[sink])
    server = Server(http_scope())
    with pytest.raises(kind):
        await guarded(http_scope(), server.receive, server.send)
    assert server.outcome.messages == []
    assert sink.reports == []
    assert lines == []


async def test_a_group_with_a_cancellation_passes_through(sink, lines):
    """A group that holds what is no `Exception` is nobody's to answer."""

    async def endpoint(request: Request) -> Response:
        raise BaseExceptionGroup("mixed", [ValueError(SECRET), asyncio.CancelledError()])

    guarded = ErrorMiddleware(Starlette(routes=[Route("/", endpoint)]), report_to=[sink])
    server = Server(http_scope())
    with pytest.raises(BaseExceptionGroup):
        await guarded(http_scope(), server.receive, server.send)
    assert sink.reports == []
    assert lines == []


def test_a_websocket_that_is_refused_or_closed_is_no_error(backend, sink, lines):
    """Starlette's own closes pass through: `WebSocketDisconnect` is what the client gets."""

    async def refuse(websocket: Any) -> None:
        await websocket.close(4001, "not you")

    async def leave(websocket: Any) -> None:
        await websocket.accept()
        await websocket.receive_text()

    routes = [WebSocketRoute("/refuse", refuse), WebSocketRoute("/leave", leave)]
    app = ErrorMiddleware(Starlette(routes=routes), report_to=[sink])
    with client_of(app, backend) as client:
        with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/refuse"):
            pass
        with client.websocket_connect("/leave"):
            pass
    assert refused.value.code == 4001
    assert app.disconnects == 1
    assert sink.reports == []
    assert lines == []


def test_handlers_of_other_threads_do_not_wait_for_each_other(sink):
    """A sync handler that blocks keeps no other request from its answer."""
    release = threading.Event()
    app = ErrorMiddleware(shop(), report_to=[sink])

    @app.exception_handler(ValueError)
    def block(request, exc):
        if request.url.query == "block":
            assert release.wait(20)
        return error_response(400, "done")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, app, http_scope("/", query="block"))
            with anyio.fail_after(10):
                outcome = await call(app, http_scope("/"))
            assert outcome.status == 400
            release.set()

    anyio.run(main)
