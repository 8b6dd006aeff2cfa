"""Whatever an app sends or raises, what reaches the server is a legal ASGI conversation."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from errata import ErrorMiddleware, ExceptionHandlers, error_response
from errata.testing import MemorySink
from tests.asgi import Server, http_scope, websocket_scope


statuses = st.sampled_from([200, 204, 302, 404, 405, 500, 502, 503, 0, 99, 600, -1, None, "200"])


class Long(bytes):
    """Many bytes with a short name."""

    def __repr__(self):
        return f"<{len(self)} bytes>"


bodies = st.sampled_from(
    [b"", b"x", b"Not Found", b"Internal Server Error", Long(40_000), Long(70_000)]
)
headers = st.sampled_from(
    [
        [],
        [(b"content-type", b"text/event-stream")],
        [(b"x-error-id", b"0" * 32)],
        [(b"vary", b"accept")],
    ]
)
http_messages = st.one_of(
    st.builds(
        lambda status, headers: {
            "type": "http.response.start",
            "status": status,
            "headers": headers,
        },
        statuses,
        headers,
    ),
    st.builds(
        lambda body, more: {"type": "http.response.body", "body": body, "more_body": more},
        bodies,
        st.booleans(),
    ),
    st.sampled_from(
        [
            {"type": "http.response.start"},
            {"type": "http.response.body"},
            {"type": "http.response.trailers", "headers": []},
            {"type": "http.response.debug", "info": {}},
            {"type": "http.response.pathsend", "path": "/"},
            {"type": "websocket.accept"},
            {"type": "nonsense"},
            {},
            None,
        ]
    ),
)
websocket_messages = st.one_of(
    st.sampled_from(
        [
            {"type": "websocket.accept"},
            {"type": "websocket.send", "text": "x"},
            {"type": "websocket.close", "code": 1000},
            {"type": "websocket.http.response.start", "status": 403, "headers": []},
            {"type": "websocket.http.response.body", "body": b"x", "more_body": True},
            {"type": "websocket.http.response.body", "body": b"x"},
            {"type": "http.response.start", "status": 200, "headers": []},
            {"type": "nonsense"},
            {},
        ]
    )
)
failures = st.sampled_from(
    [
        None,
        lambda: ValueError("boom"),
        lambda: KeyError("claimed"),
        lambda: LookupError("the handler raises"),
        lambda: ArithmeticError("the handler answers half"),
        lambda: HTTPException(404),
        lambda: HTTPException(503),
        lambda: ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
        lambda: ExceptionGroup("one", [HTTPException(418)]),
        lambda: OSError("gone"),
    ]
)


def scripted(script, failure, *, swallow, receive_first):
    """Return an app that sends *script*, minding refusals or not, and then fails or returns."""

    async def app(scope, receive, send):
        if receive_first:
            await receive()
        for message in script:
            try:
                await send(message)
            except Exception:
                if not swallow:
                    raise
        if failure is not None:
            raise failure()

    return app


def handlers_of_all_kinds() -> ExceptionHandlers:
    handlers = ExceptionHandlers()

    @handlers.exception_handler(KeyError, 404)
    async def claims(request, exc):
        return error_response(409, "claimed")

    @handlers.exception_handler(LookupError)
    async def raises(request, exc):
        raise RuntimeError("handler")

    @handlers.exception_handler(ArithmeticError)
    async def answers_half(request, exc):
        async def half(scope, receive, send):
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})

        return half

    return handlers


async def converse(app, scope):
    server = Server(scope)
    raised = None
    try:
        await app(scope, server.receive, server.send)
    except Exception as exc:
        raised = exc
    return server, raised


def check(server: Server, raised: Exception | None) -> None:
    assert server.violations == []
    if raised is None:
        # Nothing was raised to the server, so that it has a whole answer.
        assert server.state == "closed", server.outcome.messages


@given(
    script=st.lists(http_messages, max_size=6),
    failure=failures,
    swallow=st.booleans(),
    receive_first=st.booleans(),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    debug=st.booleans(),
    claims=st.booleans(),
    raise_unhandled=st.booleans(),
)
def test_http_conversation_is_legal(
    script, failure, swallow, receive_first, method, debug, claims, raise_unhandled
):
    """Every order of HTTP messages and failures reaches the server as one legal response."""
    sink = MemorySink()
    app = ErrorMiddleware(
        scripted(script, failure, swallow=swallow, receive_first=receive_first),
        handlers=handlers_of_all_kinds() if claims else None,
        debug=debug,
        raise_unhandled=raise_unhandled,
        report_to=[sink],
        log=False,
    )
    scope = http_scope(method=method, headers={"host": "localhost", "accept": "text/html"})
    check(*asyncio.run(converse(app, scope)))


@given(
    script=st.lists(websocket_messages, max_size=6),
    failure=failures,
    swallow=st.booleans(),
    denial=st.booleans(),
    claims=st.booleans(),
)
def test_websocket_conversation_is_legal(script, failure, swallow, denial, claims):
    """Every order of websocket messages and failures reaches the server as legal ASGI."""
    app = ErrorMiddleware(
        scripted(script, failure, swallow=swallow, receive_first=True),
        handlers=handlers_of_all_kinds() if claims else None,
        log=False,
    )
    server, raised = asyncio.run(converse(app, websocket_scope(denial=denial)))
    assert server.violations == []
    if raised is None:
        assert server.state in {"accepted", "closed"}
    if failure is not None and raised is None:
        assert server.state == "closed"


@given(script=st.lists(http_messages, max_size=6), failure=failures, swallow=st.booleans())
def test_two_middlewares_are_legal_and_report_once(script, failure, swallow):
    """Nested twice, the conversation stays legal and no error is reported twice."""
    outer, inner = MemorySink(), MemorySink()
    app = ErrorMiddleware(
        ErrorMiddleware(
            scripted(script, failure, swallow=swallow, receive_first=False),
            report_to=[inner],
            log=False,
        ),
        report_to=[outer],
        log=False,
    )
    check(*asyncio.run(converse(app, http_scope())))
    assert len(inner.reports) <= 1
    assert len(inner.reports) + len(outer.reports) <= 1


@pytest.mark.parametrize("kind", ["lifespan", "somebody.elses"])
def test_other_scopes_pass_untouched(kind):
    """A scope that is not ours reaches the app with the server's own callables."""
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    async def receive():
        raise AssertionError

    async def send(message):
        raise AssertionError

    scope = {"type": kind}
    asyncio.run(ErrorMiddleware(app)(scope, receive, send))
    assert seen[0][0] is scope
    if kind != "lifespan":
        assert seen[0][1:] == (receive, send)
