"""Redaction by name: what is masked, what stays, and what is withheld when in doubt."""

from __future__ import annotations

import copy
import json
import time
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers, QueryParams

from errata.masking import MAX_DEPTH, MAX_ITEMS, WITHHELD
from errata.redaction import (
    MASK,
    MAX_BODY,
    Redactor,
    deep_filter_sensitive,
    filter_sensitive,
)
from errata.report import Crumb, Failure, Frame, Query, Report, RequestInfo
from errata.rules import MAX_NAME, MAX_VERDICTS, SENSITIVE_FIELDS, Verdicts


SECRET = "hunter2"
Login = namedtuple("Login", ["user", "password"])  # noqa: PYI024 - the plain kind is the test

SENSITIVE = """
    password token secret api_key authorization credit_card ssn session_id csrf_token
    userPassword2 X-API-Key user[password] csrfmiddlewaretoken aws_secret_access_key set-cookie
    connect.sid APIKey apikey Api.Key X_CSRFToken HTTP_AUTHORIZATION HTTP_COOKIE x-xsrf-token
    Proxy-Authorization dbpassword DB_PASSWORD new_password1 passwordConfirm client_secret
    refreshToken id_token sessionid PHPSESSID JSESSIONID session sid otp pin cvv CVV2 cvc
    card_number cardNumber private_key privateKey jwt bearer signature x-hub-signature-256 dsn
    DATABASE_URL accessToken AccessKeyId SecretAccessKey AccountKey FERNET_KEY code_verifier
    recovery_codes iban auth X-Auth db_pass SMTP_PASS credentials x-credential 2fa 2fa_code
    access-token reset_token_url secret_key_base password_digest user[credit_card][number]
    data.attributes.password $token _csrf __Host-session Contraseña CONTRASEÑA ｐａｓｓｗｏｒｄ
    passwd pwd passphrase api_keys accesskey x-amz-security-token oauth_token tokens SSN2
    api-token-prod sessionToken login[pwd] hashed_password encryptedPassword authToken пароль
    password_confirmation b'authorization'
"""

HARMLESS = """
    author keyboard monkey max_tokens token_count primary_key password_policy secretary passage
    authority passenger bypass compass tokenizer session_count sessions session_timeout discard
    session_started password_changed_at is_authenticated ssn_required private_message
    currency_code cache_key next_page_key token_ttl_seconds credentials_count session_length_s
    passed passing_score prompt_tokens completion_tokens total_tokens signature_version sort_key
    foreign_key public_key key keys id user_id name email path host next_page_token token_type
    has_password csrf_exempt pin_board pinned spinning authenticated design sidebar inside
    residence cookie_name session_factory user_agent accept content-type www-authenticate etag
    x-request-id idempotency_key partition_key pass_rate passport cardinality card discount
    account_id maxTokens tokenCount PasswordPolicy pinecone bearing scope request response app
    sec-websocket-key jwt_algorithm token_url
"""


# Names.


@pytest.mark.parametrize(
    "name",
    SENSITIVE.split(),
)
def test_sensitive_names_hit_in_any_spelling(name: str) -> None:
    """A name with a sensitive word in it is masked, however its words are joined."""
    assert Redactor().redact({name: SECRET}) == {name: MASK}


@pytest.mark.parametrize(
    "name",
    HARMLESS.split(),
)
def test_harmless_names_stay(name: str) -> None:
    """A part of a word, a count, a policy or a date is no secret."""
    value = {name: "plain"}
    assert Redactor().redact(value) is value


def test_every_default_field_is_sensitive_itself() -> None:
    """No rule excuses a name that stands on the list."""
    verdicts = Verdicts(SENSITIVE_FIELDS)
    assert [name for name in SENSITIVE_FIELDS if not verdicts[name]] == []
    assert {
        *("password", "token", "secret", "api_key", "authorization"),
        *("credit_card", "ssn", "session_id", "csrf_token"),
    } <= SENSITIVE_FIELDS


def test_fields_of_ones_own_replace_the_default() -> None:
    """`fields` names what is masked, in any spelling, by words."""
    redactor = Redactor(fields={"customer_ref"})
    value = {"customerRef": 1, "old-customer-ref-2": 2, "customer": 3, "password": 4}
    assert redactor.redact(value) == {
        "customerRef": MASK,
        "old-customer-ref-2": MASK,
        "customer": 3,
        "password": 4,
    }


def test_allowed_names_are_shown() -> None:
    """`allow` excuses the whole name in any spelling, and nothing longer."""
    redactor = Redactor(allow=["session"])
    value = {"SESSION": 1, "session_id": 2}
    assert redactor.redact(value) == {"SESSION": 1, "session_id": MASK}


def test_mask_is_configurable() -> None:
    """`mask` stands wherever a secret stood, in bytes too."""
    redactor = Redactor(mask="[gone]")
    assert redactor.redact({"pin": 1}) == {"pin": "[gone]"}
    assert redactor.headers([(b"x-token", b"1")]) == [(b"x-token", b"[gone]")]


@pytest.mark.parametrize(
    "options",
    [
        {"fields": "password"},
        {"fields": [b"pin"]},
        {"allow": "token"},
        {"fields": [1]},
        {"mask": 1},
    ],
)
def test_wrong_options_are_refused(options: Any) -> None:
    """A string instead of a collection, or no text, fails at construction and says what to do."""
    with pytest.raises(TypeError, match="give"):
        Redactor(**options)


def test_a_name_longer_than_any_field_is_masked() -> None:
    """What cannot be judged quickly counts as sensitive."""
    name = "x" * (MAX_NAME + 1)
    assert Redactor().redact({name: 1}) == {name: MASK}
    assert Redactor().redact({name.encode(): 1}) == {name.encode(): MASK}


def test_remembered_names_are_bounded() -> None:
    """Names that callers make up do not fill the memory, and the verdicts stay right."""
    verdicts = Verdicts(SENSITIVE_FIELDS)
    for number in range(2 * MAX_VERDICTS):
        assert not verdicts[f"field{'x' * (number % 50)}{number}"]
        assert len(verdicts) <= MAX_VERDICTS
    assert verdicts["password"]


def test_no_object_of_the_user_is_remembered() -> None:
    """Only plain text and bytes are kept: a subclass may hold anything."""

    class Name(str):
        __slots__ = ()

    verdicts = Verdicts(SENSITIVE_FIELDS)
    assert verdicts[Name("password")]
    assert not verdicts[("password",)]
    assert not verdicts[7]
    assert len(verdicts) == 0


# Values.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"password": SECRET}, {"password": MASK}),
        ({b"password": SECRET}, {b"password": MASK}),
        ({"password": {"deep": [SECRET]}}, {"password": MASK}),
        ({"token": None, "pin": 0}, {"token": MASK, "pin": MASK}),
        ([{"a": {"token": SECRET}}], [{"a": {"token": MASK}}]),
        (({"token": SECRET},), ({"token": MASK},)),
        ({"a": ({"token": SECRET}, 1)}, {"a": ({"token": MASK}, 1)}),
        (("token", SECRET), ("token", MASK)),
        ([("token", SECRET), ("page", 2)], [("token", MASK), ("page", 2)]),
        ([["token", SECRET], ["page", 2]], [["token", MASK], ["page", 2]]),
        ([(b"authorization", SECRET.encode())], [(b"authorization", MASK.encode())]),
        ({("token", SECRET), 1}, {("token", MASK), 1}),
        (frozenset({("token", SECRET)}), frozenset({("token", MASK)})),
        (Login("ana", SECRET), Login("ana", MASK)),
        (OrderedDict(a=1, pin=SECRET), {"a": 1, "pin": MASK}),
        (defaultdict(str, pin=SECRET), {"pin": MASK}),
        (MappingProxyType({"pin": SECRET}), {"pin": MASK}),
        (Headers({"x-api-key": SECRET}), {"x-api-key": MASK}),
        (QueryParams("token=hunter2&page=2"), {"token": MASK, "page": "2"}),
    ],
)
def test_secrets_are_masked_in_every_container(value: Any, expected: Any) -> None:
    """Each way to put a name to a value hides the value, and nothing else."""
    result = Redactor().redact(value)
    assert result == expected
    assert SECRET not in repr(result)
    assert deep_filter_sensitive(value) == expected


def test_a_named_tuple_stays_one() -> None:
    """Code that reads the copy by name goes on to work."""
    result = Redactor().redact([Login("ana", SECRET)])[0]
    assert type(result) is Login
    assert result.password == MASK


def test_a_tuple_that_cannot_be_built_becomes_a_plain_one() -> None:
    """The interpreter's own tuples, which refuse to be made by hand, do not stop the redaction."""
    moment = time.struct_time([["token", SECRET], *range(8)])
    assert Redactor().redact(moment) == (["token", MASK], *range(8))

    class Odd(tuple[Any, ...]):
        __slots__ = ()

    result = Redactor().redact(Odd([{"pin": 1}]))
    assert result == ({"pin": MASK},)


@pytest.mark.parametrize(
    "value",
    [
        ["password", "user"],
        ("user", "password"),
        "password=hunter2",
        b"password",
        object(),
        {"items": ["token", "x", "y"]},
        {1: 2, None: 3, ("password",): 4},
    ],
)
def test_what_stands_under_no_sensitive_name_stays(value: Any) -> None:
    """A list of names, text and other objects come back themselves."""
    assert Redactor().redact(value) is value


def test_cycles_are_cut() -> None:
    """A structure inside itself is withheld there, and the rest is looked at."""
    cycle: dict[str, Any] = {"pin": SECRET}
    cycle["self"] = [cycle]
    assert Redactor().redact(cycle) == {"pin": MASK, "self": [WITHHELD]}


def test_a_value_that_is_shared_is_no_cycle() -> None:
    """The same object twice, side by side, is shown twice."""
    shared = {"a": 1}
    value = [shared, shared]
    assert Redactor().redact(value) is value


@pytest.mark.parametrize("kind", [list, dict])
def test_what_is_too_deep_is_withheld(kind: type) -> None:
    """Beyond the depth nothing is shown, since nothing was judged."""
    value: Any = {"password": SECRET}
    for _ in range(MAX_DEPTH + 10):
        value = [value] if kind is list else {"a": value}
    text = repr(Redactor().redact(value))
    assert WITHHELD in text
    assert SECRET not in text


@pytest.mark.parametrize(
    "value",
    [
        {"a": [{"password": SECRET}] * (MAX_ITEMS + 1)},
        {"a": {number: {"password": SECRET} for number in range(MAX_ITEMS + 1)}},
        {"a": MappingProxyType(dict.fromkeys(range(MAX_ITEMS + 1), SECRET))},
    ],
    ids=["list", "dict", "mapping"],
)
def test_what_is_too_large_is_withheld(value: Any) -> None:
    """More elements than are looked at are not shown."""
    assert Redactor().redact(value) == {"a": WITHHELD}


def test_lists_that_share_lists_end() -> None:
    """A small structure that stands for billions of elements costs no more than the budget."""
    value: Any = [{"password": SECRET}] * 10
    for _ in range(30):
        value = [value] * 10
    assert SECRET not in repr(Redactor().redact(value))


class Hostile(Mapping[str, Any]):
    """A mapping that breaks where it is asked."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


def test_a_broken_mapping_is_withheld() -> None:
    """What raises while it is read is not shown, and does not raise further."""
    assert Redactor().redact(Hostile()) == WITHHELD
    assert Redactor().redact([Hostile()]) == WITHHELD
    assert Redactor().redact({"password": Hostile()}) == {"password": MASK}
    assert filter_sensitive(Hostile()) == {}


def test_an_endless_mapping_ends() -> None:
    """Only as many items as the budget has are asked for."""

    class Endless(dict[str, int]):
        def items(self) -> Any:
            return (("a", number) for number in iter(int, 1))

    assert Redactor().redact(Endless()) == WITHHELD


names = st.sampled_from(["a", "b", "user", "items", "password", "apiKey", "x-token", "size"])
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda children: (
        st.lists(children, max_size=4)
        | st.tuples(children, children)
        | st.dictionaries(names, children, max_size=4)
    ),
    max_leaves=20,
)


@given(trees)
def test_the_value_given_is_never_changed(value: Any) -> None:
    """Redaction works on copies."""
    before = copy.deepcopy(value)
    Redactor().redact(value)
    assert value == before


@given(trees)
def test_redaction_is_idempotent(value: Any) -> None:
    """What is redacted has no secret: it comes back itself."""
    once = Redactor().redact(value)
    assert Redactor().redact(once) is once


@given(trees)
def test_no_secret_survives_at_any_depth(value: Any) -> None:
    """After redaction every sensitive key of every dictionary has the mask for a value."""

    def check(node: Any) -> None:
        if isinstance(node, dict):
            for key, child in node.items():
                if key in ("password", "apiKey", "x-token"):
                    assert child == MASK
                check(child)
        elif isinstance(node, (list, tuple)):
            for child in node:
                check(child)

    check(Redactor().redact(value))


def test_the_flat_filter_copies_one_level() -> None:
    """`filter_sensitive` masks the keys of the mapping itself and no other."""
    nested = {"password": SECRET}
    value = {"token": SECRET, "nested": nested}
    result = filter_sensitive(value)
    assert result == {"token": "***", "nested": nested}
    assert result["nested"] is nested
    assert value["token"] == SECRET


# Headers.


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (("Authorization", "Bearer hunter2"), ("Authorization", "***")),
        (("x-api-key", SECRET), ("x-api-key", "***")),
        (("cookie", "sid=hunter2; theme=dark"), ("cookie", "sid=***; theme=***")),
        (("Cookie", SECRET), ("Cookie", "***")),
        (("cookie", "a=b=hunter2;"), ("cookie", "a=***;")),
        (
            ("set-cookie", "sid=hunter2; Path=/; Max-Age=9; HttpOnly; SameSite=Lax"),
            ("set-cookie", "sid=***; Path=/; Max-Age=9; HttpOnly; SameSite=Lax"),
        ),
        (("Set-Cookie", "path=hunter2; secure"), ("Set-Cookie", "path=***; secure")),
        (("set-cookie", "a=1; b=hunter2"), ("set-cookie", "a=***; b=***")),
        (("host", "auth.example.com"), ("host", "auth.example.com")),
    ],
)
def test_headers(header: tuple[str, str], expected: tuple[str, str]) -> None:
    """A sensitive header and every cookie is masked, as text and as ASGI's bytes."""
    raw, raw_expected = ((name.encode(), value.encode()) for name, value in (header, expected))
    assert list(Redactor().headers([header])) == [expected]
    assert list(Redactor().headers([raw])) == [raw_expected]


def test_clean_headers_are_the_same_object() -> None:
    """Nothing is copied where there is nothing to hide; a redacted cookie is clean too."""
    pairs = [("host", "a"), ("accept", "*/*"), ("cookie", "sid=***")]
    assert Redactor().headers(pairs) is pairs
    both = (("host", "a"), ("x-token", "b"))
    assert Redactor().headers(both)[0] is both[0]


@pytest.mark.parametrize(
    "pairs", [None, 7, [1], [("a",)], [(1, 2)], [("token", 5)], iter([("cookie", None)])]
)
def test_headers_of_a_wrong_shape_are_left_out(pairs: Any) -> None:
    """What is no pair of texts is neither shown nor a reason to raise."""
    assert not list(Redactor().headers(pairs))


# Bodies.


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b'{"a": 1.50}', "application/json", '{"a": 1.50}'),
        (b'{"pin": 1, "a": "\xc3\xbc"}', "application/json", '{"pin": "***", "a": "ü"}'),
        (b'[{"password": "x"}]', "application/json; charset=utf-8", '[{"password": "***"}]'),
        (b'{"token": 1}', "application/vnd.api+json", '{"token": "***"}'),
        (b'{"token": 1}', "text/plain;charset=UTF-8", '{"token": "***"}'),
        (b'{"token": "hunter2', "text/plain", "[withheld: 18 bytes]"),
        (b"{oops", "application/json", "[withheld: 5 bytes]"),
        (b'{"a": {"token": 1}, "a": 2}', "application/json", "[withheld: 27 bytes]"),
        (b'{"pin": 1, "a": "\\ud800"}', "application/json", '{"pin": "***", "a": "\\ud800"}'),
        (b"[" * 5000, "application/json", "[withheld: 5000 bytes]"),
        ('{"pin": 1}'.encode("utf-16"), "application/json", '{"pin": "***"}'),
        (
            b"user%5Bpassword%5D=hunter2&a=b%20c&token",
            "application/x-www-form-urlencoded",
            "user%5Bpassword%5D=***&a=b%20c&token",
        ),
        (b"hello \xff", "text/plain", "hello �"),
        (b"<password>hunter2</password>", "text/xml", "[withheld: 28 bytes]"),
        (b"--x\r\nhunter2", "multipart/form-data; boundary=x", "[withheld: 12 bytes]"),
        (b"\x89PNG", "image/png", "[withheld: 4 bytes]"),
        (b"hunter2", "", "[withheld: 7 bytes]"),
        (b"hunter2", None, "[withheld: 7 bytes]"),
        (b"", "application/json", ""),
        (b"x" * (MAX_BODY + 1), "text/plain", f"[withheld: {MAX_BODY + 1} bytes]"),
        (b"[withheld: 7 bytes]", "application/json", "[withheld: 7 bytes]"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bodies(body: bytes, content_type: str | None, expected: str) -> None:
    """JSON and forms are masked by field name, text stays, the rest is told by its size."""
    assert Redactor().body(body, content_type) == expected


@given(st.binary(max_size=50), st.sampled_from(["application/json", "text/plain", "x", ""]))
def test_a_shown_body_can_be_encoded(body: bytes, content_type: str) -> None:
    """Whatever comes in, text comes out that UTF-8 can carry; a second pass changes nothing."""
    shown = Redactor().body(body, content_type)
    shown.encode()
    if content_type != "text/plain":
        assert Redactor().body(shown.encode(), content_type) == shown


def test_a_body_that_is_none_is_withheld() -> None:
    """A wrong type does not raise."""
    assert Redactor().body(None, "text/plain") == WITHHELD  # type: ignore[arg-type]


# Reports.


def _bytes(text: str) -> dict[str, Any]:
    return {"type": "bytes", "size": len(text), "text": repr(text.encode())}


def _pair(name: Any, value: Any) -> dict[str, Any]:
    return {"type": "tuple", "size": 2, "items": [name, value]}


SCOPE: dict[str, Any] = {
    "type": "dict",
    "size": 2,
    "entries": [
        ["type", "http"],
        [
            "headers",
            {
                "type": "list",
                "size": 2,
                "items": [
                    _pair(_bytes("host"), _bytes("localhost")),
                    _pair(_bytes("authorization"), _bytes("Bearer hunter2")),
                ],
            },
        ],
    ],
}


@pytest.mark.parametrize(
    "description",
    [
        {"type": "dict", "entries": [["password", SECRET]]},
        {"type": "dict", "entries": [[_bytes("x-api-key"), _bytes(SECRET)]]},
        {"type": "dict", "entries": [["a", {"type": "dict", "entries": [["pin", SECRET]]}]]},
        {"type": "Settings", "address": "0x1", "attributes": {"api_key": SECRET, "a": 1}},
        {"type": "Login", "attributes": {"form": {"type": "X", "attributes": {"pwd": SECRET}}}},
        {"type": "list", "items": [{"type": "dict", "entries": [["token", SECRET]]}]},
        {"type": "list", "items": [{"type": "list", "items": ["token", SECRET]}]},
        {"type": "list", "items": [_pair("token", SECRET)]},
        _pair("token", SECRET),
        SCOPE,
        {"password": SECRET},
        {"a": [{"password": SECRET}]},
        {"entries": [{"password": SECRET}]},
        {"items": {"password": SECRET}},
        {"type": "card", "text": {"password": SECRET}},
        [["token", SECRET]],
        _bytes("page=2&token=hunter2"),
        _bytes("user%5Bpassword%5D=hunter2"),
        _bytes('{"user": "ana", "password": "hunter2'),
        _bytes("{'api_key': 'it is \"hunter2\"'}"),
        _bytes('--x\r\ncontent-disposition: form-data; name="password"\r\n\r\nhunter2'),
        _bytes("GET / HTTP/1.1\r\nauthorization: Bearer hunter2"),
        {"type": "bytearray", "size": 11, "text": repr(b"pin=hunter2")},
        {"type": "dict", "entries": [["password", {"type": "list", "items": [SECRET]}]]},
    ],
)
def test_secrets_in_variables_are_masked(description: Any) -> None:
    """Each shape of a description, and plain JSON, is masked by the names in it, at any depth."""
    before = copy.deepcopy(description)
    report = Redactor().report(_report(value=description))
    text = json.dumps(report.to_dict())
    assert SECRET not in text
    assert MASK in text
    assert description == before
    assert Redactor().report(report) is report


@pytest.mark.parametrize(
    "description",
    [
        {"type": "list", "size": 2, "items": ["token", "user"]},
        {"type": "dict", "size": 1, "entries": [["user", {"type": "X", "address": "0x1"}]]},
        {"type": "list", "items": [_pair("host", "token"), {"type": "list", "items": [1, 2]}]},
        {"a": [1, {"b": None}]},
        _bytes("page=2&q=password"),
        _bytes('{"user": "ana"}'),
        _bytes("password"),
        {"type": "app.Note", "text": "token: expired"},
        [],
        "password",
    ],
)
def test_clean_variables_stay(description: Any) -> None:
    """What has no sensitive name in it is not touched, nor is the report around it."""
    report = _report(value=description)
    assert Redactor().report(report) is report


def test_every_part_of_a_report_is_masked() -> None:
    """Variables, parameters, crumbs and the request: all along the chain and in all groups."""
    inner = _failure(password=SECRET)
    failure = replace(
        _failure(token=SECRET), cause=inner, context=inner, suppressed=inner, members=(inner,)
    )
    report = Report(
        error_id="e1",
        failure=failure,
        request=RequestInfo(
            method="POST",
            path="/",
            query=(("token", SECRET), ("page", "2")),
            headers=(("authorization", SECRET), ("content-type", "application/json")),
            cookies=(("theme", SECRET),),
            body='{"password": "hunter2"}',
        ),
        queries=(Query(sql="SELECT", params={"type": "dict", "entries": [["pin", SECRET]]}),),
        crumbs=(Crumb(message="login", fields={"api_key": SECRET}),),
    )
    safe = Redactor().report(report)
    assert SECRET not in repr(safe)
    assert safe.request is not None
    assert safe.request.query == (("token", MASK), ("page", "2"))
    assert safe.request.cookies == (("theme", MASK),)
    assert safe.request.body == '{"password": "***"}'
    assert isinstance(safe.failure.frames, tuple)
    assert Report.from_dict(json.loads(json.dumps(safe.to_dict()))) == safe


def test_parts_without_a_secret_are_the_same_objects() -> None:
    """Only what changes is built anew."""
    report = replace(
        _report(value=1),
        request=RequestInfo(method="GET", path="/", query=(("page", "2"),), body="x"),
        queries=(Query(sql="SELECT"),),
        crumbs=(Crumb(message="a", fields={"pin": 1}), Crumb(message="b")),
    )
    safe = Redactor().report(report)
    assert safe.failure is report.failure
    assert safe.queries is report.queries
    assert safe.crumbs[1] is report.crumbs[1]
    assert safe.crumbs[0].fields == {"pin": MASK}


def test_the_request_body_is_judged_by_its_content_type() -> None:
    """Without a content type nothing of a body can be told to be harmless."""
    request = RequestInfo(method="POST", path="/", body="password=hunter2")
    safe = Redactor().report(replace(_report(), request=request))
    assert safe.request is not None
    assert safe.request.body == "[withheld: 16 bytes]"


def test_a_report_that_cannot_be_examined_is_withheld() -> None:
    """If anything fails, type, ids and phase are all that is left."""
    failure = _failure(password=SECRET)
    for _ in range(5000):
        failure = replace(failure, cause=failure)
    report = Report(
        error_id="e1", failure=failure, fingerprint="f1", count=7, phase="streaming", status=500
    )
    safe = Redactor().report(report)
    assert (safe.error_id, safe.fingerprint, safe.count) == ("e1", "f1", 7)
    assert (safe.phase, safe.status) == ("streaming", 500)
    assert safe.failure == Failure(type="KeyError", module="builtins", message=WITHHELD)
    assert safe.request is None


def test_a_variable_that_is_too_deep_is_withheld() -> None:
    """Beyond the depth nothing is shown, and the rest of the report is."""
    deep: Any = {"password": SECRET}
    for _ in range(MAX_DEPTH + 5):
        deep = {"type": "list", "items": [deep]}
    safe = Redactor().report(_report(value=deep, plain=1))
    assert SECRET not in repr(safe)
    assert WITHHELD in repr(safe)
    assert safe.failure.frames[0].locals["plain"] == 1


def test_adversarial_bytes_take_no_time() -> None:
    """The search for names in bytes is linear."""
    for unit in ("a", 'name="', "a.", "%", "[", "a ", 'a"', "\\", "a=", "é"):
        description = {"type": "bytes", "text": "b'" + unit * 20_000}
        begin = time.perf_counter()
        Redactor().report(_report(value=description))
        assert time.perf_counter() - begin < 1, unit


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "size", "items", "entries", "attributes", "a", "pin"]),
            children,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(json_values)
def test_any_json_can_stand_for_a_variable(value: Any) -> None:
    """Malformed descriptions neither raise nor withhold the report, nor show a secret."""
    secret = {"type": "list", "items": [value, {"pin": SECRET}]}
    safe = Redactor().report(_report(value=secret))
    assert SECRET not in repr(safe)
    assert safe.failure.message == "'x'"


def _failure(**variables: Any) -> Failure:
    frame = Frame(file="/app/a.py", function="f", module="a", line=1, locals=variables)
    return Failure(type="KeyError", module="builtins", message="'x'", frames=(frame,))


def _report(**variables: Any) -> Report:
    return Report(error_id="e1", failure=_failure(**variables))
