"""The app behind `errata demo`: a small shop that fails in every way a web app can.

The failures are on purpose, and written as they happen by accident: a missing rate, an
empty table, a price that is null, a mail server that is down. `create_app` at the end is
all that errata needs.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import wraps
from html import escape
from os import PathLike
from time import perf_counter
from typing import Annotated, Any, Final
from urllib.parse import parse_qs

from fastapi import BackgroundTasks, Body, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from errata import (
    ErrorMiddleware,
    ErrorRequest,
    ExceptionHandlers,
    Sink,
    error_response,
    note,
    record_query,
)


SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS product (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, price INTEGER, currency TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS customer (name TEXT PRIMARY KEY, password TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS purchase (
    id INTEGER PRIMARY KEY, product INTEGER NOT NULL, quantity INTEGER NOT NULL
);
INSERT OR IGNORE INTO product VALUES
    (1, 'Teapot', 2400, 'EUR'), (2, 'Lamp', 8900, 'EUR'),
    (3, 'Chair', NULL, 'EUR'), (4, 'Rug', 15000, 'CHF');
INSERT OR IGNORE INTO customer VALUES ('ada', 'moved-to-the-new-system');
"""

SLOW_QUERY: Final = """
WITH RECURSIVE minute(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM minute WHERE n < 300000)
SELECT count(*) AS minutes FROM minute
"""
"""Counts to 300,000 row by row: some 50 ms, long enough to stand out among its neighbours."""

RATES: Final = {"EUR": 1.0, "USD": 0.92}

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sight:
    """A failure worth looking at in a browser."""

    path: str
    failure: str
    answer: str = ""
    """What is seen; empty: the debug page, or the generic one in production."""
    form: dict[str, str] | None = None
    """What the home page posts; None: it has a plain link."""


SIGHTS: Final = (
    Sight("/cart", "a bug with its cause, and the queries that led to it"),
    Sight("/sales", "a division by zero after a slow query"),
    Sight("/availability", "a group of errors from concurrent tasks"),
    Sight("/export", "an export that breaks in the middle", "a download that fails"),
    Sight("/maintenance", "an HTTPException(503)", "the generic page"),
    Sight("/nowhere", "an unknown route", "the routes in debug, else the framework's own 404"),
    Sight("/login", "a bug while a password is at hand", form={"name": "ada", "password": "ada1"}),
    Sight("/purchases/1/pay", "a declined card", "the 402 of a handler", form={}),
    Sight("/newsletter", "a background task that fails", "a 202, for it comes later", form={}),
)


class PaymentError(Exception):
    """The bank said no."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class RefundError(Exception):
    """A refund that cannot be made."""


class Database:
    """A SQLite file, with a connection for each query; what runs goes on the request's trail."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = path
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(SCHEMA)

    def query(self, sql: str, *params: Any) -> list[sqlite3.Row]:
        """Run one statement and return its rows."""
        began = perf_counter()
        try:
            with closing(sqlite3.connect(self._path)) as connection, connection:
                connection.row_factory = sqlite3.Row
                return connection.execute(sql, params).fetchall()
        finally:
            record_query(sql.strip(), params, perf_counter() - began)


# ── what works ────────────────────────────────────────────────────────────────────────────


def home() -> HTMLResponse:
    """Show every failure one click away."""
    items = "\n".join(f"<li>{_link(sight)} {escape(sight.failure)}</li>" for sight in SIGHTS)
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><title>errata demo</title>"
        "<style>body{font:1rem/1.8 system-ui;max-width:44rem;margin:3rem auto;padding:0 1rem}"
        "li{margin:.3rem 0}form{display:inline}</style>"
        f"<h1>A shop where everything fails</h1><ul>{items}</ul></html>"
    )


def _link(sight: Sight) -> str:
    if sight.form is None:
        return f'<a href="{sight.path}">{sight.path}</a>'
    fields = (f'<input type=hidden name="{k}" value="{v}">' for k, v in sight.form.items())
    button = f"<button>POST {sight.path}</button>"
    return f'<form method=post action="{sight.path}">{"".join(fields)}{button}</form>'


def products(request: Request) -> list[dict[str, Any]]:
    """List what the shop sells."""
    return [dict(row) for row in _database(request).query("SELECT * FROM product")]


def product(request: Request, product_id: int) -> Response:
    """Show one product, or the app's own error, which errata leaves as it is."""
    rows = _database(request).query("SELECT * FROM product WHERE id = ?", product_id)
    if not rows:
        return JSONResponse({"message": "no such product", "id": product_id}, 404)
    return JSONResponse(dict(rows[0]))


def purchase(
    request: Request, product: Annotated[int, Body()], quantity: Annotated[int, Body(ge=1)]
) -> dict[str, int]:
    """Buy something."""
    rows = _database(request).query(
        "INSERT INTO purchase (product, quantity) VALUES (?, ?) RETURNING id", product, quantity
    )
    return {"purchase": rows[0]["id"]}


# ── what fails before it answers ──────────────────────────────────────────────────────────


def cart(request: Request) -> dict[str, float]:
    """Fail with a `ValueError` whose cause is a `KeyError`."""
    rows = _database(request).query("SELECT * FROM product WHERE id IN (?, ?)", 1, 4)
    note("cart loaded", items=len(rows))
    _log.info("pricing the cart of %s", "ada")
    return {"total": sum(_in_euro(row["price"], row["currency"]) for row in rows)}


def _in_euro(price: int, currency: str) -> float:
    try:
        return price * RATES[currency]
    except KeyError as error:
        raise ValueError(f"no exchange rate for {currency}") from error


def sales(request: Request) -> dict[str, float]:
    """Fail after a slow query."""
    minutes = _database(request).query(SLOW_QUERY)[0]["minutes"]
    sold = _database(request).query("SELECT count(*) AS n FROM purchase WHERE quantity < 0")
    return {"minutes_between_refunds": minutes / sold[0]["n"]}


async def login(request: Request) -> dict[str, str]:
    """Fail while the password is in the body, in a variable and in a query's parameters."""
    form = parse_qs((await request.body()).decode())
    name, password = form["name"][0], form["password"][0]
    rows = _database(request).query("SELECT password FROM customer WHERE name = ?", name)
    _check_password(password, stored=rows[0]["password"])
    return {"welcome": name}


def _check_password(password: str, stored: str) -> None:
    _, salt, digest = stored.split("$")
    if f"{salt}{password}" != digest:
        raise HTTPException(401)


async def availability() -> dict[str, int]:
    """Fail in two of three concurrent tasks: an exception group."""
    async with asyncio.TaskGroup() as group:
        for supplier in ("north", "east", "south"):
            group.create_task(_ask_supplier(supplier))
    return {}


async def _ask_supplier(name: str) -> None:
    if name == "north":
        raise TimeoutError(f"the supplier {name} does not answer")
    if name == "east":
        raise ValueError(f"the supplier {name} answers nonsense")
    await asyncio.sleep(0)


def pay(purchase_id: int) -> None:
    """Fail as users do: a handler answers."""
    raise PaymentError(f"The card for purchase {purchase_id} was declined", code="card_declined")


async def split_payment() -> None:
    """Fail twice at once; a handler claims both."""
    async with asyncio.TaskGroup() as group:
        for card in ("first", "second"):
            group.create_task(_charge(card))


async def _charge(card: str) -> None:
    raise PaymentError(f"The {card} card was declined", code="card_declined")


def refund() -> None:
    """Fail, and so does the handler."""
    raise RefundError("the purchase is older than a year")


def discontinued() -> None:
    """Fail with a status that a handler claims."""
    raise HTTPException(410)


def maintenance() -> None:
    """Fail with a status and a header that must survive."""
    raise HTTPException(503, headers={"Retry-After": "120"})


def stock() -> JSONResponse:
    """Answer with an error of the app's own, on purpose: errata does not touch it."""
    return JSONResponse({"message": "the warehouse is closed", "opens": "09:00"}, 503)


# ── what fails later ──────────────────────────────────────────────────────────────────────


def export(request: Request) -> StreamingResponse:
    """Begin a download that breaks in the middle."""
    rows = _database(request).query("SELECT * FROM product")
    return StreamingResponse(_csv(rows), media_type="text/csv")


def _csv(rows: Sequence[sqlite3.Row]) -> Iterator[str]:
    yield "name,price\n"
    for row in rows:
        yield f"{row['name']},{row['price'] / 100:.2f}\n"


async def newsletter(background: BackgroundTasks) -> JSONResponse:
    """Answer, then fail."""
    background.add_task(_send_newsletter, "ada")
    return JSONResponse({"status": "on its way"}, 202)


async def _send_newsletter(name: str) -> None:
    raise ConnectionRefusedError(f"the mail server refused the newsletter for {name}")


async def support(websocket: WebSocket) -> None:
    """Fail before the websocket is accepted."""
    agents: dict[str, str] = {}
    agents[websocket.query_params.get("topic", "lamps")]


async def prices(websocket: WebSocket) -> None:
    """Fail after the websocket is accepted and two prices are sent."""
    await websocket.accept()
    for change in (3, 1, 0):
        await websocket.send_json({"product": 1, "change": 100 // change})


# ── the app ───────────────────────────────────────────────────────────────────────────────


async def payment_failed(request: ErrorRequest, exc: PaymentError) -> Response:
    """Answer for every `PaymentError`."""
    return error_response(402, str(exc), code=exc.code)


async def refund_failed(request: ErrorRequest, exc: RefundError) -> Response:
    """Fail where a handler should answer."""
    return error_response(409, str(exc), details={"reference": exc.reference})  # type: ignore[attr-defined]


async def product_gone(request: ErrorRequest, exc: HTTPException) -> Response:
    """Answer for the status 410."""
    return error_response(410, "This product is discontinued", code="discontinued")


def create_handlers() -> ExceptionHandlers:
    """Return the shop's registry: by type, or by status."""
    handlers = ExceptionHandlers()
    handlers.add(PaymentError, _announced(payment_failed))
    handlers.add(RefundError, _announced(refund_failed))
    handlers.add(410, _announced(product_gone))
    return handlers


def _announced(handler: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """Leave the handler's name on the request, for the demo's line about it."""

    @wraps(handler)
    async def announced(request: ErrorRequest, exc: Exception) -> Response:
        request.state.answered_by = handler.__name__
        return await handler(request, exc)

    return announced


_GET: Final[dict[str, Callable[..., Any]]] = {
    "/": home,
    "/products": products,
    "/products/discontinued": discontinued,
    "/products/{product_id}": product,
    "/cart": cart,
    "/sales": sales,
    "/availability": availability,
    "/maintenance": maintenance,
    "/stock": stock,
    "/export": export,
}
_POST: Final[dict[str, Callable[..., Any]]] = {
    "/purchases": purchase,
    "/purchases/{purchase_id}/pay": pay,
    "/purchases/{purchase_id}/split": split_payment,
    "/purchases/{purchase_id}/refund": refund,
    "/login": login,
    "/newsletter": newsletter,
}
_WEBSOCKETS: Final = {"/ws/support": support, "/ws/prices": prices}


def create_shop(database: Database) -> FastAPI:
    """Return the shop as it is without errata."""
    shop = FastAPI(title="errata demo", openapi_url=None)
    shop.state.database = database
    for method, routes in (("GET", _GET), ("POST", _POST)):
        for path, endpoint in routes.items():
            shop.add_api_route(path, endpoint, methods=[method], response_model=None)
    for path, endpoint in _WEBSOCKETS.items():
        shop.add_api_websocket_route(path, endpoint)
    return shop


def create_app(
    database: str | PathLike[str], *, debug: bool = False, report_to: Sequence[Sink] = ()
) -> ErrorMiddleware:
    """Return the shop in errata's care.

    Raises:
        sqlite3.Error: *database* is not a file that SQLite can use.
    """
    shop = create_shop(Database(database))
    return ErrorMiddleware(shop, handlers=create_handlers(), debug=debug, report_to=report_to)


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database
