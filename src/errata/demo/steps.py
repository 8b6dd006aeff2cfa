"""The steps of `errata demo --once`: what is sent, what must come of it, and who judges that.

A new capability adds rows to `STEPS`; a new kind of expectation a field of `Expect` and a
line in one of the checks at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final

from errata.report import Failure, Phase, SafeReport


JSON: Final = "application/json"
HTML: Final = "text/html"

STORM: Final = 200
"""Equal errors in a row: ten times what is captured whole."""

STORM_REPORTS: Final = 100
"""Reports that may stand for them: 65 are to be expected, and 100 come once in 10 million."""


@dataclass(frozen=True, slots=True)
class Expect:
    """What must come of a step."""

    status: int
    """101 for a websocket that is accepted."""
    media_type: str = JSON
    _: KW_ONLY
    body: bytes | None = None
    """To the byte; None: anything."""
    shows: tuple[str, ...] = ()
    """What the body contains."""
    headers: tuple[tuple[str, str], ...] = ()
    broken: bool = False
    """The connection ends within the body."""
    close_code: int | None = None
    claimed: bool = False
    """A handler answers for an exception: the answer has an error id."""
    reported: str = ""
    """The type of the exception that is reported, for each request once; empty: nothing is."""
    phase: Phase = "request"
    at_most: int = 1
    """Reports that may stand for all that is reported."""
    discloses: bool = False
    """The answer may tell what went wrong."""

    @property
    def has_error_id(self) -> bool:
        """Whether the answer was still to be written when the error came."""
        in_time = self.phase in {"request", "websocket_handshake"}
        return self.claimed or (in_time and bool(self.reported))


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is sent to the demo, once or several times."""

    title: str
    request: str
    """Method and path; the method `WS` opens a websocket."""
    expect: Expect
    _: KW_ONLY
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    json: Mapping[str, Any] | None = None
    times: int = 1
    debug: bool = False
    """Whether it goes to the server in debug mode."""

    @property
    def method(self) -> str:
        """`WS`, or an HTTP method."""
        return self.request.partition(" ")[0]

    @property
    def path(self) -> str:
        """What is asked for."""
        return self.request.partition(" ")[2]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client got."""

    status: int
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes
    _: KW_ONLY
    broken: bool = False
    close_code: int | None = None
    close_reason: str = ""

    @property
    def media_type(self) -> str:
        """The content type without parameters."""
        return self.headers.get("content-type", "").split(";")[0]

    @property
    def error_id(self) -> str:
        """The value of `X-Error-ID`."""
        return self.headers.get("x-error-id", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What came of a step."""

    step: Step
    answers: Sequence[Answer]
    reports: Sequence[SafeReport]
    log: Sequence[Mapping[str, Any]]
    """errata's log lines."""

    @property
    def occurrences(self) -> int:
        """How many errors the reports stand for."""
        return sum(report.count for report in self.reports)


_BROWSER: Final = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
_LOGIN: Final = {"name": "ada", "password": "open-sesame"}

STEPS: Final = (
    Step("a page that works", "GET /products", Expect(200)),
    Step(
        "the app's own 404",
        "GET /products/9",
        Expect(404, body=b'{"message":"no such product","id":9}'),
    ),
    Step(
        "the app's own 503",
        "GET /stock",
        Expect(503, body=b'{"message":"the warehouse is closed","opens":"09:00"}'),
    ),
    Step(
        "the framework's 404",
        "GET /nowhere",
        Expect(404, body=b'{"detail":"Not Found"}'),
    ),
    Step(
        "the framework's 422",
        "POST /purchases",
        Expect(422, shows=("greater_than_equal",)),
        json={"product": 1, "quantity": 0},
    ),
    Step(
        "an HTTPException(503)",
        "GET /maintenance",
        Expect(503, headers=(("retry-after", "120"), ("cache-control", "no-store"))),
    ),
    Step(
        "a handler for a type",
        "POST /purchases/1/pay",
        Expect(402, shows=("card_declined",), claimed=True),
    ),
    Step(
        "a handler for a status",
        "GET /products/discontinued",
        Expect(410, shows=("discontinued",), claimed=True),
    ),
    Step(
        "a handler for all of a group",
        "POST /purchases/1/split",
        Expect(402, shows=("card_declined",), claimed=True),
    ),
    Step(
        "a handler that fails",
        "POST /purchases/1/refund",
        Expect(500, reported="AttributeError"),
    ),
    Step("a bug with a cause", "GET /cart", Expect(500, reported="ValueError")),
    Step(
        "the same in a browser",
        "GET /cart",
        Expect(500, HTML, reported="ValueError"),
        headers=_BROWSER,
    ),
    Step("a bug after a slow query", "GET /sales", Expect(500, reported="ZeroDivisionError")),
    Step("a bug beside a password", "POST /login", Expect(500, reported="ValueError"), form=_LOGIN),
    Step("a group nobody claims", "GET /availability", Expect(500, reported="ExceptionGroup")),
    Step(
        "a broken export",
        "GET /export",
        Expect(200, "text/csv", broken=True, reported="TypeError", phase="streaming"),
    ),
    Step(
        "a failed background task",
        "POST /newsletter",
        Expect(202, reported="ConnectionRefusedError", phase="background"),
    ),
    Step(
        "a websocket before accept",
        "WS /ws/support",
        Expect(500, reported="KeyError", phase="websocket_handshake"),
    ),
    Step(
        "a websocket after accept",
        "WS /ws/prices",
        Expect(101, "", close_code=1011, reported="ZeroDivisionError", phase="websocket"),
    ),
    Step(
        "a storm",
        "GET /cart",
        Expect(500, reported="ValueError", at_most=STORM_REPORTS),
        times=STORM,
    ),
    Step(
        "the debug page",
        "GET /cart",
        Expect(
            500,
            HTML,
            shows=("no exchange rate for CHF", "KeyError", "SELECT * FROM product"),
            reported="ValueError",
            discloses=True,
        ),
        headers=_BROWSER,
        debug=True,
    ),
    Step(
        "the same as text",
        "GET /cart",
        Expect(
            500,
            "text/plain",
            shows=("no exchange rate for CHF", "KeyError", "cart loaded"),
            reported="ValueError",
            discloses=True,
        ),
        headers={"accept": "text/plain"},
        debug=True,
    ),
    Step(
        "no page through a proxy",
        "GET /cart",
        Expect(500, HTML, reported="ValueError"),
        headers=_BROWSER | {"x-forwarded-for": "203.0.113.7"},
        debug=True,
    ),
    Step(
        "no page for a foreign host",
        "GET /cart",
        Expect(500, HTML, reported="ValueError"),
        headers=_BROWSER | {"host": "shop.example"},
        debug=True,
    ),
    Step(
        "the routes there are",
        "GET /cat",
        Expect(404, HTML, shows=("/cart", "/products/{product_id}")),
        headers=_BROWSER,
        debug=True,
    ),
)


# ── the checks ────────────────────────────────────────────────────────────────────────────


def complaints(evidence: Evidence) -> list[str]:
    """Return what is not as the step expects it; nothing, if all is well."""
    found = [
        *(complaint for answer in evidence.answers for complaint in _of_answer(answer, evidence)),
        *_of_reports(evidence),
        *_of_log(evidence),
        *_of_ids(evidence),
    ]
    # In a storm many answers give cause for the same complaint.
    return list(dict.fromkeys(found))


def _of_answer(answer: Answer, evidence: Evidence) -> Iterator[str]:
    expect = evidence.step.expect
    for what, got, wanted in (
        ("status", answer.status, expect.status),
        ("content type", answer.media_type, expect.media_type),
        ("broken body", answer.broken, expect.broken),
        ("close code", answer.close_code, expect.close_code),
        ("error id", bool(answer.error_id), expect.has_error_id),
        *((name, answer.headers.get(name), value) for name, value in expect.headers),
    ):
        if got != wanted:
            yield f"{what}: {got}, not {wanted}"
    if expect.body is not None and answer.body != expect.body:
        yield f"body: {answer.body[:80]!r}, not {expect.body!r}"
    text = answer.body.decode("utf-8", "replace")
    yield from (f"the body does not show {word!r}" for word in expect.shows if word not in text)
    if not expect.discloses:
        told = f"{text} {dict(answer.headers)} {answer.close_reason}"
        words = {word for report in evidence.reports for word in _words(report.failure)}
        yield from (f"the answer discloses {word!r}" for word in sorted(words) if word in told)


def _words(failure: Failure) -> Iterator[str]:
    """Yield what would tell of an exception: types and messages of all that is in it."""
    yield failure.type
    if failure.message:
        yield failure.message
    relatives = (failure.cause, failure.context, failure.suppressed, *failure.members)
    for relative in relatives:
        if relative is not None:
            yield from _words(relative)


def _of_reports(evidence: Evidence) -> Iterator[str]:
    expect, reports = evidence.step.expect, evidence.reports
    wanted = evidence.step.times if expect.reported else 0
    if evidence.occurrences != wanted:
        yield f"{evidence.occurrences} errors reported, not {wanted}"
    if len(reports) > expect.at_most:
        yield f"{len(reports)} reports, more than {expect.at_most}"
    for report in reports:
        if (report.failure.type, report.phase) != (expect.reported, expect.phase):
            yield f"{report.failure.type} in {report.phase} reported"
        if _leaks_password(report, evidence.step):
            yield "the report holds the password"


def _leaks_password(report: SafeReport, step: Step) -> bool:
    password = (step.form or {}).get("password")
    return password is not None and password in str(report.to_dict())


def _of_log(evidence: Evidence) -> Iterator[str]:
    wanted = evidence.step.times if evidence.step.expect.reported else 0
    if len(evidence.log) != wanted:
        yield f"{len(evidence.log)} log lines, not {wanted}"


def _of_ids(evidence: Evidence) -> Iterator[str]:
    """One error has one id: in the header, the body, the log, the report, a close's reason."""
    expect = evidence.step.expect
    logged = {line.get("error_id") for line in evidence.log}
    if not expect.reported:
        return
    if {report.error_id for report in evidence.reports} - logged:
        yield "a report whose id is in no log line"
    for answer in evidence.answers:
        if expect.has_error_id and answer.error_id not in logged:
            yield "an answer whose id is in no log line"
        if expect.has_error_id and answer.error_id.encode() not in answer.body:
            yield "an answer whose body does not tell the id of its header"
        if answer.close_code is not None and answer.close_reason[-32:] not in logged:
            yield "a close whose reason does not tell the id"
