"""The pages and documents that a report becomes: complete, escaped, bounded, never failing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given

from errata.markup import MAX_SNIPPETS, Highlighter, Trees
from errata.pages import (
    MAX_ROUTES,
    DebugPage,
    ErrorPages,
    content_security_policy,
    debug_json,
    markdown_report,
    routes_html,
    text_report,
    traceback_text,
)
from errata.report import Crumb, Failure, Frame, Query, RequestInfo, SafeReport
from errata.texts import marked_columns
from tests.reports import (
    GAP,
    SCRIPT,
    a_frame,
    a_library_frame,
    any_report,
    chained,
    planted,
    report_of,
    sample_report,
)


GOLDEN = Path(__file__).parent / "golden"
TEMPLATES = Path(__file__).parent.parent / "src" / "errata" / "templates"


def _html(report: SafeReport, **options: Any) -> str:
    return DebugPage(**options).html(report, nonce="n0nce")


RENDERERS: dict[str, Callable[[SafeReport], str]] = {
    "html": _html,
    "md": markdown_report,
    "txt": text_report,
}


@pytest.mark.parametrize("form", RENDERERS)
def test_documents_are_as_reviewed(form: str) -> None:
    """The rendering of one rich report is what a person has looked at.

    After a wanted change: `REWRITE_GOLDEN=1 pytest tests/test_pages.py`, and read the diff.
    """
    document = RENDERERS[form](sample_report())
    document = re.sub(r"(<style[^>]*>).*?(</style>)", r"\1…\2", document, flags=re.DOTALL)
    golden = GOLDEN / f"report.{form}"
    if os.environ.get("REWRITE_GOLDEN"):
        golden.write_text(document)
    assert document == golden.read_text()


# What the page shows.


def test_the_apps_most_recent_frame_is_open() -> None:
    """Of each exception one frame is open: where the app's own code was last."""
    page = _html(
        report_of(a_frame(1), a_library_frame(), a_frame(2), a_library_frame(), a_library_frame())
    )
    assert re.findall(r"<details class=frame open>\s*<summary>.*?orders\.py:(\d+)", page) == ["2"]
    assert page.count("<details class=frame open>") == 1
    assert "2 library frames: starlette" in page


def test_without_a_frame_of_the_app_the_last_is_open() -> None:
    """A failure inside a library shows where it happened, and its fold is open."""
    page = _html(report_of(a_library_frame(), a_library_frame(line=12), GAP))
    assert "<details class=run open>" in page
    assert page.count("<details class=frame open>") == 1


def test_the_most_recent_call_stands_first() -> None:
    """What failed is at the top of the page."""
    page = _html(report_of(a_frame(1), a_frame(2), a_frame(3)))
    assert re.findall(r"<b>orders\.py:(\d)</b>", page) == ["3", "2", "1"]


def test_packages_are_named_once_and_not_all() -> None:
    """The line that library frames fold into stays one line."""
    frames = [a_library_frame(module=f"package{number}.x") for number in range(6)]
    page = _html(report_of(a_frame(), *frames, *frames))
    assert "12 library frames: package5, package4, package3, package2, …" in page


def test_members_hold_what_led_to_them() -> None:
    """The cause of a group's member stands inside it, and not as a cause of the group."""
    leaf = Failure(type="Leaf", module="m", message="")
    member = replace(leaf, type="Member", cause=replace(leaf, type="CauseOfMember"))
    page = _html(report_of(members=(member, leaf), cause=replace(leaf, type="CauseOfGroup")))
    outline = re.findall(r"<(/?)section|</small> m\.(\w+)</h3>", page)
    text = " ".join(title or ("close" if slash else "open") for slash, title in outline)
    assert text == (
        "open Member open CauseOfMember close close open Leaf close open CauseOfGroup close"
    )


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (None, []),
        ((1, 1, 4, 5), ["y"]),
        ((1, 1, 0, 3), ["ä "]),
        ((1, 1, 6, 9), ["+ ("]),
        ((2, 2, 4, 6), ["é"]),
        ((1, 3, 6, 5), ["+ (", "é, x", "z"]),
        ((1, 1, 4, 999), ["y + ("]),
        ((1, 1, -5, 2), ["ä"]),
        ((1, 1, 4, 4), []),
        ((9, 9, 0, 1), []),
        ((3, 1, 0, 1), []),
    ],
)
def test_columns_are_marked(columns: tuple[int, int, int, int] | None, expected: list[str]) -> None:
    """UTF-8 offsets mark characters, over several lines too; nonsense marks nothing."""
    lines = ["ä =y + (", "    é, x", "    z)"]
    frame = a_frame(1, source=tuple(enumerate(lines, 1)), columns=columns)
    spans = [(text, marked_columns(frame, number, text)) for number, text in frame.source]
    assert [text[slice(*span)] for text, span in spans if span] == expected
    assert _marks(_html(report_of(frame))) == expected


def _marks(page: str) -> list[str]:
    return [re.sub("<[^>]*>", "", mark) for mark in re.findall("<mark>(.*?)</mark>", page)]


def test_columns_of_every_line_of_a_span() -> None:
    """The first line is marked from its column, the last up to its, those between whole."""
    lines = ["total = sum(", "    ä for ä in x", ")  # done"]
    frame = a_frame(1, source=tuple(enumerate(lines, 1)), columns=(1, 3, 8, 1))
    page = _html(report_of(frame))
    assert _marks(page) == ["sum(", "ä for ä in x", ")"]
    assert page.count("<span class=p ") == 2


def test_source_of_other_languages_is_not_highlighted() -> None:
    """A template's line is shown as it is."""
    page = _html(
        report_of(a_frame(file="/app/index.html", source=((107, "{% if x %}"),), columns=None))
    )
    assert "<span class=e data-n=107>{% if x %}\n" in page


@pytest.mark.parametrize(
    ("editor", "href"),
    [
        (None, None),
        ("vscode", "vscode://file/home/me/my%20app/a.py:7"),
        ("cursor", "cursor://file/home/me/my%20app/a.py:7"),
        ("zed", "zed://file/home/me/my%20app/a.py:7"),
        ("pycharm", "pycharm://open?file=/home/me/my%20app/a.py&amp;line=7"),
        ("vim", "mvim://open?url=file:///home/me/my%20app/a.py&amp;line=7"),
        ("x-ed:{line}@{path}?{{}", "x-ed:7@/home/me/my%20app/a.py?{{}"),
    ],
)
def test_editor_links(editor: str | None, href: str | None) -> None:
    """A frame links to its line in the editor, on the machine where the editor is."""
    page = _html(
        report_of(a_frame(7, file="/code/my app/a.py")),
        editor=editor,
        path_map=[("/cod", "/wrong"), ("/code/", "/home/me/")],
    )
    assert re.findall('href="([^"]*)"', page) == ([] if href is None else [href])


@pytest.mark.parametrize(
    ("file", "href"),
    [
        ("<string>", None),
        ("a.py", None),
        ("C:\\app\\a.py", "vscode://file/C:/app/a.py:7"),
        ('/a"><script>.py', "vscode://file/a%22%3E%3Cscript%3E.py:7"),
        ("/a\ud800.py", "vscode://file/a%3F.py:7"),
    ],
)
def test_editor_links_of_strange_files(file: str, href: str | None) -> None:
    """Only what has a place on a disk gets a link, and nothing breaks out of it."""
    page = _html(report_of(a_frame(7, file=file)), editor="vscode")
    assert re.findall('href="([^"]*)"', page) == ([] if href is None else [href])


@pytest.mark.parametrize(
    "options",
    [
        {"editor": "emcas"},
        {"editor": ""},
        {"editor": "code://{path}"},
        {"editor": "javascript:alert('{path}{line}')"},
        {"editor": " data:{path}{line}"},
        {"editor": 7},
        {"path_map": ["/app"]},
        {"path_map": [("/app",)]},
        {"path_map": [("", "/x")]},
        {"path_map": [("/app", None)]},
    ],
)
def test_wrong_editors_are_refused(options: Any) -> None:
    """A typing error fails at construction, and the message says what would do."""
    with pytest.raises(ValueError, match="give"):
        DebugPage(**options)


def test_the_policy_allows_the_style_and_nothing_else() -> None:
    """No script, no request and no frame around it: a report cannot act."""
    policy = DebugPage().csp("n0nce")
    assert policy == content_security_policy("n0nce")
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives == {
        "default-src": "'none'",
        "style-src": "'nonce-n0nce'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


class Tags(HTMLParser):
    """Reads a page: its elements, its attributes, and whether they close."""

    FOLDS = ("details", "section", "div", "ul", "table", "pre", "main", "dl", "summary", "style")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag in self.FOLDS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.FOLDS:
            assert self.open.pop() == tag


ELEMENTS = """
    html head meta title style body div header main footer section details summary h1 h2 h3 p
    small dl dt dd ul li b i a span pre code mark table tr th td
"""
ATTRIBUTES = "lang charset name content nonce class tabindex open data-n href scope"


def _check_page(page: str) -> None:
    tags = Tags(page)
    assert tags.names <= set(ELEMENTS.split())
    assert tags.attributes <= set(ATTRIBUTES.split())
    assert tags.open == []
    _check_text(page)


def _check_text(text: str) -> None:
    text.encode()
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text
    )


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """No script, image, font or style of its own but the one with the nonce; all folds close."""
    page = _html(sample_report(), editor="vscode")
    _check_page(page)
    assert page.count("<style") == page.count("nonce=") == 1
    assert "@import" not in page
    assert "url(" not in page


def test_html_in_any_field_is_escaped() -> None:
    """A script in each text of a report stays text, and what is invisible becomes visible."""
    report = planted(sample_report())
    page = _html(report, editor="vscode")
    _check_page(page)
    assert page.count("&lt;script&gt;") > 20
    assert "\\x1b[2J\\x00 \\u202e" in page
    for render in (text_report, markdown_report, traceback_text):
        _check_text(render(report))


def test_html_in_the_other_pages_is_escaped() -> None:
    """The same holds for the error page and the routes page."""
    error = ErrorPages().render(status=404, message=SCRIPT, path=SCRIPT, error_id=SCRIPT)
    route = (SCRIPT, SCRIPT, SCRIPT)
    routes = routes_html(method=SCRIPT, path=SCRIPT, status=404, routes=[route], nonce="n")
    for page in (error, routes):
        _check_text(page)
        assert Tags(page).names <= set(ELEMENTS.split())
        assert "&lt;script&gt;" in page


@given(any_report)
def test_no_report_breaks_a_document(report: SafeReport) -> None:
    """Whatever a report holds, all documents of it are complete, clean and fit for UTF-8."""
    page = _html(report, editor="vscode")
    assert page.startswith("<!doctype html>\n<html lang=en>")
    assert page.endswith("</html>")
    _check_page(page)
    for render in (text_report, markdown_report, traceback_text):
        _check_text(render(report))
    json.dumps(debug_json(report), ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("link", ["cause", "context", "suppressed", "members"])
@pytest.mark.parametrize("depth", [60, 250])
def test_deep_chains_are_shown(link: str, depth: int) -> None:
    """Long chains and deep groups are walked without recursion that could end."""
    report = chained(depth, link)
    page = _html(report)
    _check_page(page)
    assert len(page) < 600_000
    assert ("More exceptions are left out." in page) == (depth == 250)
    assert len(traceback_text(report)) < 101_000
    assert markdown_report(report)
    assert text_report(report)
    assert debug_json(report)["status"] == 500


def _heavy_frame(number: int) -> Frame:
    value = {"type": "list", "size": 10, "items": [f"{number}-{index}" * 9 for index in range(9)]}
    source = [f"    value_{index} = function({index}, {number})  # comment" for index in range(11)]
    return a_frame(
        number,
        source=tuple(enumerate(source, number - 5)),
        locals={f"name_{index}": value for index in range(20)},
    )


@pytest.mark.parametrize(("count", "limit"), [(20, 250_000), (100, 600_000), (2000, 600_000)])
def test_pages_are_bounded(count: int, limit: int) -> None:
    """A deep stack with full variables in each frame stays below the limit."""
    report = report_of(*map(_heavy_frame, range(count)))
    page = _html(report)
    _check_page(page)
    assert len(page.encode()) < limit
    assert "left out: the page is full" in page
    assert ("more frames are left out" in page) == (count == 2000)


def test_huge_texts_are_clipped() -> None:
    """A message, a statement and a body of megabytes neither fill the page nor the log."""
    huge = "x" * 2_000_000
    request = RequestInfo(method="GET", path=huge, headers=((huge, huge),), body=huge)
    report = report_of(a_frame(source=((107, huge),)), message=huge, notes=(huge,) * 99)
    report = SafeReport(
        replace(
            report,
            request=request,
            queries=(Query(sql=huge, params=huge),) * 50,
            crumbs=(Crumb(message=huge),) * 50,
        )
    )
    assert len(_html(report)) < 600_000
    assert len(markdown_report(report)) < 501_000
    assert len(text_report(report)) < 501_000
    assert len(traceback_text(report)) < 101_000


def test_a_broken_report_gets_a_bare_page(caplog: pytest.LogCaptureFixture) -> None:
    """Should the page fail in spite of all, the traceback is shown, and the log says why."""
    report = report_of(a_frame(locals=None), message="<b>")
    page = _html(report)
    assert page.startswith("<!doctype html>")
    assert "m.E: &lt;b&gt;" in page
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_highlighted_source_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that errors share are highlighted once; what is older than the bound is forgotten."""
    lexed: list[str] = []
    lexer: Any = import_module("pygments.lexers.python").PythonLexer
    unspied = lexer.get_tokens_unprocessed

    def spy(self: Any, text: str) -> Iterator[Any]:
        lexed.append(text)
        return iter(unspied(self, text))

    monkeypatch.setattr(lexer, "get_tokens_unprocessed", spy)
    highlighter = Highlighter()
    first = highlighter.code(a_frame(), 99)
    assert highlighter.code(a_frame(), 99) == first
    assert len(lexed) == 1
    for number in range(MAX_SNIPPETS):
        highlighter.code(a_frame(source=((107, f"x = {number}"),)), 99)
    assert highlighter.code(a_frame(), 99) == first
    assert len(lexed) == MAX_SNIPPETS + 2


def test_values_open_where_a_line_does_not_show_them() -> None:
    """A small value reads on its line; a larger one opens."""
    small = Trees(9999).named({"a": {"type": "tuple", "size": 2, "items": [1, "x"]}})
    assert small == "<ul class=t><li><b>a</b><i>(1, 'x')</i></ul>"
    large = Trees(9999).named({"a": {"type": "list", "size": 3, "items": [1, 2]}})
    assert "<details><summary><b>a</b><i>[1, 2, …]</i></summary>" in large
    assert "<li><b>1</b><i class=n>2</i><li class=x>… 1 more" in large


@pytest.mark.parametrize("sheet", ["debug.css", "error.html"])
def test_colours_can_be_read(sheet: str) -> None:
    """Each colour of text has the contrast of WCAG 2.2 level AA, 4.5, on each ground it meets."""
    themes = re.findall(r":root \{(.*?)\}", (TEMPLATES / sheet).read_text(), flags=re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): #(\w+)", theme))
        grounds = {"ground", "card", "sunk", "hover", "tint", "mark"} & colours.keys()
        for text in colours.keys() - grounds - {"line"}:
            # Nothing dim, no link and no comment stands on marked source.
            for ground in grounds - ({"mark"} if text in ("dim", "note", "accent") else set()):
                assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def _contrast(one: str, other: str) -> float:
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    digits = "".join(digit * 2 for digit in colour) if len(colour) == 3 else colour
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (int(digits[index : index + 2], 16) / 255 for index in (0, 2, 4))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# Pages for visitors.


def test_our_error_page_is_small_and_complete() -> None:
    """Status, message and the id to quote; no script and nothing from elsewhere."""
    page = ErrorPages().render(
        status=500, message="Internal server error", path="/secret-path", error_id="3f9a6b"
    )
    assert len(page.encode()) < 2500
    assert "<code>3f9a6b</code>" in page
    assert "<h1>Internal server error</h1>" in page
    assert "/secret-path" not in page
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page
    for foreign in ("<script", "http", "url(", "@import", "<img", "<link"):
        assert foreign not in page


def test_our_error_page_without_an_id_or_message() -> None:
    """Where there is no report there is no id to quote; without a message the status speaks."""
    page = ErrorPages().render(status=404, message="", path="/", error_id=None)
    assert "quote" not in page
    assert "<h1>Not Found</h1>" in page
    assert len(ErrorPages().render(status=400, message="x" * 9999, path="", error_id=None)) < 3500


def _write(folder: Path, **templates: str) -> Path:
    for name, text in templates.items():
        (folder / f"{name.strip('_')}.html").write_text(text)
    return folder


def _render(pages: ErrorPages, status: int = 404, message: str = "<Not> Found") -> str:
    return pages.render(status=status, message=message, path="/<a>", error_id="e1")


@pytest.mark.parametrize("as_text", [True, False])
def test_templates_of_a_directory(tmp_path: Path, as_text: bool) -> None:
    """The status' own template is taken before the common one, and escapes what it shows."""
    _write(tmp_path, _404="own {{ status }} {{ message }} {{ path }} {{ error_id }}")
    pages = ErrorPages(str(tmp_path) if as_text else tmp_path)
    assert _render(pages) == "own 404 &lt;Not&gt; Found /&lt;a&gt; e1"
    assert pages.claims(404)
    assert not pages.claims(500)
    assert "<h1>&lt;Not&gt; Found</h1>" in _render(pages, 500)
    _write(tmp_path, error="common {{ status }}")
    assert _render(pages, 500) == "common 500"
    assert pages.claims(500)


def test_without_templates_nothing_is_claimed() -> None:
    """Our own page takes no framework's place."""
    assert not ErrorPages().claims(404)


@pytest.mark.parametrize("autoescape", [True, False, jinja2.select_autoescape(["xml"])])
def test_templates_of_an_environment(autoescape: Any) -> None:
    """Values are escaped once, whether the environment does it or not."""
    loader = jinja2.DictLoader({"error.html": "{{ message }} {{ path|e }} {{ name() }}"})
    environment = jinja2.Environment(loader=loader, autoescape=autoescape)
    environment.globals["name"] = lambda: "shop"
    assert _render(ErrorPages(environment)) == "&lt;Not&gt; Found /&lt;a&gt; shop"


def test_an_async_environment_within_a_running_loop() -> None:
    """A page is rendered from plain code, whatever the app's own templates need."""
    loader = jinja2.DictLoader(
        {"base.html": "<{% block b %}{% endblock %}>", "error.html": SOURCE_OF_ASYNC_PAGE}
    )
    environment = jinja2.Environment(loader=loader, autoescape=True, enable_async=True)
    pages = ErrorPages(environment)

    async def main() -> tuple[str, str]:
        ours = _render(pages)
        template = environment.get_template("error.html")
        return ours, await template.render_async(message="<Not> Found", path="/<a>")

    ours, theirs = asyncio.run(main())
    assert ours == theirs == "<&lt;Not&gt; Found 1 2 >"
    assert environment.is_async


SOURCE_OF_ASYNC_PAGE = (
    '{% extends "base.html" %}{% block b %}{{ message }} {% for n in [1, 2] %}{{ n }} {% endfor %}'
    "{% endblock %}"
)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 / 0 }}",
        "{{ nothing.of.the.kind }}",
        "{% if %}",
        '{% extends "missing.html" %}',
        "{{ stop() }}",
    ],
)
def test_a_broken_template_is_replaced(source: str, caplog: pytest.LogCaptureFixture) -> None:
    """The visitor gets our page, the log one warning without the error's text."""

    def stop() -> None:
        raise LookupError("hunter2")

    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"404.html": source, "error.html": "x"})
    )
    environment.globals["stop"] = stop
    pages = ErrorPages(environment)
    assert pages.claims(404)
    assert "<h1>&lt;Not&gt; Found</h1>" in _render(pages)
    records = [(record.name, record.levelno) for record in caplog.records]
    assert records == [("errata", logging.WARNING)]
    assert "404" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("templates", "error"),
    [
        ("/no/such/directory", ValueError),
        (__file__, ValueError),
        (jinja2.Environment(), ValueError),
        (7, TypeError),
    ],
)
def test_wrong_templates_are_refused(templates: Any, error: type[Exception]) -> None:
    """A directory that is not there fails at construction, not at the first error."""
    with pytest.raises(error, match="templates"):
        ErrorPages(templates)


def test_what_utf8_cannot_carry_is_escaped_in_templates(tmp_path: Path) -> None:
    """A lone surrogate in a path must not cost the answer."""
    pages = ErrorPages(_write(tmp_path, error="{{ path }} {{ message }}"))
    page = pages.render(status=404, message="\udcff", path="/\ud800", error_id=None)
    assert page == "/\\ud800 \\udcff"


# The routes page.


def test_routes_stand_nearest_first() -> None:
    """What was probably meant is on top and stands out."""
    routes = [
        ("GET", "/", "home"),
        ("GET, POST", "/users", "users"),
        ("GET", "/users/{id}/orders", "orders"),
        ("DELETE", "/items/{id}", "items"),
    ]
    page = routes_html(method="GET", path="/users/42/order", status=404, routes=routes, nonce="n")
    _check_page(page)
    assert re.findall(r"<tr[^>]*><th scope=row>.*?<td>(.*?)<td>(.*)", page) == [
        ("/users/{id}/orders", "orders"),
        ("/users", "users"),
        ("/items/{id}", "items"),
        ("/", "home"),
    ]
    assert re.findall(r"<tr class=near><th scope=row>.*?<td>(.*?)<td>", page) == [
        "/users/{id}/orders"
    ]
    assert "404 <small>Not Found</small>" in page
    assert '<style nonce="n">' in page


def test_routes_page_of_an_app_without_routes() -> None:
    """Nothing to list is said."""
    page = routes_html(method="GET", path="/", status=404, routes=[], nonce="n")
    assert "The app has no routes" in page


def test_routes_page_is_bounded() -> None:
    """Of a great many routes the first are compared, and long paths by their beginning."""
    routes = (("GET", f"/{'a' * 999}{number}", "x") for number in range(MAX_ROUTES + 500))
    page = routes_html(method="GET", path="/" + "a" * 9999, status=405, routes=routes, nonce="n")
    assert page.count("<tr") == MAX_ROUTES
    assert "the first 1,000" in page
    assert len(page) < 600_000


def test_nothing_heavy_is_imported_before_a_page_is_rendered() -> None:
    """Jinja2 and Pygments are for those who see a page."""
    program = """if True:
        import sys
        sys.modules["rich"] = None  # structlog imports it, and Pygments with it, if it is there
        from errata.pages import DebugPage, ErrorPages
        DebugPage(editor="vscode"), ErrorPages(), ErrorPages("/")
        assert not {"jinja2", "pygments", "markupsafe"} & sys.modules.keys()
        ErrorPages().render(status=500, message="x", path="/", error_id=None)
        assert "jinja2" in sys.modules and "pygments" not in sys.modules
    """
    subprocess.run([sys.executable, "-I", "-c", program], check=True)
