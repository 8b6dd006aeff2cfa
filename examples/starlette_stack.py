"""Starlette with errata among other middleware, and why the order matters.

Run it with `uvicorn examples.starlette_stack:app`, or with `python examples/starlette_stack.py`.

    curl -i -H 'Origin: https://shop.example' http://127.0.0.1:8000/

errata answers for what is inside of it. What is outside works on its answers as on any
other: CORS has to be outside, or a browser hides every error from the page that asked.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from errata import ErrorMiddleware


async def home(request: Request) -> Response:
    raise LookupError("the home page is lost")


routes = [Route("/", home)]
origins = ["https://shop.example"]

# In a list the first is the outermost: a request passes CORS, then errata, then gzip.
app = Starlette(
    routes=routes,
    middleware=[
        Middleware(CORSMiddleware, allow_origins=origins, expose_headers=["X-Error-ID"]),
        Middleware(ErrorMiddleware),
        Middleware(GZipMiddleware),
    ],
)

# With `add_middleware` the last is the outermost: the same, read from the bottom.
same_app = Starlette(routes=routes)
same_app.add_middleware(GZipMiddleware)
same_app.add_middleware(ErrorMiddleware)
same_app.add_middleware(CORSMiddleware, allow_origins=origins, expose_headers=["X-Error-ID"])


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app)
