"""errata around an ASGI app of no framework at all.

Run it with `uvicorn examples.bare_asgi:app`, or with `python examples/bare_asgi.py`.

    curl -i http://127.0.0.1:8000/hello            200
    curl -i http://127.0.0.1:8000/                 500 with an error id
"""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from errata import ErrorMiddleware


GREETINGS = {"/hello": b"Hello!\n"}


async def greeter(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(f"a greeter does not talk {scope['type']}")
    body = GREETINGS[scope["path"]]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


app = ErrorMiddleware(greeter)


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app)
