"""FastAPI with handlers by type and by status, and a sink that tells the team.

Run it with `uvicorn examples.fastapi_app:app`, or with `python examples/fastapi_app.py`.

    curl -i http://127.0.0.1:8000/orders/lamp      409, from the handler for OutOfStockError
    curl -i http://127.0.0.1:8000/nowhere          404, from the handler for that status
    curl -i http://127.0.0.1:8000/report           500 with an error id, told to the team
"""

from __future__ import annotations

from fastapi import FastAPI, Response

from errata import ErrorMiddleware, ErrorRequest, ExceptionHandlers, SafeReport, error_response


class OutOfStockError(Exception):
    def __init__(self, product: str) -> None:
        super().__init__(f"There is no {product} left")
        self.product = product


handlers = ExceptionHandlers()


@handlers.exception_handler(OutOfStockError)
async def out_of_stock(request: ErrorRequest, exc: OutOfStockError) -> Response:
    return error_response(409, str(exc), code="out_of_stock", details={"product": exc.product})


@handlers.exception_handler(404)
def not_found(request: ErrorRequest, exc: Exception) -> Response:
    """Answer in a thread, as this is no coroutine function."""
    return error_response(404, f"There is nothing at {request.url.path}", code="not_found")


async def tell_the_team(report: SafeReport) -> None:
    """Send a message, call an SDK, write a row: it happens after the response."""
    path = report.request.path if report.request else "somewhere"
    print(f"{report.failure.type} in {path} ({report.error_id})")


api = FastAPI()


@api.get("/orders/{product}")
async def order(product: str) -> None:
    raise OutOfStockError(product)


@api.get("/report")
async def report() -> dict[str, float]:
    orders: list[int] = []
    return {"average": sum(orders) / len(orders)}


# For the debug page: debug=True.
app = ErrorMiddleware(api, handlers=handlers, report_to=[tell_the_team])


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app)
