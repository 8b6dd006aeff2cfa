"""The pages: debug page, routes page, and the error pages that an app's visitors see.

The debug page takes a `SafeReport` and nothing else. It is one file without a script: what
folds, folds by `<details>`. Jinja2 and Pygments are imported when the first page is rendered.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from difflib import SequenceMatcher
from html import escape
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from errata.documents import (
    debug_json,
    facts,
    markdown_report,
    milliseconds,
    queries_summary,
    text_report,
    when,
)
from errata.markup import Highlighter, Trees
from errata.outline import LOCALS_ROOM, EditorLinks, Outline
from errata.report import Crumb, Query, SafeReport
from errata.responses import phrase
from errata.templating import checked_templates, escaped_for, our_environment, users_environment
from errata.texts import clip, headline
from errata.tracebacks import traceback_text


if TYPE_CHECKING:
    import jinja2


__all__ = [
    "DebugPage",
    "ErrorPages",
    "content_security_policy",
    "debug_json",
    "markdown_report",
    "routes_html",
    "text_report",
    "traceback_text",
]

MAX_ROWS: Final = 100
"""Queries, log lines and versions on one page: what a trail keeps."""

MAX_TRACEBACK: Final = 30_000
"""Characters of the plain traceback on the debug page: 100 frames are some 15,000."""

MAX_MESSAGE: Final = 500
"""Characters of a message on our own error page, and of the path handed to a template."""

MAX_ROUTES: Final = 1_000
"""Routes on the routes page."""

MAX_COMPARED: Final = 50
"""Routes that are compared with the path in full: at worst a few milliseconds each."""

MAX_PATH: Final = 200
"""Characters of paths that are compared."""

NEAR: Final = 0.6
MAX_NEAR: Final = 3
"""Likeness from which a route is near, and how many are: as in `difflib.get_close_matches`."""

Route: TypeAlias = tuple[str, str, str]
"""Methods, path and name of a route, as they are to be shown."""

_ADVICE: Final = {
    500: "Something went wrong on our side. Please try again later.",
    404: "There is nothing at this address. It may be mistyped, or out of date.",
    429: "Please wait a moment before you try again.",
    503: "Please try again in a few minutes.",
}

_log: Final = logging.getLogger("errata")


def content_security_policy(nonce: str) -> str:
    """Return the policy of the debug and routes pages: nothing but their own style.

    No script, no image, no request, no form, no frame around them.
    """
    return (
        f"default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


class ErrorPages:
    """Renders the error pages that visitors see: the user's templates, or a small page of ours.

    Of the user's templates `{status}.html` comes first, then `error.html`. They are given
    `status`, `message`, `path` and `error_id`, escaped. Where neither exists, or the one that
    does raises (a warning to the logger `errata`), our own page is sent.

    Args:
        templates: a directory, whose templates escape what is put into them, or a Jinja2
            environment of the app's.

    Raises:
        ValueError: the directory does not exist, or the environment has no loader.
        TypeError: *templates* is neither.
    """

    def __init__(
        self, templates: str | os.PathLike[str] | jinja2.Environment | None = None
    ) -> None:
        self._templates = checked_templates(templates)
        self._users: jinja2.Environment | None = None
        self._ours: jinja2.Environment | None = None

    def claims(self, status: int) -> bool:
        """Return whether the user's templates hold a page for *status*."""
        try:
            return self._find(status) is not None
        except Exception:  # a template that does not compile is there nevertheless
            return True

    def render(self, *, status: int, message: str, path: str, error_id: str | None) -> str:
        """Return the page for *status*; never raises.

        Args:
            status: the answer's status.
            message: what the visitor may know, such as "Not Found" or an exception's detail.
            path: of the request.
            error_id: what the visitor is to quote, if there is a report.
        """
        values: dict[str, Any] = {"message": message, "path": path, "error_id": error_id}
        values = {name: value and _encodable(value) for name, value in values.items()}
        page = self._users_page(status, values)
        if page is None:
            if self._ours is None:
                self._ours = our_environment()
            values["message"] = clip(values["message"] or phrase(status), MAX_MESSAGE)
            advice = _ADVICE.get(status, _ADVICE[500] if status >= 500 else "")
            page = self._ours.get_template("error.html").render(
                values, status=status, advice=advice
            )
        return _encodable(page)

    def _users_page(self, status: int, values: dict[str, Any]) -> str | None:
        name = ""
        try:
            template = self._find(status)
            if template is None:
                return None
            name = template.name or ""
            return template.render(escaped_for(template, values), status=status)
        except Exception as exc:
            # Not the exception's text, which nobody has redacted.
            _log.warning(
                "the error template %s raised %s: the built-in page was sent",
                name or f"for status {status}",
                type(exc).__name__,
            )
            return None

    def _find(self, status: int) -> jinja2.Template | None:
        if self._templates is None:
            return None
        import jinja2

        if self._users is None:
            self._users = users_environment(self._templates)
        for name in (f"{status}.html", "error.html"):
            try:
                return self._users.get_template(name)
            except jinja2.TemplateNotFound:
                continue
        return None


class DebugPage:
    """Renders the page that developers see: one file, without a script.

    Args:
        editor: where links to source lead: `vscode`, `cursor`, `zed`, `pycharm`, `vim`, or a
            URL that holds `{path}` and `{line}`; no links by default.
        path_map: pairs of a path prefix where the app runs, such as in a container, and the
            prefix where the editor runs.

    Raises:
        ValueError: *editor* or *path_map* is none of these.
    """

    def __init__(
        self, *, editor: str | None = None, path_map: Iterable[tuple[str, str]] = ()
    ) -> None:
        self._links = EditorLinks(editor, path_map)
        self._highlighter = Highlighter()
        self._environment: jinja2.Environment | None = None

    def csp(self, nonce: str) -> str:
        """Return the Content-Security-Policy of a page that was rendered with *nonce*."""
        return content_security_policy(nonce)

    def html(self, report: SafeReport, *, nonce: str) -> str:
        """Return the page, below 600 kB however large the report is; never raises.

        *nonce* is for the style's element, and must be random for each page.
        """
        try:
            page = self._page(report, nonce)
        except Exception as exc:
            _log.warning("the debug page raised %s: a bare one was sent", type(exc).__name__)
            page = f"<!doctype html><meta charset=utf-8><pre>{escape(traceback_text(report))}</pre>"
        return _encodable(page)

    def _page(self, report: SafeReport, nonce: str) -> str:
        if self._environment is None:
            self._environment = our_environment()
        trees = Trees(LOCALS_ROOM)
        outline = Outline(self._highlighter, self._links, trees)
        failure, request = report.failure, report.request
        return self._environment.get_template("debug.html").render(
            nonce=nonce,
            title=f"{headline(failure)} — {request.method} {request.path}"
            if request
            else headline(failure),
            failure=failure,
            facts=facts(report),
            stack=outline.runs(failure),
            chain=list(outline.chain(failure)),
            request=request,
            queries=[_query_row(query, trees) for query in report.queries[:MAX_ROWS]],
            query_summary=queries_summary(report.queries),
            crumbs=[_crumb_row(crumb, trees) for crumb in report.crumbs[-MAX_ROWS:]],
            traceback=clip(traceback_text(report), MAX_TRACEBACK),
            versions=list(islice(report.versions.items(), MAX_ROWS)),
        )


def _query_row(query: Query, trees: Trees) -> dict[str, str]:
    return {
        "took": milliseconds(query.duration),
        "sql": query.sql,
        "params": "" if query.params is None else trees.value(query.params),
    }


def _crumb_row(crumb: Crumb, trees: Trees) -> dict[str, str]:
    return {
        "when": when(crumb.timestamp, "%H:%M:%S"),
        "source": f"{crumb.level} {crumb.logger}",
        "message": crumb.message,
        "fields": trees.named(crumb.fields),
    }


def routes_html(*, method: str, path: str, status: int, routes: Iterable[Route], nonce: str) -> str:
    """Return the page that developers see for a 404 or 405: the app's routes, nearest first.

    Args:
        method: of the request.
        path: of the request.
        status: of the answer.
        routes: methods, path and name of each, as they are to be shown.
        nonce: for the style's element, and random for each page; send the header
            `content_security_policy(nonce)` along.
    """
    known = list(islice(routes, MAX_ROUTES + 1))
    more = len(known) > MAX_ROUTES
    rows = _nearest_first(known[:MAX_ROUTES], path)
    page = (
        our_environment()
        .get_template("routes.html")
        .render(
            nonce=nonce,
            method=method,
            path=path,
            status=status,
            phrase=phrase(status),
            routes=rows,
            summary=f"the first {MAX_ROUTES:,}, nearest first" if more else "nearest first",
        )
    )
    return _encodable(page)


def _nearest_first(routes: list[Route], path: str) -> list[dict[str, Any]]:
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(path[:MAX_PATH])

    def rank(routes: list[Route], likeness: Callable[[], float]) -> list[tuple[float, Route]]:
        ranked: list[tuple[float, Route]] = []
        for route in routes:
            matcher.set_seq1(route[1][:MAX_PATH])
            ranked.append((likeness(), route))
        return sorted(ranked, key=itemgetter(0), reverse=True)

    # How near two paths are takes up to milliseconds, and an upper bound of it microseconds.
    roughly = [route for _, route in rank(routes, matcher.quick_ratio)]
    ranked = rank(roughly[:MAX_COMPARED], matcher.ratio)
    ranked += [(0.0, route) for route in roughly[MAX_COMPARED:]]
    return [
        {
            "methods": methods,
            "path": pattern,
            "name": name,
            "is_near": index < MAX_NEAR and likeness >= NEAR,
        }
        for index, (likeness, (methods, pattern, name)) in enumerate(ranked)
    ]


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
