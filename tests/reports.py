"""Reports to render: one with everything in it, and any that there could be."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from hypothesis import strategies as st

from errata.report import Crumb, Failure, Frame, Query, Report, RequestInfo, SafeReport


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


def a_frame(line: int = 107, **changes: Any) -> Frame:
    text = SOURCE[6]
    begin = len(text[: text.index("order.card")].encode())
    stop = len(text[: text.index("]") + 1].encode())
    whole = Frame(
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
    return replace(whole, **changes)


def a_library_frame(**changes: Any) -> Frame:
    file = "/usr/lib/python3/site-packages/starlette/routing.py"
    library: dict[str, Any] = {
        "file": file,
        "function": "app",
        "module": "starlette.routing",
        "in_app": False,
    }
    return a_frame(**library | changes)


GAP = Frame(file="", function="", module="", line=0, repeated=42)


def sample_report(**changes: Any) -> SafeReport:
    """Build the report of the golden files."""
    cause = Failure(type="KeyError", module="builtins", message="'nümber'", frames=(a_frame(57),))
    hidden = Failure(type="TimeoutError", module="builtins", message="2 s", frames=(a_frame(58),))
    member = Failure(type="ValueError", module="builtins", message="no lines\nat all")
    failure = Failure(
        type="PaymentFailed",
        module="shop.errors",
        message="gateway refused <ord_42>",
        notes=("order ord_42 of customer 17",),
        frames=(
            a_library_frame(),
            a_library_frame(line=11),
            GAP,
            a_frame(21, repeated=992),
            a_frame(),
            a_library_frame(line=12, columns=None),
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


def report_of(*frames: Frame, **changes: Any) -> SafeReport:
    failure = Failure(type="E", module="m", message="x", frames=frames)
    return sample_report(failure=replace(failure, **changes))


def chained(depth: int, link: str) -> SafeReport:
    failure = Failure(type="E", module="m", message="end", frames=(a_frame(),))
    for number in range(depth):
        linked: Any = (failure,) if link == "members" else failure
        failure = Failure(
            type="E", module="m", message=str(number), frames=(a_frame(),), **{link: linked}
        )
    return sample_report(failure=failure)


SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> \x1b[2J\x00 \u202e"


def planted(value: Any) -> Any:
    """Return a report with the script in every text of it."""
    if isinstance(value, str):
        return SCRIPT if value not in ("request", "escaped") else value
    if is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: planted(getattr(value, part.name)) for part in fields(value)}
        return type(value)(**parts)
    if isinstance(value, (tuple, list)):
        return type(value)(planted(part) for part in value)
    if isinstance(value, dict):
        # The keys of a description are its grammar; those of other mappings are names.
        plain = "type" in value
        return {key if plain else planted(key): planted(part) for key, part in value.items()}
    return value


any_text = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    [SCRIPT, "\ud800", "```\n", "a\nb", "𝒳" * 5, ""]
)
any_number = st.integers(-5, 200)
any_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | any_text,
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(any_text, children, max_size=3)
        | st.fixed_dictionaries(
            {"type": any_text},
            optional={
                "text": any_text | children,
                "size": any_number | children,
                "address": any_text,
                "items": st.lists(children, max_size=3) | children,
                "entries": st.lists(st.lists(children, min_size=2, max_size=2), max_size=2)
                | children,
                "attributes": st.dictionaries(any_text, children, max_size=2) | children,
            },
        )
    ),
    max_leaves=8,
)
any_names = st.dictionaries(any_text, any_json, max_size=2)
any_frame = st.builds(
    Frame,
    file=any_text | st.just("/a.py"),
    function=any_text,
    module=any_text,
    line=any_number,
    columns=st.none() | st.tuples(any_number, any_number, any_number, any_number),
    source=st.lists(st.tuples(any_number, any_text), max_size=3).map(tuple),
    locals=any_names,
    in_app=st.booleans(),
    repeated=any_number,
)


def _failures(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[Failure]:
    return st.builds(
        Failure,
        type=any_text,
        module=any_text,
        message=any_text,
        notes=st.lists(any_text, max_size=2).map(tuple),
        frames=st.lists(any_frame, max_size=3).map(tuple),
        **more,
    )


any_failure = st.recursive(
    _failures(),
    lambda inner: _failures(
        cause=st.none() | inner,
        context=st.none() | inner,
        suppressed=st.none() | inner,
        members=st.lists(inner, max_size=2).map(tuple),
    ),
    max_leaves=3,
)
any_pairs = st.lists(st.tuples(any_text, any_text), max_size=2).map(tuple)
any_report: st.SearchStrategy[Any] = st.builds(
    Report,
    error_id=any_text,
    failure=any_failure,
    count=any_number,
    timestamp=st.floats(),
    phase=st.sampled_from(["request", "websocket_handshake"]),
    handled=st.booleans(),
    status=st.none() | any_number,
    duration=st.none() | st.floats(),
    request=st.none()
    | st.builds(
        RequestInfo,
        method=any_text,
        path=any_text,
        query=any_pairs,
        headers=any_pairs,
        cookies=any_pairs,
        body=st.none() | any_text,
        client=st.none() | any_text,
        route=st.none() | any_text,
    ),
    queries=st.lists(
        st.builds(Query, sql=any_text, params=any_json, duration=st.none() | st.floats()),
        max_size=2,
    ).map(tuple),
    crumbs=st.lists(
        st.builds(
            Crumb, message=any_text, logger=any_text, timestamp=st.floats(), fields=any_names
        ),
        max_size=2,
    ).map(tuple),
    versions=st.dictionaries(any_text, any_text, max_size=2),
)
