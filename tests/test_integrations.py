"""The frameworks that swallow their exceptions: one suite of promises over all of them.

What a framework cannot do stands in `DEVIATIONS`, with the reason.
"""

# No postponed annotations: the frameworks resolve those of their routes.

import asyncio
import gc
import logging
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from types import ModuleType
from typing import Any

import pytest
import structlog

from errata import ErrorMiddleware, error_response
from errata.connect import connect
from errata.testing import MemorySink
from errata.witness import current_cell, with_cell, witness, witness_task
from tests.asgi import Outcome, call, http_scope, respond, websocket_scope


pytestmark = pytest.mark.anyio

# Sanic rewrites its own methods at an app's startup, once and for all apps of the process
# (its "touch-up" drops the signals that nobody receives). These are the methods before that.
_sanic_touch_up = import_module("sanic.touchup.service").TouchUp
import_module("sanic")
SANIC_METHODS = {
    (target, name): getattr(target, name) for target, name in _sanic_touch_up._registry
}


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


# ── what the apps do ────────────────────────────────────────────────────────────────────


class Handled(Exception):
    """The app has a handler of its own for this one."""


class Boom(ValueError):
    """An error that can be referred to weakly, as the classes that Python defines can too."""


@dataclass
class Stage:
    """What the routes of one app share with the test."""

    arrived: set[str] = field(default_factory=set)
    all_here: asyncio.Event = field(default_factory=asyncio.Event)
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    error: Any = None
    """A weak reference to what `fail` raised last."""

    async def fail(self) -> Any:
        """Raise as an async view does."""
        error = Boom("of the app")
        self.error = weakref.ref(error)
        try:
            raise error
        finally:
            del error

    async def meet(self, name: str) -> Any:
        """Raise when two requests are here."""
        self.arrived.add(name)
        if len(self.arrived) == 2:
            self.all_here.set()
        await self.all_here.wait()
        raise Boom(name)

    async def hang(self) -> str:
        """Wait for the test."""
        self.hanging.set()
        await self.release.wait()
        return "released"

    async def task(self) -> None:
        """Fail beside the request."""
        self.failed.set()
        raise Boom("of a task")

    async def late_task(self) -> None:
        """Fail when the request is over."""
        await self.release.wait()
        self.failed.set()
        raise Boom("of a late task")


def fail_sync() -> Any:
    """Raise as a sync view does."""
    raise Boom("of the app")


async def stream() -> AsyncIterator[bytes]:
    """Fail after the first chunk."""
    yield b"one"
    raise Boom("in the stream")


# ── the apps ────────────────────────────────────────────────────────────────────────────


def starlette_app(stage: Stage, *, catch_all: bool) -> Any:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.exceptions import HTTPException
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    def sync(request):
        return fail_sync()

    async def refuse(request):
        raise HTTPException(418, "a teapot")

    async def handled(request):
        raise Handled

    async def early(websocket):
        await stage.fail()

    async def late(websocket):
        await websocket.accept()
        await stage.fail()

    async def answer_handled(request, exc):
        return PlainTextResponse("handled by the app", 409)

    async def answer_all(request, exc):
        return PlainTextResponse("our own page", 500)

    def view(function, *args):
        async def route(request):
            return PlainTextResponse(await function(*args))

        return route

    def plain(status, text, task=None):
        async def route(request):
            background = BackgroundTask(task) if task else None
            return PlainTextResponse(text, status, background=background)

        return route

    async def streaming(request):
        return StreamingResponse(stream())

    return Starlette(
        routes=[
            Route("/fail", view(stage.fail)),
            Route("/sync", sync),
            Route("/refuse", refuse),
            Route("/handled", handled),
            Route("/busy", plain(503, "closed for lunch")),
            Route("/broken", plain(500, "out of order")),
            Route("/meet/a", view(stage.meet, "a")),
            Route("/meet/b", view(stage.meet, "b")),
            Route("/hang", view(stage.hang)),
            Route("/task", plain(200, "ok", stage.task)),
            Route("/stream", streaming),
            WebSocketRoute("/early", early),
            WebSocketRoute("/late", late),
        ],
        exception_handlers={
            Handled: answer_handled,
            **({Exception: answer_all} if catch_all else {}),
        },
    )


def fastapi_app(stage: Stage, *, catch_all: bool) -> Any:
    from fastapi import BackgroundTasks, FastAPI, HTTPException, WebSocket
    from starlette.responses import PlainTextResponse, StreamingResponse

    app = FastAPI()
    app.get("/fail")(stage.fail)
    app.get("/sync")(fail_sync)
    app.get("/hang")(stage.hang)

    @app.get("/number")
    async def number(n: int):
        return n

    @app.get("/refuse")
    async def refuse():
        raise HTTPException(418, "a teapot")

    @app.get("/handled")
    async def handled():
        raise Handled

    @app.get("/busy")
    async def busy():
        return PlainTextResponse("closed for lunch", 503)

    @app.get("/broken")
    async def broken():
        return PlainTextResponse("out of order", 500)

    @app.get("/meet/{name}")
    async def meet(name: str):
        await stage.meet(name)

    @app.get("/task")
    async def task(tasks: BackgroundTasks):
        tasks.add_task(stage.task)

    @app.get("/stream")
    async def streaming():
        return StreamingResponse(stream())

    @app.websocket("/early")
    async def early(websocket: WebSocket):
        await stage.fail()

    @app.websocket("/late")
    async def late(websocket: WebSocket):
        await websocket.accept()
        await stage.fail()

    @app.exception_handler(Handled)
    async def answer_handled(request, exc):
        return PlainTextResponse("handled by the app", 409)

    if catch_all:

        @app.exception_handler(Exception)
        async def answer_all(request, exc):
            return PlainTextResponse("our own page", 500)

    return app


def litestar_app(stage: Stage, *, catch_all: bool) -> Any:
    from litestar import Litestar, Response, WebSocket, get, websocket
    from litestar.background_tasks import BackgroundTask
    from litestar.exceptions import HTTPException, WebSocketException
    from litestar.params import FromPath, FromQuery
    from litestar.response import Stream

    def text(content, status=200, background=None):
        return Response(content, status_code=status, media_type="text/plain", background=background)

    @get("/fail")
    async def fail() -> Any:
        await stage.fail()

    @get("/sync", sync_to_thread=True)
    def sync() -> Any:
        fail_sync()

    @get("/number")
    async def number(n: FromQuery[int]) -> int:
        return n

    @get("/refuse")
    async def refuse() -> Any:
        raise HTTPException(detail="a teapot", status_code=418)

    @get("/handled")
    async def handled() -> Any:
        raise Handled

    @get("/busy")
    async def busy() -> Response:
        return text("closed for lunch", 503)

    @get("/broken")
    async def broken() -> Response:
        return text("out of order", 500)

    @get("/meet/{name:str}")
    async def meet(name: FromPath[str]) -> Any:
        await stage.meet(name)

    @get("/hang")
    async def hang() -> str:
        return await stage.hang()

    @get("/task")
    async def task() -> Response:
        return text("ok", background=BackgroundTask(stage.task))

    @get("/stream")
    async def streaming() -> Stream:
        return Stream(stream())

    @websocket("/early")
    async def early(socket: WebSocket) -> None:
        await stage.fail()

    @websocket("/late")
    async def late(socket: WebSocket) -> None:
        await socket.accept()
        await stage.fail()

    @websocket("/closed")
    async def closed(socket: WebSocket) -> None:
        await socket.accept()
        raise WebSocketException(detail="by the app", code=4321)

    def answer_handled(request, exc):
        return text("handled by the app", 409)

    def answer_all(request, exc):
        return text("our own page", 500)

    handlers: Any = {Handled: answer_handled, **({500: answer_all} if catch_all else {})}
    return Litestar(
        [
            fail,
            sync,
            number,
            refuse,
            handled,
            busy,
            broken,
            meet,
            hang,
            task,
            streaming,
            early,
            late,
            closed,
        ],
        exception_handlers=handlers,
        logging_config=None,
        openapi_config=None,
    )


def quart_app(stage: Stage, *, catch_all: bool) -> Any:
    from quart import Quart, Response, abort, websocket

    app: Any = Quart("errata_tests")
    for path, function in {"/fail": stage.fail, "/hang": stage.hang, "/sync": fail_sync}.items():
        app.add_url_rule(path, view_func=function)

    @app.get("/refuse")
    async def refuse():
        abort(418, "a teapot")

    @app.get("/handled")
    async def handled():
        raise Handled

    @app.get("/busy")
    async def busy():
        return "closed for lunch", 503

    @app.get("/broken")
    async def broken():
        return "out of order", 500

    @app.get("/meet/<name>")
    async def meet(name):
        await stage.meet(name)

    @app.get("/task")
    async def task():
        app.add_background_task(stage.task)
        return "ok"

    @app.get("/late-task")
    async def late_task():
        app.add_background_task(stage.late_task)
        return "ok"

    @app.get("/stream")
    async def streaming():
        return Response(stream())

    @app.websocket("/early")
    async def early():
        await stage.fail()

    @app.websocket("/late")
    async def late():
        await websocket.accept()
        await stage.fail()

    @app.errorhandler(Handled)
    async def answer_handled(exc):
        return "handled by the app", 409

    if catch_all:

        @app.errorhandler(500)
        async def answer_all(exc):
            return "our own page", 500

    return app


class AnswerHandled:
    """A middleware of Django with an answer for `Handled`."""

    async_capable, sync_capable = True, False

    def __init__(self, get_response):
        self.get_response = get_response
        import_module("asgiref.sync").markcoroutinefunction(self)

    async def __call__(self, request):
        return await self.get_response(request)

    def process_exception(self, request, exc):
        if isinstance(exc, Handled):
            return import_module("django.http").HttpResponse("handled by the app", status=409)
        return None


def django_app(stage: Stage, *, catch_all: bool) -> Any:
    http, errors = import_module("django.http"), import_module("django.core.exceptions")
    methods, urls = import_module("django.views.decorators.http"), import_module("django.urls")

    async def fail(request):
        await stage.fail()

    def sync(request):
        fail_sync()

    async def refuse(request):
        raise errors.PermissionDenied("a teapot")

    async def handled(request):
        raise Handled

    async def busy(request):
        return http.HttpResponse("closed for lunch", status=503)

    async def broken(request):
        return http.HttpResponse("out of order", status=500)

    async def meet(request, name):
        await stage.meet(name)

    async def hang(request):
        return http.HttpResponse(await stage.hang())

    async def streaming(request):
        return http.StreamingHttpResponse(stream())

    sys.modules["errata_django"] = routes = ModuleType("errata_django")
    routes.AnswerHandled = AnswerHandled  # type: ignore[attr-defined]
    routes.urlpatterns = [  # type: ignore[attr-defined]
        urls.path("fail", methods.require_GET(fail)),
        urls.path("sync", sync),
        urls.path("refuse", refuse),
        urls.path("handled", handled),
        urls.path("busy", busy),
        urls.path("broken", broken),
        urls.path("meet/<name>", meet),
        urls.path("hang", hang),
        urls.path("stream", streaming),
    ]
    if catch_all:
        routes.handler500 = lambda request: http.HttpResponse(  # type: ignore[attr-defined]
            "our own page", status=500
        )
    urls.clear_url_caches()
    return import_module("django.core.asgi").get_asgi_application()


def falcon_app(stage: Stage, *, catch_all: bool) -> Any:
    import falcon
    from falcon.asgi import App

    class Resource:
        def __init__(self, function, *args):
            self.function, self.args = function, args

        async def on_get(self, req, resp):
            if self.function is not None:
                resp.text = await self.function(*self.args)
            else:
                resp.status, resp.text = self.args

    class Special:
        async def on_get_refuse(self, req, resp):
            raise falcon.HTTPError(418, title="a teapot")

        async def on_get_handled(self, req, resp):
            raise Handled

        async def on_get_task(self, req, resp):
            resp.text = "ok"
            resp.schedule(stage.task)

        async def on_get_stream(self, req, resp):
            resp.stream = stream()

        async def on_websocket_early(self, req, ws):
            await stage.fail()

        async def on_websocket_late(self, req, ws):
            await ws.accept()
            await stage.fail()

    app: Any = App()
    for suffix in ("refuse", "handled", "task", "stream", "early", "late"):
        app.add_route(f"/{suffix}", Special(), suffix=suffix)
    app.add_route("/fail", Resource(stage.fail))
    app.add_route("/hang", Resource(stage.hang))
    app.add_route("/meet/a", Resource(stage.meet, "a"))
    app.add_route("/meet/b", Resource(stage.meet, "b"))
    app.add_route("/busy", Resource(None, 503, "closed for lunch"))
    app.add_route("/broken", Resource(None, 500, "out of order"))

    async def answer_handled(req, resp, ex, params):
        resp.status, resp.text = 409, "handled by the app"

    async def answer_all(req, resp, ex, params, ws=None):
        if ws is not None:
            await ws.close(4321)
        else:
            resp.status, resp.text = 500, "our own page"

    app.add_error_handler(Handled, answer_handled)
    if catch_all:
        app.add_error_handler(Exception, answer_all)
    return app


def blacksheep_app(stage: Stage, *, catch_all: bool) -> Any:
    from blacksheep import Application, Router, WebSocket
    from blacksheep.contents import StreamedContent, TextContent
    from blacksheep.exceptions import HTTPException
    from blacksheep.messages import Response

    router = Router()
    router.add_get("/sync", fail_sync)

    def text(status, content):
        return Response(status, content=TextContent(content))

    @router.get("/fail")
    async def fail():
        await stage.fail()

    @router.get("/hang")
    async def hang():
        return await stage.hang()

    @router.get("/number")
    async def number(n: int):
        return n

    @router.get("/refuse")
    async def refuse():
        raise HTTPException(418, "a teapot")

    @router.get("/handled")
    async def handled():
        raise Handled

    @router.get("/busy")
    async def busy():
        return text(503, "closed for lunch")

    @router.get("/broken")
    async def broken():
        return text(500, "out of order")

    @router.get("/meet/{name}")
    async def meet(name: str):
        await stage.meet(name)

    @router.get("/stream")
    async def streaming():
        return Response(200, content=StreamedContent(b"text/plain", stream))

    @router.ws("/early")
    async def early(websocket: WebSocket):
        await stage.fail()

    @router.ws("/late")
    async def late(websocket: WebSocket):
        await websocket.accept()
        await stage.fail()

    app = Application(router=router)

    @app.exception_handler(Handled)
    async def answer_handled(self, request, exc):
        return text(409, "handled by the app")

    if catch_all:

        @app.exception_handler(500)
        async def answer_all(self, request, exc):
            return text(500, "our own page")

    return app


_sanic_names = count()


def sanic_app(stage: Stage, *, catch_all: bool) -> Any:
    from sanic import Sanic
    from sanic.exceptions import SanicException
    from sanic.response import text

    app: Any = Sanic(f"errata_tests_{next(_sanic_names)}", configure_logging=False)
    Sanic.unregister_app(app)
    app.config.MOTD = False

    @app.get("/fail")
    async def fail(request):
        await stage.fail()

    @app.get("/sync")
    def sync(request):
        fail_sync()

    @app.get("/refuse")
    async def refuse(request):
        raise SanicException("a teapot", 418)

    @app.get("/quota")
    async def quota(request):
        raise SanicException("the quota is used up")

    @app.get("/handled")
    async def handled(request):
        raise Handled

    @app.get("/busy")
    async def busy(request):
        return text("closed for lunch", 503)

    @app.get("/broken")
    async def broken(request):
        return text("out of order", 500)

    @app.get("/meet/<name>")
    async def meet(request, name):
        await stage.meet(name)

    @app.get("/hang")
    async def hang(request):
        return text(await stage.hang())

    @app.get("/task")
    async def task(request):
        done, _ = await asyncio.wait([request.app.add_task(stage.task())])
        assert done.pop().exception()  # Else asyncio complains.
        return text("ok")

    @app.get("/late-task")
    async def late_task(request):
        late = request.app.add_task(stage.late_task())
        late.add_done_callback(lambda task: task.exception())
        return text("ok")

    @app.get("/stream")
    async def streaming(request):
        response = await request.respond()
        async for chunk in stream():
            await response.send(chunk)

    @app.websocket("/late")
    async def late(request, ws):
        await stage.fail()

    @app.exception(Handled)
    async def answer_handled(request, exc):
        return text("handled by the app", 409)

    if catch_all:

        @app.exception(Exception)
        async def answer_all(request, exc):
            return text("our own page", 500)

    return app


# ── the table ───────────────────────────────────────────────────────────────────────────


FRAMEWORKS = (
    "starlette",
    "fastapi",
    "litestar",
    "quart",
    "django",
    "falcon",
    "blacksheep",
    "sanic",
)
ESCAPING = {"starlette", "fastapi"}  # These let their exceptions out: no hook is needed.

DEVIATIONS = {
    ("falcon", "sync"): "its ASGI app takes coroutines alone",
    ("quart", "task"): "its tasks run beside the request",
    ("django", "task"): "has no background tasks",
    ("falcon", "task"): "resp.schedule() tells nobody but the event loop's exception handler",
    ("blacksheep", "task"): "has no background tasks",
    ("sanic", "task"): "its tasks run beside the request",
    ("starlette", "task beside"): "its background tasks are a part of the response",
    ("fastapi", "task beside"): "its background tasks are a part of the response",
    ("litestar", "task beside"): "its background tasks are a part of the response",
    ("django", "task beside"): "has no background tasks",
    ("falcon", "task beside"): "resp.schedule() tells nobody but the loop's exception handler",
    ("blacksheep", "task beside"): "has no background tasks",
    ("django", "early"): "has no websockets",
    ("django", "late"): "has no websockets",
    ("sanic", "early"): "accepts before the app's handler is called",
    ("starlette", "number"): "has no validation",
    ("quart", "number"): "has no validation",
    ("django", "number"): "has no validation of arguments",
    ("falcon", "number"): "has no validation of arguments",
    ("sanic", "number"): "has no validation of arguments",
}
"""What a framework has not or cannot: no row of the suite, and a word in docs/frameworks.md."""


def frameworks(row: str) -> Any:
    """Parametrise with the frameworks that have *row*."""
    return pytest.mark.parametrize(
        "framework", [name for name in FRAMEWORKS if (name, row) not in DEVIATIONS]
    )


@pytest.fixture
def stage():
    return Stage()


@pytest.fixture
def build(stage, monkeypatch):
    """Build the app of a framework."""

    def build_app(framework, *, catch_all=False):
        if framework == "sanic":
            for (target, name), method in SANIC_METHODS.items():
                monkeypatch.setattr(target, name, method)
        return globals()[f"{framework}_app"](stage, catch_all=catch_all)

    return build_app


@pytest.fixture(autouse=True)
def django_settings():
    """Let Django have settings for the time of one test: they are the process's."""
    conf = import_module("django.conf")
    before = conf.settings._wrapped
    conf.settings._wrapped = conf.empty
    conf.settings.configure(
        ALLOWED_HOSTS=["*"],
        LOGGING_CONFIG=None,
        MIDDLEWARE=["errata_django.AnswerHandled"],
        ROOT_URLCONF="errata_django",
    )
    yield
    conf.settings._wrapped = before
    sys.modules.pop("errata_django", None)


@pytest.fixture
def collected():
    """Collect what a test leaves: Django does not close a body's file where a request fails."""
    yield
    gc.collect()


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """Run *app* between the two halves of a lifespan, as a server does."""
    events: asyncio.Queue[Any] = asyncio.Queue()
    begun = asyncio.Event()

    async def send(message: Any) -> None:
        begun.set()

    async def lifespan() -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        with suppress(ValueError):  # Django has no lifespan.
            await app(scope, events.get, send)
        begun.set()

    await events.put({"type": "lifespan.startup"})
    task = asyncio.create_task(lifespan())
    await begun.wait()
    yield
    await events.put({"type": "lifespan.shutdown"})
    await task


async def get(app: Any, path: str, method: str = "GET") -> Outcome:
    """Ask for *path* in a task of its own, as a server does."""
    path, _, query = path.partition("?")
    scope = http_scope(path, method=method, query=query, headers={"host": "localhost"}, state={})

    async def with_lists(scope: Any, receive: Any, send: Any) -> None:
        async def send_lists(message: Any) -> None:
            # Sanic sends its headers as a generator, which only one reader can read.
            headers = {"headers": list(message["headers"])} if "headers" in message else {}
            await send(message | headers)

        await app(scope, receive, send_lists)

    return await asyncio.create_task(call(with_lists, scope))


async def open_websocket(app: Any, path: str, *, denial: bool = True) -> Outcome:
    """Open a websocket in a task of its own."""
    scope = websocket_scope(path, denial=denial, headers={"host": "localhost"}, state={})
    scope["scheme"] = "ws"
    return await asyncio.create_task(call(app, scope))


def mechanism(framework: str) -> str:
    return "escaped" if framework in ESCAPING else "hook"


# ── the promises ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("framework", "path"),
    [(name, "/fail") for name in FRAMEWORKS]
    + [(name, "/sync") for name in FRAMEWORKS if (name, "sync") not in DEVIATIONS],
)
async def test_unhandled_exception_is_answered_and_reported(build, sink, logged, framework, path):
    """An exception of a view gives our 500, one report with the view's frame, and one line."""
    app = ErrorMiddleware(build(framework), report_to=[sink])
    async with running(app):
        answer = await get(app, path)
    (report,) = sink.reports
    (line,) = logged
    assert (answer.status, answer.raised) == (500, None)
    assert answer.json["error"] == "Internal server error"
    assert answer.headers["x-error-id"] == report.error_id == line["error_id"]
    assert (report.failure.type, report.failure.message) == ("Boom", "of the app")
    assert (report.mechanism, report.phase) == (mechanism(framework), "request")
    frame = report.failure.frames[-1]
    assert frame.function == ("Stage.fail" if path == "/fail" else "fail_sync")
    assert frame.in_app
    assert frame.file.endswith("test_integrations.py")
    assert report.request.path == path


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_handler_of_ours_answers(build, sink, logged, framework):
    """An exception handler that is registered with errata gets what the framework swallows."""
    app = ErrorMiddleware(build(framework), report_to=[sink])
    seen = []

    @app.exception_handler(ValueError)
    async def answer(request, exc):
        seen.append((request.url.path, str(exc)))
        return error_response(418, "short and stout")

    async with running(app):
        outcome = await get(app, "/fail")
    assert (outcome.status, outcome.json) == (418, {"error": "short and stout"})
    assert seen == [("/fail", "of the app")]
    assert sink.reports == logged == []


@pytest.mark.parametrize(
    ("framework", "method", "path"),
    [
        pytest.param(
            name,
            method,
            path,
        )
        for name in FRAMEWORKS
        for method, path in [
            ("GET", "/nope"),
            ("POST", "/fail"),
            ("GET", "/refuse"),
            ("GET", "/handled"),
            ("GET", "/busy"),
            ("GET", "/broken"),
            ("GET", "/number?n=many"),
        ]
        if (name, path[1:].partition("?")[0]) not in DEVIATIONS
    ],
)
async def test_answers_of_the_app_stay(build, sink, logged, framework, method, path):
    """What the framework or the app has answered on purpose stays as it is, and is no error."""
    bare = build(framework)
    async with running(bare):
        expected = await get(bare, path, method)
    app = ErrorMiddleware(build(framework), report_to=[sink])
    async with running(app):
        answer = await get(app, path, method)
    assert answer.messages == expected.messages
    assert answer.status >= 400
    assert sink.reports == logged == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_own_answer_of_a_catch_all_stays(build, sink, logged, framework):
    """The app's own page for whatever fails goes out as it is, with the error id on it."""
    app = ErrorMiddleware(build(framework, catch_all=True), report_to=[sink])
    async with running(app):
        answer = await get(app, "/fail")
    (report,) = sink.reports
    assert (answer.status, answer.body) == (500, b"our own page")
    assert answer.headers["x-error-id"] == report.error_id
    assert (report.failure.type, report.mechanism) == ("Boom", mechanism(framework))
    assert len(logged) == 1


@frameworks("task")
async def test_exception_of_a_background_task_is_reported(build, sink, logged, framework):
    """A task that belongs to its response fails without harm to it, and is reported."""
    app = ErrorMiddleware(build(framework), report_to=[sink])
    async with running(app):
        answer = await get(app, "/task")
    (report,) = sink.reports
    assert (answer.status, answer.raised, answer.complete) == (200, None, True)
    assert (report.failure.message, report.phase) == ("of a task", "background")
    assert report.mechanism == "escaped"
    assert len(logged) == 1


@frameworks("task beside")
@pytest.mark.parametrize("path", ["/task", "/late-task"])
async def test_exception_of_a_task_beside_the_request_is_reported(
    build, stage, sink, logged, framework, path
):
    """A task that a framework runs by itself is reported, within its request and after it."""
    app = ErrorMiddleware(build(framework), report_to=[sink])
    async with running(app):
        answer = await get(app, path)
        stage.release.set()
        await stage.failed.wait()
        await asyncio.sleep(0)
    await app.drain()
    (report,) = sink.reports
    assert (answer.status, answer.raised, answer.complete) == (200, None, True)
    assert (report.failure.type, report.phase, report.mechanism) == ("Boom", "background", "hook")
    assert report.request.path == path
    assert len(logged) == 1


@frameworks("task beside")
@pytest.mark.parametrize("path", ["/task", "/late-task"])
async def test_exception_of_a_task_beside_the_request_is_shown(build, stage, framework, path):
    """A task that a framework runs by itself is told of, within its request and after it."""
    told = []
    reported = asyncio.Event()

    async def report(scope, exc, mechanism):
        told.append((scope["path"], str(exc), mechanism))
        reported.set()

    inner = build(framework)
    connect(inner)
    app = with_cell(inner, report)
    async with running(app):
        answer = await get(app, path)
        stage.release.set()
        await reported.wait()
    kind = "of a task" if path == "/task" else "of a late task"
    assert told == [(path, kind, "hook")]
    assert (answer.status, answer.raised, answer.complete) == (200, None, True)


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_exception_in_a_stream_aborts_it(build, sink, logged, framework):
    """Half a body is never taken for a whole one, and the failure is reported once."""
    app = ErrorMiddleware(build(framework), report_to=[sink])
    async with running(app):
        answer = await get(app, "/stream")
    (report,) = sink.reports
    failure = report.failure.members[0] if report.failure.members else report.failure
    assert answer.raised is not None
    assert (answer.status, answer.body, answer.complete) == (200, b"one", False)
    assert (report.phase, failure.message) == ("streaming", "in the stream")
    assert len(logged) == 1


@frameworks("early")
@pytest.mark.parametrize("denial", [True, False])
async def test_exception_before_the_accept_refuses(build, sink, logged, framework, denial):
    """A websocket that fails in its handshake gets our refusal, not the framework's."""
    app = ErrorMiddleware(build(framework), report_to=[sink])
    async with running(app):
        answer = await open_websocket(app, "/early", denial=denial)
    (report,) = sink.reports
    assert answer.raised is None
    assert (report.failure.type, report.phase) == ("Boom", "websocket_handshake")
    assert len(logged) == 1
    if denial:
        assert answer.status == 500
        assert answer.headers["x-error-id"] == report.error_id
        assert answer.json["error_id"] == report.error_id
    else:
        (close,) = answer.messages
        assert (close["type"], close["code"]) == ("websocket.close", 1011)


@frameworks("late")
async def test_exception_after_the_accept_closes(build, sink, logged, framework):
    """A websocket that fails later is closed with 1011, and nothing of the exception in it."""
    app = ErrorMiddleware(build(framework), report_to=[sink])
    async with running(app):
        answer = await open_websocket(app, "/late")
    (report,) = sink.reports
    accept, close = answer.messages
    assert accept["type"] == "websocket.accept"
    assert (close["type"], close["code"]) == ("websocket.close", 1011)
    assert close["reason"] == f"Internal server error {report.error_id}"
    assert (report.failure.type, report.phase) == ("Boom", "websocket")
    expected = "log" if framework == "blacksheep" else mechanism(framework)
    assert report.mechanism == expected
    assert len(logged) == 1


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_cancellation_passes_through(build, stage, sink, logged, framework):
    """A request that the server cancels is no error."""
    app = ErrorMiddleware(build(framework), report_to=[sink])
    before = asyncio.all_tasks()
    async with running(app):
        task = asyncio.create_task(get(app, "/hang"))
        await stage.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    # Some frameworks leave tasks behind.
    left = asyncio.all_tasks() - before
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert sink.reports == logged == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_concurrent_requests_do_not_mix(build, sink, framework):
    """Each of two requests that fail at once gets its own exception."""
    app = ErrorMiddleware(build(framework), report_to=[sink])
    async with running(app):
        answers = await asyncio.gather(get(app, "/meet/a"), get(app, "/meet/b"))
    told = {report.error_id: report for report in sink.reports}
    for answer, name in zip(answers, "ab", strict=True):
        report = told.pop(answer.headers["x-error-id"])
        assert (report.request.path, report.failure.message) == (f"/meet/{name}", name)
    assert told == {}


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_connecting_twice_doubles_nothing(build, sink, logged, framework):
    """Two middlewares around one app, side by side and within each other, report once."""
    inner = build(framework)
    ErrorMiddleware(inner)
    app = ErrorMiddleware(ErrorMiddleware(inner, report_to=[sink]), report_to=[sink])
    async with running(app):
        answer = await get(app, "/fail")
        assert (await get(app, "/handled")).status == 409
    (report,) = sink.reports
    assert answer.headers["x-error-id"] == report.error_id
    assert len(logged) == 1


@pytest.mark.parametrize("framework", [name for name in FRAMEWORKS if name not in ESCAPING])
async def test_without_a_connection_the_500_is_unexplained(build, sink, framework):
    """With `connect=False` nothing is hooked: the default 500 is reported without its cause."""
    app = ErrorMiddleware(build(framework), report_to=[sink], connect=False)
    async with running(app):
        answer = await get(app, "/fail")
    (report,) = sink.reports
    assert answer.status == 500
    assert report.mechanism == "unexplained"
    assert "connected" not in repr(app)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_exception_is_not_kept_alive(build, stage, framework):
    """When the request is over nothing of ours holds its exception."""
    app = ErrorMiddleware(build(framework))
    logging.disable()  # The frameworks' own records hold it, and pytest holds those.
    try:
        async with running(app):
            await get(app, "/fail")
            gc.collect()
            assert stage.error() is None
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_connection_is_told(build, caplog, framework):
    """The middleware's repr and a debug line say what it is connected to."""
    caplog.set_level(logging.DEBUG, "errata")
    app = ErrorMiddleware(build(framework))
    name = "starlette" if framework == "fastapi" else framework
    assert repr(app).endswith(f", connected to {name}>")
    assert caplog.messages == [f"connected to {name}"]


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize(
    ("framework", "path"),
    [
        (name, path)
        for name in FRAMEWORKS
        for path in ("/fail", "/late", "/task")
        if (name, path[1:]) not in DEVIATIONS or (name, path) == ("quart", "/task")
    ],
)
async def test_record_of_the_framework_is_dropped(build, logged, caplog, framework, path, log):
    """One error is logged once: by errata, or by the framework where errata does not log."""
    app = ErrorMiddleware(build(framework), log=log)
    async with running(app):
        await (open_websocket if path == "/late" else get)(app, path)
    tracebacks = [record for record in caplog.records if record.exc_info]
    own = 0 if framework in {"starlette", "fastapi", "litestar"} else 1
    # Sanic logs a websocket's exception before it shows it to anybody.
    twice = 1 if (framework, path) == ("sanic", "/late") else 0
    assert (len(logged), len(tracebacks)) == ((1, twice) if log else (0, own))


async def test_own_text_of_an_http_exception_stays(build, sink):
    """A 500 that the app has raised with words of its own keeps them, and is reported."""
    app = ErrorMiddleware(build("sanic"), report_to=[sink])
    async with running(app):
        answer = await get(app, "/quota")
    assert (answer.status, answer.headers["x-error-id"]) == (500, sink.reports[0].error_id)
    assert b"the quota is used up" in answer.body


# ── what single frameworks do ───────────────────────────────────────────────────────────


async def test_litestar_closes_as_the_app_asks(build, sink):
    """A `WebSocketException` of Litestar is the app's choice of a close code, and no error."""
    app = ErrorMiddleware(build("litestar"), report_to=[sink])
    async with running(app):
        answer = await open_websocket(app, "/closed")
    assert [message.get("code") for message in answer.messages] == [None, 4321]
    assert sink.reports == []


async def test_falcon_handler_of_the_app_closes_its_websocket(build, sink):
    """What the app's own handler for `Exception` does with a websocket comes before ours."""
    app = ErrorMiddleware(build("falcon", catch_all=True), report_to=[sink])
    async with running(app):
        answer = await open_websocket(app, "/late")
    assert [message.get("code") for message in answer.messages] == [None, 4321]
    assert sink.reports[0].failure.type == "Boom"


async def test_falcon_handler_is_wrapped_once(build):
    """However often an app is connected, its handler for `Exception` has one wrapper."""
    app = build("falcon")
    connect(app)
    once = app._error_handlers[Exception]
    connect(app)
    assert app._error_handlers[Exception] is once


async def test_sanic_page_for_browsers_is_replaced(build, sink):
    """Sanic's page has 70 KB, and is nevertheless known as a default."""
    app = ErrorMiddleware(build("sanic"), report_to=[sink])

    async def asks_for_html(scope, receive, send):
        if scope["type"] == "http":
            scope["headers"] = [(b"host", b"localhost"), (b"accept", b"text/html")]
        await app(scope, receive, send)

    async with running(app):
        answer = await get(asks_for_html, "/fail")
    assert (answer.status, answer.raised) == (500, None)
    assert answer.headers["x-error-id"] == sink.reports[0].error_id
    assert sink.reports[0].phase == "request"


async def test_sanic_signals_are_added_once(build):
    """However often an app is connected, Sanic calls each handler once."""
    app = build("sanic")
    connect(app)
    once = len(app._future_signals)
    assert connect(app) == "sanic"
    assert len(app._future_signals) == once


async def test_blacksheep_filter_sees_no_other_record(sink):
    """A record of the app's own on the root logger makes no error of a request."""

    async def _handle_websocket(scope, receive, send):
        try:
            raise ValueError("the app's own affair")
        except ValueError:
            logging.exception("logged and dealt with")  # noqa: LOG015  # As BlackSheep does.
        await respond()(scope, receive, send)

    connect(blacksheep_app(Stage(), catch_all=False))
    answer = await call(with_cell(_handle_websocket), http_scope())
    assert (answer.status, answer.raised) == (200, None)
    assert len([each for each in logging.getLogger().filters if "WebSocket" in repr(each)]) == 1


# ── the cell ────────────────────────────────────────────────────────────────────────────


def swallowing(exc: Any, status: int = 500, *, before: bool = True) -> Any:
    """Build an app that witnesses *exc* before its answer, or after it."""

    async def app(scope, receive, send):
        if before:
            witness(exc)
        await respond(status)(scope, receive, send)
        if not before:
            witness(exc)

    return app


def http_error(status: int) -> Exception:
    """Build Starlette's HTTP exception."""
    return import_module("starlette.exceptions").HTTPException(status)


@pytest.mark.parametrize(
    ("exc", "status", "before", "raised"),
    [
        (ValueError("x"), 500, True, True),
        (ValueError("x"), 503, True, True),
        (ValueError("x"), 499, True, False),  # Handled.
        (ValueError("x"), 200, True, False),
        (ValueError("x"), 200, False, True),  # After the start.
        (http_error(404), 500, True, False),
        (http_error(500), 500, True, True),
        (http_error(503), 503, True, False),  # On purpose.
        (KeyboardInterrupt(), 500, True, False),
        (None, 500, True, False),
    ],
)
async def test_what_was_witnessed_is_raised_at_the_end(exc, status, before, raised):
    """An exception that the framework answers as an error comes out, any other does not."""
    answer = await call(with_cell(swallowing(exc, status, before=before)), http_scope())
    assert answer.raised is (exc if raised else None)
    assert answer.status == status


async def test_first_exception_counts():
    """What an error handler fails with is behind what it was called for."""

    async def app(scope, receive, send):
        witness(ValueError("first"))
        witness(KeyError("second"))

    answer = await call(with_cell(app), http_scope())
    assert repr(answer.raised) == "ValueError('first')"


async def test_exception_that_escapes_is_the_one(sink):
    """An exception that gets out follows upon what was seen: it is the one that is raised."""

    async def app(scope, receive, send):
        witness(ValueError("seen"))
        raise KeyError("escaped")

    answer = await call(with_cell(app), http_scope())
    assert repr(answer.raised) == "KeyError('escaped')"
    cell = current_cell.get()
    assert cell is not None
    assert (cell.exc, cell.mechanism) == (None, "escaped")


async def test_nothing_is_witnessed_outside_of_a_request():
    """A hook that is called elsewhere, or too late, does nothing and keeps nothing."""
    token = current_cell.set(None)
    witness(ValueError())
    await witness_task(ValueError())
    current_cell.reset(token)
    await call(with_cell(respond()), http_scope())
    witness(ValueError())
    await witness_task(ValueError())
    cell = current_cell.get()
    assert cell is not None
    assert cell.exc is None


async def test_cancellation_forgets_what_was_seen():
    """A request that is cancelled raises nothing else and keeps nothing."""

    async def app(scope, receive, send):
        witness(ValueError())
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await call(with_cell(app), http_scope())
    cell = current_cell.get()
    assert cell is not None
    assert cell.exc is None


async def test_report_of_a_task_that_fails_harms_nobody(caplog):
    """A hook never raises, whatever becomes of the report."""

    async def report(scope, exc, mechanism):
        raise OSError("no disk")

    async def app(scope, receive, send):
        await witness_task(ValueError())
        await respond()(scope, receive, send)

    answer = await call(with_cell(app, report), http_scope())
    assert (answer.status, answer.raised) == (200, None)
    assert "failed to report the exception of a task" in caplog.text


@pytest.mark.parametrize(
    ("status", "bodies", "sent"),
    [
        (500, [b"Internal Server Error"], False),
        (500, [b""], False),
        (500, [b"Internal ", b"Server Error", b""], False),
        (500, [b"our own page"], True),
        (403, [b"go away"], True),
        (500, [b"x" * 5000], True),
        (500, [b"x" * 5000, b"x"], True),
    ],
)
async def test_default_denial_of_a_websocket_is_dropped(status, bodies, sent):
    """The framework's default refusal gives way to ours; the app's own goes out."""
    start = {"type": "websocket.http.response.start", "status": status, "headers": []}
    last = len(bodies) - 1
    messages = [start] + [
        {"type": "websocket.http.response.body", "body": body, "more_body": number < last}
        for number, body in enumerate(bodies)
    ]

    async def app(scope, receive, send):
        witness(ValueError("x"))
        for message in messages:
            await send(message)

    answer = await call(with_cell(app), websocket_scope())
    assert answer.messages == (messages if sent else [])
    assert isinstance(answer.raised, ValueError)


# ── connecting ──────────────────────────────────────────────────────────────────────────


async def test_app_of_no_framework_is_left_alone():
    """Nothing is connected to an app that no framework has made, nor to a property that fails."""

    class Wrapper:
        @property
        def app(self):
            raise RuntimeError("not ready")

        async def __call__(self, scope, receive, send):
            """Do nothing."""

    assert connect(respond()) is None
    assert connect(Wrapper()) is None
    assert "connected" not in repr(ErrorMiddleware(respond()))


async def test_middlewares_are_looked_through(build, sink):
    """What wraps a framework's app as its `app` does not hide it."""

    class Wrapper:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)

    app = ErrorMiddleware(Wrapper(Wrapper(build("quart"))), report_to=[sink])
    async with running(app):
        await get(app, "/fail")
    assert sink.reports[0].mechanism == "hook"


async def test_framework_without_its_hook_is_left_alone(caplog):
    """Another version of a framework is no reason to fail: a warning says what is missing."""
    changed = type("App", (), {"__module__": "falcon.asgi.app"})()
    assert connect(changed) is None
    assert caplog.messages == ["could not connect to falcon: AttributeError"]


def test_importing_errata_imports_no_integration():
    """The modules of the frameworks are imported when an app of theirs is wrapped."""
    program = (
        "import sys, errata, errata.integrations\n"
        "print([name for name in sys.modules if name.startswith('errata.integrations.')])"
    )
    output = subprocess.check_output([sys.executable, "-I", "-c", program], text=True)
    assert output.strip() == "[]"


def test_integrations_import_no_framework_of_their_own():
    """An integration needs nothing but the app that it is given."""
    program = (
        "import sys\n"
        "from errata.integrations import blacksheep, django, falcon, litestar, quart, sanic\n"
        "names = {'blacksheep', 'django', 'falcon', 'litestar', 'quart', 'sanic'}\n"
        "print(sorted(names & set(sys.modules)))"
    )
    output = subprocess.check_output([sys.executable, "-I", "-c", program], text=True)
    assert output.strip() == "[]"
