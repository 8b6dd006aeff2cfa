"""What exceptions tell of themselves, and the mark of one that is reported."""

from __future__ import annotations

import logging
import pickle

import falcon
import pytest
from blacksheep.exceptions import HTTPException as BlackSheepException
from django.http import Http404  # type: ignore[import-untyped]
from fastapi import HTTPException as FastAPIException
from litestar.exceptions import NotFoundException
from sanic.exceptions import NotFound as SanicNotFound
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect
from werkzeug.exceptions import NotFound

from errata.exceptions import (
    MAX_LEAVES,
    consume_log_mark,
    http_status,
    is_disconnect,
    leaves,
    mark,
    meet,
    only_leaf,
    raised_in,
)
from errata.logging import ServerLogFilter


@pytest.mark.parametrize(
    "exc",
    [
        HTTPException(404),
        FastAPIException(404),
        NotFoundException(),
        NotFound(),
        falcon.HTTPNotFound(),
        BlackSheepException(404),
        SanicNotFound("x"),
        Http404("x"),
    ],
    ids=lambda exc: type(exc).__module__,
)
def test_http_exceptions_of_every_framework_tell_their_status(exc):
    """Each framework's own HTTP exception carries its status."""
    status = http_status(exc)
    assert status is not None
    assert status.status == 404


class Upstream(Exception):
    code = status_code = status = 404


class Hostile(HTTPException):
    @property
    def status_code(self):
        raise RuntimeError

    @status_code.setter
    def status_code(self, value):
        pass


@pytest.mark.parametrize("exc", [Upstream(), ValueError(), HTTPException(200), Hostile(404)])
def test_nothing_else_has_a_status(exc):
    """Another exception's `code` is its own affair; a status below 400 is no error."""
    assert http_status(exc) is None


def test_disconnects_are_told_by_their_class():
    """Only exceptions that say that the client has gone; a group only if all do."""
    assert is_disconnect(ClientDisconnect())
    assert is_disconnect(WebSocketDisconnect())
    assert is_disconnect(ExceptionGroup("g", [ClientDisconnect(), WebSocketDisconnect()]))
    assert not is_disconnect(ExceptionGroup("g", [ClientDisconnect(), ValueError()]))
    assert not is_disconnect(ConnectionResetError())


def test_leaves_are_walked_without_recursion_and_bounded():
    """Deep and wide groups are no danger."""
    deep: Exception = ValueError("deep")
    for _ in range(5_000):
        deep = ExceptionGroup("g", [deep])
    leaf = only_leaf(deep)
    assert leaf is not None
    assert leaf.args == ("deep",)
    assert [leaf.args for leaf in leaves(deep)] == [("deep",)]
    wide = ExceptionGroup("g", [ValueError(number) for number in range(5_000)])
    assert len(list(leaves(wide))) == MAX_LEAVES
    assert only_leaf(wide) is None


def test_mark_counts_once_for_each_middleware():
    """An outer middleware meets the inner one's mark once; the inner one's own means anew."""
    inner, outer, error = object(), object(), ValueError()
    assert meet(error, by=inner) is None
    mark(error, "id", by=inner, logged=True)
    assert meet(error, by=inner) is None
    assert meet(error, by=outer) == "id"
    assert meet(error, by=outer) is None


def test_group_is_known_when_all_its_leaves_are():
    """A task group around a reported error is that error; one new leaf makes it new."""
    inner, outer, known, new = object(), object(), ValueError(), KeyError()
    mark(known, "id", by=inner, logged=True)
    assert meet(ExceptionGroup("g", [known, new]), by=outer) is None
    assert meet(ExceptionGroup("g", [known]), by=outer) == "id"


class Locked(Exception):
    __slots__ = ()

    def __setattr__(self, name, value):
        raise AttributeError(name)

    def __getattribute__(self, name):
        raise AttributeError(name)


def test_hostile_exception_can_be_marked():
    """Neither `__setattr__` nor `__getattribute__` of the user's runs."""
    error, inner, outer = Locked(), object(), object()
    mark(error, "id", by=inner, logged=True)
    assert meet(error, by=outer) == "id"


def test_marked_exception_can_be_pickled():
    """A mark does not keep an exception from travelling between processes."""
    error = ValueError("x")
    mark(error, "id", by=object(), logged=True)
    assert pickle.loads(pickle.dumps(error)).args == ("x",)


def record_of(exc):
    info = (type(exc), exc, None) if exc is not None else None
    return logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "x", (), info)


def test_server_filter_drops_each_logged_error_once():
    """One record for each time that errata logged it; everything else passes."""
    log_filter, error = ServerLogFilter(), ValueError()
    assert log_filter.filter(record_of(error))
    mark(error, "id", by=object(), logged=True)
    assert not log_filter.filter(record_of(error))
    assert log_filter.filter(record_of(error))
    assert log_filter.filter(record_of(None))
    mark(error, "id", by=object(), logged=False)
    assert log_filter.filter(record_of(error))
    assert consume_log_mark(error) is False


def test_raised_in_finds_the_function_on_the_way():
    """An exception that passed through a function's frame is told from another."""

    def inner():
        raise ValueError

    def other():
        pass

    try:
        inner()
    except ValueError as exc:
        assert raised_in(exc, inner)
        assert not raised_in(exc, other)
        assert not raised_in(exc, len)
