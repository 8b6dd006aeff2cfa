"""The pages and documents that a report becomes: complete, escaped, bounded, never failing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.capture import capture
from errata.markup import Highlighter, Trees
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
from errata.report import Crumb, Failure, Frame, Query, Report, RequestInfo, SafeReport
from errata.texts import brief, marked_columns, visible


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
    return _frame(file=file, function="app", module="starlette.routing", in_app=False, **changes)


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
