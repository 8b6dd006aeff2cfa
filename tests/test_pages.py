"""The pages and documents that a report becomes: complete, escaped, bounded, never failing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygments.lexers.python import PythonLexer

from errata.markup import MAX_SNIPPETS, Highlighter, Trees
from errata.pages import (
    DebugPage,
    ErrorPages,
    content_security_policy,
    debug_json,
    markdown_report,
    routes_html,
    text_report,
    traceback_text,
)
from errata.report import Crumb, Failure, Frame, Query, Report, RequestInfo, SafeReport
from errata.texts import marked_columns


GOLDEN = Path(__file__).parent / "golden"
TEMPLATES = Path(__file__).parent.parent / "src" / "errata" / "templates"

SOURCE = '''\
    async def submit(self, order: Order, *, dry_run: bool = False) -> Receipt:
        """Price the order and charge the customer."""
        lines = [line for line in order.lines if line.quantity > 0]
        total = await self.pricing.total(
            lines, currency=order.currency
        )
        receipt = await self.gateway.charge(order.card["nümber"], total)
        return receipt
'''.splitlines()


def _frame(line: int = 107, **changes: Any) -> Frame:
    text = SOURCE[6]
    begin = len(text[: text.index("order.card")].encode())
    stop = len(text[: text.index("]") + 1].encode())
    frame = Frame(
        file="/app/shop/orders.py",
        function="Orders.submit",
        module="shop.orders",
        line=line,
        columns=(line, line, begin, stop),
        source=tuple(enumerate(SOURCE, line - 6)),
        locals={
            "self": {"type": "shop.orders.Orders", "address": "0x7f00"},
            "order": {
                "type": "shop.models.Order",
                "address": "0x7f01",
                "attributes": {
                    "id": "ord_42",
                    "lines": {"type": "list", "size": 12, "items": [{"type": "Line"}, None]},
                    "card": "***",
                },
            },
            "total": {"type": "decimal.Decimal", "text": "1249.90"},
            "dry_run": False,
        },
    )
    return replace(frame, **changes)


def _library_frame(**changes: Any) -> Frame:
    file = "/usr/lib/python3/site-packages/starlette/routing.py"
    library = {"file": file, "function": "app", "module": "starlette.routing", "in_app": False}
    return _frame(**library | changes)


GAP = Frame(file="", function="", module="", line=0, repeated=42)


def _report(**changes: Any) -> SafeReport:
    """Build the report of the golden files."""
    cause = Failure(type="KeyError", module="builtins", message="'nümber'", frames=(_frame(57),))
    hidden = Failure(type="TimeoutError", module="builtins", message="2 s", frames=(_frame(58),))
    member = Failure(type="ValueError", module="builtins", message="no lines\nat all")
    failure = Failure(
        type="PaymentFailed",
        module="shop.errors",
        message="gateway refused <ord_42>",
        notes=("order ord_42 of customer 17",),
        frames=(
            _library_frame(),
            _library_frame(line=11),
            GAP,
            _frame(21, repeated=992),
            _frame(),
            _library_frame(line=12, columns=None),
        ),
        cause=cause,
        suppressed=hidden,
        members=(member, replace(member, type="Timeout", cause=member)),
    )
    report = Report(
        error_id="3f9a6b0c1d2e4f5a8b7c6d5e4f3a2b1c",
        failure=failure,
        fingerprint="f1",
        count=12,
        timestamp=1_767_225_600.0,
        status=500,
        duration=0.0312,
        request=RequestInfo(
            method="POST",
            path="/orders/42",
            query=(("page", "2"),),
            headers=(("host", "localhost"), ("authorization", "***")),
            cookies=(("session", "***"),),
            body='{"note": "ring ``` twice"}',
            client="127.0.0.1",
            route="/orders/{order_id}",
        ),
        queries=(
            Query(
                sql="SELECT 1\nFROM orders WHERE id = $1",
                params={"type": "tuple", "size": 1, "items": ["ord_42"]},
                duration=0.0021,
            ),
            Query(sql="COMMIT", duration=0.0004),
        ),
        crumbs=(
            Crumb(message="pricing", logger="shop", timestamp=1_767_225_599.0, fields={"n": 3}),
        ),
        versions={"python": "3.13.1", "starlette": "1.0"},
    )
    return SafeReport(replace(report, **changes))


def _of(*frames: Frame, **changes: Any) -> SafeReport:
    failure = Failure(type="E", module="m", message="x", frames=frames)
    return _report(failure=replace(failure, **changes))


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
    document = RENDERERS[form](_report())
    document = re.sub(r"(<style[^>]*>).*?(</style>)", r"\1…\2", document, flags=re.DOTALL)
    golden = GOLDEN / f"report.{form}"
    if os.environ.get("REWRITE_GOLDEN"):
        golden.write_text(document)
    assert document == golden.read_text()


# What the page shows.


def test_the_apps_most_recent_frame_is_open() -> None:
    """Of each exception one frame is open: where the app's own code was last."""
    page = _html(_of(_frame(1), _library_frame(), _frame(2), _library_frame(), _library_frame()))
    assert re.findall(r"<details class=frame open>\s*<summary>.*?orders\.py:(\d+)", page) == ["2"]
    assert page.count("<details class=frame open>") == 1
    assert "2 library frames: starlette" in page


def test_without_a_frame_of_the_app_the_last_is_open() -> None:
    """A failure inside a library shows where it happened, and its fold is open."""
    page = _html(_of(_library_frame(), _library_frame(line=12), GAP))
    assert "<details class=run open>" in page
    assert page.count("<details class=frame open>") == 1


def test_the_most_recent_call_stands_first() -> None:
    """What failed is at the top of the page."""
    page = _html(_of(_frame(1), _frame(2), _frame(3)))
    assert re.findall(r"<b>orders\.py:(\d)</b>", page) == ["3", "2", "1"]


def test_packages_are_named_once_and_not_all() -> None:
    """The line that library frames fold into stays one line."""
    frames = [_library_frame(module=f"package{number}.x") for number in range(6)]
    page = _html(_of(_frame(), *frames, *frames))
    assert "12 library frames: package5, package4, package3, package2, …" in page


def test_members_hold_what_led_to_them() -> None:
    """The cause of a group's member stands inside it, and not as a cause of the group."""
    leaf = Failure(type="Leaf", module="m", message="")
    member = replace(leaf, type="Member", cause=replace(leaf, type="CauseOfMember"))
    page = _html(_of(members=(member, leaf), cause=replace(leaf, type="CauseOfGroup")))
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
    frame = _frame(1, source=tuple(enumerate(lines, 1)), columns=columns)
    spans = [(text, marked_columns(frame, number, text)) for number, text in frame.source]
    assert [text[slice(*span)] for text, span in spans if span] == expected
    assert _marks(_html(_of(frame))) == expected


def _marks(page: str) -> list[str]:
    return [re.sub("<[^>]*>", "", mark) for mark in re.findall("<mark>(.*?)</mark>", page)]


def test_columns_of_every_line_of_a_span() -> None:
    """The first line is marked from its column, the last up to its, those between whole."""
    lines = ["total = sum(", "    ä for ä in x", ")  # done"]
    frame = _frame(1, source=tuple(enumerate(lines, 1)), columns=(1, 3, 8, 1))
    page = _html(_of(frame))
    assert _marks(page) == ["sum(", "ä for ä in x", ")"]
    assert page.count("<span class=p ") == 2


def test_source_of_other_languages_is_not_highlighted() -> None:
    """A template's line is shown as it is."""
    page = _html(_of(_frame(file="/app/index.html", source=((107, "{% if x %}"),), columns=None)))
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
        _of(_frame(7, file="/code/my app/a.py")),
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
    page = _html(_of(_frame(7, file=file)), editor="vscode")
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
    page = _html(_report(), editor="vscode")
    _check_page(page)
    assert page.count("<style") == page.count("nonce=") == 1
    assert "@import" not in page
    assert "url(" not in page


SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> \x1b[2J\x00 \u202e"


def _planted(value: Any) -> Any:
    """Return a report with the script in every text of it."""
    if isinstance(value, str):
        return SCRIPT if value not in ("request", "escaped") else value
    if is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: _planted(getattr(value, part.name)) for part in fields(value)}
        return type(value)(**parts)
    if isinstance(value, (tuple, list)):
        return type(value)(_planted(part) for part in value)
    if isinstance(value, dict):
        # The keys of a description are its grammar; those of other mappings are names.
        plain = "type" in value
        return {key if plain else _planted(key): _planted(part) for key, part in value.items()}
    return value


def test_html_in_any_field_is_escaped() -> None:
    """A script in each text of a report stays text, and what is invisible becomes visible."""
    report = _planted(_report())
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


texts = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    [SCRIPT, "\ud800", "```\n", "a\nb", "𝒳" * 5, ""]
)
numbers = st.integers(-5, 200)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | texts,
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(texts, children, max_size=3)
        | st.fixed_dictionaries(
            {"type": texts},
            optional={
                "text": texts | children,
                "size": numbers | children,
                "address": texts,
                "items": st.lists(children, max_size=3) | children,
                "entries": st.lists(st.lists(children, min_size=2, max_size=2), max_size=2)
                | children,
                "attributes": st.dictionaries(texts, children, max_size=2) | children,
            },
        )
    ),
    max_leaves=8,
)
names = st.dictionaries(texts, json_values, max_size=2)
frames = st.builds(
    Frame,
    file=texts | st.just("/a.py"),
    function=texts,
    module=texts,
    line=numbers,
    columns=st.none() | st.tuples(numbers, numbers, numbers, numbers),
    source=st.lists(st.tuples(numbers, texts), max_size=3).map(tuple),
    locals=names,
    in_app=st.booleans(),
    repeated=numbers,
)


def _failures(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[Failure]:
    return st.builds(
        Failure,
        type=texts,
        module=texts,
        message=texts,
        notes=st.lists(texts, max_size=2).map(tuple),
        frames=st.lists(frames, max_size=3).map(tuple),
        **more,
    )


failures = st.recursive(
    _failures(),
    lambda inner: _failures(
        cause=st.none() | inner,
        context=st.none() | inner,
        suppressed=st.none() | inner,
        members=st.lists(inner, max_size=2).map(tuple),
    ),
    max_leaves=3,
)
pairs = st.lists(st.tuples(texts, texts), max_size=2).map(tuple)
reports: st.SearchStrategy[Any] = st.builds(
    Report,
    error_id=texts,
    failure=failures,
    count=numbers,
    timestamp=st.floats(),
    phase=st.sampled_from(["request", "websocket_handshake"]),
    handled=st.booleans(),
    status=st.none() | numbers,
    duration=st.none() | st.floats(),
    request=st.none()
    | st.builds(
        RequestInfo,
        method=texts,
        path=texts,
        query=pairs,
        headers=pairs,
        cookies=pairs,
        body=st.none() | texts,
        client=st.none() | texts,
        route=st.none() | texts,
    ),
    queries=st.lists(
        st.builds(Query, sql=texts, params=json_values, duration=st.none() | st.floats()),
        max_size=2,
    ).map(tuple),
    crumbs=st.lists(
        st.builds(Crumb, message=texts, logger=texts, timestamp=st.floats(), fields=names),
        max_size=2,
    ).map(tuple),
    versions=st.dictionaries(texts, texts, max_size=2),
)


@given(reports)
def test_no_report_breaks_a_document(report: SafeReport) -> None:
    """Whatever a report holds, all documents of it are complete, clean and fit for UTF-8."""
    page = _html(report, editor="vscode")
    assert page.startswith("<!doctype html>\n<html lang=en>")
    assert page.endswith("</html>")
    _check_page(page)
    for render in (text_report, markdown_report, traceback_text):
        _check_text(render(report))
    json.dumps(debug_json(report), ensure_ascii=False, allow_nan=False).encode()


def _chain(depth: int, link: str) -> SafeReport:
    failure = Failure(type="E", module="m", message="end", frames=(_frame(),))
    for number in range(depth):
        linked: Any = (failure,) if link == "members" else failure
        failure = Failure(
            type="E", module="m", message=str(number), frames=(_frame(),), **{link: linked}
        )
    return _report(failure=failure)


@pytest.mark.parametrize("link", ["cause", "context", "suppressed", "members"])
@pytest.mark.parametrize("depth", [60, 250])
def test_deep_chains_are_shown(link: str, depth: int) -> None:
    """Long chains and deep groups are walked without recursion that could end."""
    report = _chain(depth, link)
    page = _html(report)
    _check_page(page)
    assert len(page) < 600_000
    assert ("More exceptions are left out." in page) == (depth == 250)
    assert len(traceback_text(report)) < 101_000
    assert markdown_report(report)
    assert text_report(report)
    assert debug_json(report)["status"] == 500


def test_json_of_an_endless_chain_has_the_essentials() -> None:
    """What cannot be written as JSON is left out, and the answer remains."""
    problem = debug_json(_chain(5000, "cause"))
    assert problem["detail"] == "m.E: 4999"
    assert "failure" not in problem


def _heavy_frame(number: int) -> Frame:
    value = {"type": "list", "size": 10, "items": [f"{number}-{index}" * 9 for index in range(9)]}
    source = [f"    value_{index} = function({index}, {number})  # comment" for index in range(11)]
    return _frame(
        number,
        source=tuple(enumerate(source, number - 5)),
        locals={f"name_{index}": value for index in range(20)},
    )


@pytest.mark.parametrize(("count", "limit"), [(20, 250_000), (100, 600_000), (2000, 600_000)])
def test_pages_are_bounded(count: int, limit: int) -> None:
    """A deep stack with full variables in each frame stays below the limit."""
    report = _of(*map(_heavy_frame, range(count)))
    page = _html(report)
    _check_page(page)
    assert len(page.encode()) < limit
    assert "left out: the page is full" in page
    assert ("more frames are left out" in page) == (count == 2000)


def test_huge_texts_are_clipped() -> None:
    """A message, a statement and a body of megabytes neither fill the page nor the log."""
    huge = "x" * 2_000_000
    request = RequestInfo(method="GET", path=huge, headers=((huge, huge),), body=huge)
    report = _of(_frame(source=((107, huge),)), message=huge, notes=(huge,) * 99)
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
    report = _of(_frame(locals=None), message="<b>")
    page = _html(report)
    assert page.startswith("<!doctype html>")
    assert "m.E: &lt;b&gt;" in page
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_highlighted_source_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that errors share are highlighted once; what is older than the bound is forgotten."""
    lexed: list[str] = []
    unspied = PythonLexer.get_tokens_unprocessed

    def spy(self: PythonLexer, text: str, *args: Any) -> Iterator[Any]:
        lexed.append(text)
        return unspied(self, text, *args)

    monkeypatch.setattr(PythonLexer, "get_tokens_unprocessed", spy)
    highlighter = Highlighter()
    first = highlighter.code(_frame(), 99)
    assert highlighter.code(_frame(), 99) == first
    assert len(lexed) == 1
    for number in range(MAX_SNIPPETS):
        highlighter.code(_frame(source=((107, f"x = {number}"),)), 99)
    assert highlighter.code(_frame(), 99) == first
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


# The other documents.


class Oops(Exception):
    """An error of the tests'."""


def _raise(exc: BaseException) -> None:
    raise exc


def _chained() -> None:
    try:
        _raise(KeyError("a"))
    except KeyError as exc:
        raise Oops("two\nlines") from exc


def _in_handler() -> None:
    try:
        _chained()
    except Oops:
        _raise(ValueError())


def _hidden() -> None:
    try:
        _chained()
    except Oops:
        raise ValueError("x") from None


def _noted() -> None:
    exc = Oops("x")
    exc.add_note("note\nof two lines")
    exc.add_note("another")
    raise exc


def _caught(function: Callable[[], None]) -> Exception:
    try:
        function()
    except Exception as exc:
        return exc
    raise AssertionError


def _group() -> None:
    inner = ExceptionGroup("inner", [_caught(_chained), *[ValueError(str(n)) for n in range(20)]])
    raise ExceptionGroup("outer", [_caught(_noted), inner, _caught(_in_handler)])


def _group_at_the_end() -> None:
    inner = ExceptionGroup("inner", [_caught(_chained)])
    try:
        raise ExceptionGroup("outer", [ValueError(), inner])
    except ExceptionGroup as exc:
        raise Oops from exc


def _deep_groups() -> None:
    exc: Exception = ValueError("leaf")
    for _ in range(5):
        exc = ExceptionGroup("deep", [exc])
    raise exc


@pytest.mark.parametrize(
    "function",
    [_chained, _in_handler, _hidden, _noted, _group, _group_at_the_end, _deep_groups],
)
def test_tracebacks_read_as_pythons_own(function: Callable[[], None]) -> None:
    """Chains, notes and groups are laid out line by line as `traceback` does it."""
    exc = _caught(function)
    expected = "".join(traceback.format_exception(exc)).splitlines()
    shown = traceback_text(SafeReport(capture(exc))).splitlines()
    assert list(map(str.rstrip, _without_carets(shown))) == list(
        map(str.rstrip, _without_carets(expected))
    )


def _without_carets(lines: list[str]) -> list[str]:
    # Which parts are underlined, and with what, differs between versions of Python.
    return [line for line in lines if not re.fullmatch(r"[ |]*[~^]+", line)]


def test_carets_stand_under_the_error() -> None:
    """Characters of double width are two columns of a terminal."""
    text = '    x = "漢字" + order["é"]'
    begin, stop = (len(text[:index].encode()) for index in (text.index("order"), len(text)))
    frame = _frame(1, source=((1, text),), columns=(1, 1, begin, stop))
    lines = traceback_text(_of(frame)).splitlines()
    assert lines[2] == '    x = "漢字" + order["é"]'
    assert lines[3] == "    " + " " * 13 + "^" * 10


def test_groups_are_shown_as_deep_and_wide_as_python_does() -> None:
    """What is beyond the limits of `traceback` is counted."""
    leaf = Failure(type="E", module="m", message="leaf")
    deep = leaf
    for _ in range(20):
        deep = replace(leaf, message="group", members=(deep,))
    assert "groups are shown 10 deep" in traceback_text(_report(failure=deep))
    wide = replace(leaf, members=(leaf,) * 17)
    assert "and 2 more exceptions" in traceback_text(_report(failure=wide))


def test_a_long_chain_says_what_is_left_out() -> None:
    """A traceback ends at a hundred exceptions."""
    text = traceback_text(_chain(250, "cause"))
    assert text.count("direct cause of the following") == 99
    assert text.startswith("… what led to it is left out …")


def test_a_long_traceback_keeps_both_ends() -> None:
    """Where it began and how it ended are what is read first."""
    text = traceback_text(_of(_frame(function="begin"), *[_frame()] * 2000, message="the end"))
    assert len(text) < 101_000
    assert "in begin" in text[:300]
    assert text.endswith("the end\norder ord_42 of customer 17") or text.endswith("the end")
    assert "characters are left out here" in text


def test_a_frame_cannot_forge_lines() -> None:
    """A line break in a file's name or in source does not begin a line of its own."""
    frame = _frame(file="/a\nb.py", function="f\n", source=((107, "x\ny"),))
    assert traceback_text(_of(frame)).splitlines()[1:3] == [
        '  File "/a\\nb.py", line 107, in f\\n',
        "    x\\ny",
    ]


@given(texts)
def test_nothing_breaks_out_of_a_fence(text: str) -> None:
    """No text ends the code that it stands in: fences open and close in turn."""
    frame = _frame(source=((107, text),), locals={text: text}, function=text)
    request = RequestInfo(method=text, path=text, body=text, headers=((text, text),))
    document = markdown_report(SafeReport(replace(_of(frame, message=text), request=request)))
    fence = ""
    for line in document.split("\n"):
        ticks = re.match("`{3,}", line)
        if fence:
            fence = "" if line == fence else fence
        elif ticks and line[ticks.end() :] in ("text", "python"):
            fence = ticks[0]
        else:
            assert line[:1] in ("", "#", "-")
    assert fence == ""


def test_the_json_is_a_problem() -> None:
    """The members of RFC 9457, the error id, and what the report knows."""
    report = _report()
    problem = debug_json(report)
    assert {name: problem[name] for name in ("type", "title", "status", "detail", "error_id")} == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "shop.errors.PaymentFailed: gateway refused <ord_42>",
        "error_id": report.error_id,
    }
    data = report.to_dict()
    assert problem["failure"] == data["failure"]
    assert problem["request"] == data["request"]
    assert problem["queries"] == data["queries"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünicode 漢 👩‍👩‍👧", "plain ünicode 漢 👩‍👩‍👧"),
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31m\r\x00\x7f\x9b", "\\x1b[31m\\r\\x00\\x7f\\x9b"),
        ("\u202egpj.exe\u2066\ufeff", "\\u202egpj.exe\\u2066\\ufeff"),
        ("\ud800 \U000e0041", "\\ud800 \\U000e0041"),
    ],
)
def test_what_the_eye_would_miss_is_visible(text: str, shown: str) -> None:
    """Controls and direction marks are escapes; letters, emoji, tabs and line ends stay."""
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (None, "None"),
        ("it's", '"it\'s"'),
        ({"type": "list", "size": 3, "items": [1, 2]}, "[1, 2, …]"),
        ({"type": "tuple", "size": 2, "items": [1, "a"]}, "(1, 'a')"),
        ({"type": "list", "size": 0}, "[]"),
        ({"type": "list", "size": 9}, "[…]"),
        ({"type": "a.Bag", "size": 9}, "<Bag of 9>"),
        ({"type": "collections.deque", "size": 1, "items": [1]}, "deque(1)"),
        ({"type": "dict", "size": 1, "entries": [["a", None]]}, "{'a': None}"),
        ({"type": "a.f.<locals>.B", "attributes": {"x": 1, "y": "z"}}, "B(x=1, y='z')"),
        ({"type": "a.B", "address": "0x1"}, "<B at 0x1>"),
        ({"type": "a.B"}, "<B>"),
        ({"type": "bytes", "size": 1, "text": "b'x'"}, "b'x'"),
        ({"type": "str", "size": 999, "text": "long"}, "'long'"),
        ({"type": "uuid.UUID", "text": "1-2"}, "UUID 1-2"),
        ({"a": [1, {"b": 2}]}, "{'a': [1, {'b': 2}]}"),
        ([[[[[1]]]]], "[[[[…]]]]"),
        ("x" * 500, "'" + "x" * 119 + "… (+11)"),
    ],
)
def test_a_value_on_one_line(node: Any, text: str) -> None:
    """Values read close to how Python writes them, and are clipped."""
    assert brief(node) == text


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
        raise Oops("hunter2")

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
        from errata.pages import DebugPage, ErrorPages
        DebugPage(editor="vscode"), ErrorPages(), ErrorPages("/")
        assert not {"jinja2", "pygments", "markupsafe"} & sys.modules.keys()
        ErrorPages().render(status=500, message="x", path="/", error_id=None)
        assert "jinja2" in sys.modules and "pygments" not in sys.modules
    """
    subprocess.run([sys.executable, "-I", "-c", program], check=True)
