"""The answers of our own: the debug page, the routes page, the generic answer."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import Scope

from errata.gate import DebugGate
from errata.pages import (
    DebugPage,
    ErrorPages,
    Route,
    content_security_policy,
    debug_json,
    markdown_report,
    routes_html,
    text_report,
)
from errata.report import SafeReport
from errata.responses import MEDIA_TYPES, accept_values, generic_response, negotiate, phrase


if TYPE_CHECKING:
    import jinja2


class Answers:
    """Builds the response that a client accepts, and shows details only where it may."""

    def __init__(
        self,
        *,
        debug: bool,
        debug_clients: Iterable[str],
        problem_json: bool,
        templates: str | PathLike[str] | jinja2.Environment | None,
        editor: str | None,
        path_map: Iterable[tuple[str, str]],
    ) -> None:
        self._debug = debug
        self._gate = DebugGate(debug_clients)
        self._problem_json = problem_json
        self._pages = ErrorPages(templates)
        self._debug_page = DebugPage(editor=editor, path_map=path_map)

    def generic(
        self,
        scope: Scope,
        status: int,
        *,
        error_id: str | None = None,
        detail: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return the production answer: nothing of the exception is in it but *detail*."""
        media_type = negotiate(accept_values(scope), MEDIA_TYPES)
        html = None
        if media_type == "text/html":
            message = detail if isinstance(detail, str) and detail else phrase(status)
            html = self._pages.render(
                status=status, message=message, path=scope.get("path", ""), error_id=error_id
            )
        return generic_response(
            media_type,
            status=status,
            error_id=error_id,
            detail=detail,
            headers=headers,
            problem_json=self._problem_json,
            html=html,
        )

    def page_for_default(self, scope: Scope, status: int) -> Response | None:
        """Return what takes the place of a framework's default 404, 405 and the like.

        None leaves it as it is: unless the client wants HTML, and templates of the user's
        or the routes page in debug stand ready.
        """
        if negotiate(accept_values(scope), MEDIA_TYPES) != "text/html":
            return None
        if status in {404, 405} and self.refusal(scope) is None and (routes := _routes(scope)):
            nonce = secrets.token_urlsafe(16)
            page = routes_html(
                method=scope["method"],
                path=scope["path"],
                status=status,
                routes=routes,
                nonce=nonce,
            )
            headers = {"content-security-policy": content_security_policy(nonce)}
            return HTMLResponse(page, status, headers)
        if self._pages.claims(status):
            return self.generic(scope, status)
        return None

    def refusal(self, scope: Scope) -> str | None:
        """Return why this client may not see details; empty where debug is simply off."""
        return self._gate.refusal(scope) if self._debug else ""

    async def debug(self, scope: Scope, report: SafeReport) -> Response:
        """Return the debug page in the form that the client accepts.

        It is rendered in a thread: highlighting a deep stack takes milliseconds.
        """
        return await anyio.to_thread.run_sync(self._debug_response, scope, report)

    def _debug_response(self, scope: Scope, report: SafeReport) -> Response:
        status = report.status or 500
        media_type = negotiate(accept_values(scope), MEDIA_TYPES)
        if media_type == "text/html":
            nonce = secrets.token_urlsafe(16)
            headers = {"content-security-policy": self._debug_page.csp(nonce)}
            return HTMLResponse(self._debug_page.html(report, nonce=nonce), status, headers)
        if media_type == "text/plain":
            return PlainTextResponse(text_report(report), status)
        if media_type == "text/markdown":
            return Response(markdown_report(report), status, media_type="text/markdown")
        problem = self._problem_json or media_type == "application/problem+json"
        kind = "application/problem+json" if problem else "application/json"
        return JSONResponse(debug_json(report), status, media_type=kind)


def _routes(scope: Scope) -> list[Route]:
    """Return the routes of a Starlette or FastAPI app: its router leaves itself in the scope."""
    routes = getattr(scope.get("router"), "routes", ())
    return [
        (
            ", ".join(sorted(getattr(route, "methods", None) or ())),
            str(getattr(route, "path", "")),
            str(getattr(route, "name", "") or ""),
        )
        for route in routes
    ]
