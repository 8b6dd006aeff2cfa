"""Reports as text, markdown and JSON."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from hypothesis import given

from errata.documents import debug_json, markdown_report
from errata.report import Query, RequestInfo, SafeReport
from tests.reports import a_frame, any_text, chained, report_of, sample_report


@given(any_text)
def test_nothing_breaks_out_of_a_fence(text: str) -> None:
    """No text ends the code that it stands in: fences open and close in turn."""
    frame = a_frame(source=((107, text),), locals={text: text}, function=text)
    request = RequestInfo(method=text, path=text, body=text, headers=((text, text),))
    document = markdown_report(SafeReport(replace(report_of(frame, message=text), request=request)))
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
    report = sample_report()
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


def test_numbers_that_json_does_not_have_are_texts() -> None:
    """A duration that is no number must not cost the answer."""
    query = Query(sql="SELECT 1", duration=math.nan, timestamp=math.inf)
    problem = debug_json(sample_report(queries=(query,)))
    assert problem["queries"][0]["duration"] == "nan"
    assert problem["queries"][0]["timestamp"] == "inf"


def test_json_of_an_endless_chain_has_the_essentials() -> None:
    """What cannot be written as JSON is left out, and the answer remains."""
    problem = debug_json(chained(5000, "cause"))
    assert problem["detail"] == "m.E: 4999"
    assert "failure" not in problem
