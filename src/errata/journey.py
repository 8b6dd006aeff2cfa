"""One error's journey: seen, answered by who is responsible, reported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Scope

from errata.answers import Answers
from errata.capture import new_error_id
from errata.client import TrustedProxies
from errata.exceptions import http_status, mark, only_leaf
from errata.handlers import Claim, call
from errata.reply import Reply
from errata.report import Mechanism, Phase, SafeReport
from errata.reporter import Reporter, Sighting
from errata.request import BodyReplay, ErrorRequest
from errata.witness import current_cell


class Scene(Protocol):
    """Where an error happened."""

    scope: Scope

    @property
    def phase(self) -> Phase: ...

    @property
    def duration(self) -> float: ...

    @property
    def body(self) -> bytes: ...

    @property
    def body_size(self) -> int: ...

    @property
    def app_status(self) -> int:
        """The status of the app's own answer; 0 before its start, or where there is none."""
        ...


class Aside:
    """A task that runs beside its request, perhaps for longer: nobody waits for its answer."""

    phase: Phase = "background"
    duration = 0.0
    body = b""
    body_size = 0
    app_status = 0

    def __init__(self, scope: Scope) -> None:
        self.scope = scope


class Channel(Scene, Protocol):
    """The conversation in which an error happened, and through which it is answered."""

    async def receive(self) -> Message: ...

    @property
    def has_own_answer(self) -> bool:
        """Whether the app's own answer is held back, complete and not a default."""
        ...

    async def release(self, extra_headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send the app's own answer, with *extra_headers*."""

    def replay(self) -> BodyReplay: ...

    def reply(self, error_id: str | None) -> Reply: ...

    async def replied(self, reply: Reply) -> None: ...


class Journey:
    """Takes an error that can still be answered from sight to report."""

    def __init__(
        self,
        *,
        owner: object,
        answers: Answers,
        reporter: Reporter,
        trusted_proxies: Iterable[str] | TrustedProxies,
        raise_unhandled: bool,
        report_handled: bool,
    ) -> None:
        self._owner = owner
        self._answers = answers
        self._reporter = reporter
        self._trusted_proxies = trusted_proxies
        self._raise_unhandled = raise_unhandled
        self._report_handled = report_handled

    async def answer(
        self,
        channel: Channel,
        exc: Exception,
        claims: Sequence[Claim],
        mechanism: Mechanism | None = None,
        *,
        is_error: bool = True,
    ) -> bool:
        """Answer *exc* and report it; return True if it must go out again.

        Unless it *is_error*, what handlers answer to it is not reported.

        The order of the answers: the handlers that claim it; its own status and detail, if
        it is an HTTP exception below 500; the debug page; the app's own answer; the generic.
        """
        sighting = sight(channel, exc, mechanism=mechanism)
        if claims:
            return await self._answer_by_handlers(channel, sighting, claims, is_error=is_error)
        http = http_status(only_leaf(exc) or exc)
        if http is not None and http.status < 500:
            mark(exc, sighting.error_id, by=self._owner, logged=False)
            response = self._answers.generic(
                channel.scope, http.status, detail=http.detail, headers=http.headers
            )
            await self.send(channel, response, sighting.error_id)
        elif channel.has_own_answer and self._answers.refusal(channel.scope) is not None:
            report = self._capture(sighting)
            await channel.release([(b"x-error-id", sighting.error_id.encode())])
            await self._deliver(sighting, report)
        elif http is not None:
            await self._answer_by_status(channel, sighting, http.status, http.headers)
        else:
            await self._answer_by_status(channel, sighting, 500)
        return self._raise_unhandled

    async def _answer_by_status(
        self, channel: Channel, sighting: Sighting, status: int, headers: Any = None
    ) -> None:
        """Show the debug page to who may see it, the generic answer to everybody else."""
        sighting.status = status
        refusal = self._answers.refusal(channel.scope)
        report = self._capture(sighting, always=refusal is None)
        try:
            if refusal is None and report is not None:
                response = await self._answers.debug(channel.scope, report)
            else:
                response = self._answers.generic(
                    channel.scope, status, error_id=sighting.error_id, headers=headers
                )
            await self.send(channel, response, sighting.error_id)
        finally:
            withheld = {"debug_withheld": refusal} if refusal else {}
            await self._deliver(sighting, report, **withheld)

    def _capture(self, sighting: Sighting, *, always: bool = False) -> SafeReport | None:
        """Return the report; None for an error that is seen again, unless one is needed."""
        whole = self._reporter.admit(sighting)
        return self._reporter.capture(sighting) if whole or always else None

    async def _deliver(
        self, sighting: Sighting, report: SafeReport | None, **log_fields: Any
    ) -> None:
        if report is None:
            self._reporter.count(sighting, **log_fields)
        else:
            await self._reporter.deliver(sighting, report, **log_fields)

    async def report(self, sighting: Sighting) -> None:
        """Report an error that can no longer be answered."""
        await self._deliver(sighting, self._capture(sighting))

    async def send(self, channel: Channel, response: ASGIApp, error_id: str | None = None) -> None:
        """Send *response* in the place of the app's; a client that has gone is no error."""
        reply = channel.reply(error_id)
        try:
            await reply.run(response, channel.scope, channel.receive)
        except Exception:
            if not reply.broken:
                raise
        finally:
            await channel.replied(reply)

    # ── handlers ────────────────────────────────────────────────────────────────────

    async def _answer_by_handlers(
        self, channel: Channel, sighting: Sighting, claims: Sequence[Claim], *, is_error: bool
    ) -> bool:
        failure, reply = await self._ask_handlers(channel, sighting, claims)
        sighting.status = reply.status or None
        if failure is None:
            sighting.handled = True
            if is_error and (reply.status >= 500 or self._report_handled):
                await self.report(sighting)
            return False
        _put_in_context(failure, sighting.exc)
        self._reporter.mark(sighting.exc, sighting.error_id)
        sighting.exc, sighting.traceback = failure, failure.__traceback__
        if not reply.started:
            await self._answer_by_status(channel, sighting, 500)
            return False
        # A part of the answer is out already: only an abort tells the client so.
        sighting.phase = channel.phase
        await self.report(sighting)
        return not reply.complete

    async def _ask_handlers(
        self, channel: Channel, sighting: Sighting, claims: Sequence[Claim]
    ) -> tuple[Exception | None, Reply]:
        """Let the handlers answer; return what they failed with and how far they came."""
        reply = channel.reply(sighting.error_id)
        failure = None
        try:
            await self._run_handlers(channel, sighting, claims, reply)
        except Exception as exc:
            # The server refuses an answer to a client that has gone: no fault of the handler.
            failure = None if reply.broken else exc
        finally:
            await channel.replied(reply)
        return failure, reply

    async def _run_handlers(
        self, channel: Channel, sighting: Sighting, claims: Sequence[Claim], reply: Reply
    ) -> None:
        scope = channel.scope
        if scope["type"] != "http":
            scope = {**scope, "type": "http", "method": "GET"}
        request = ErrorRequest(
            scope,
            channel.replay(),
            error_id=sighting.error_id,
            trusted_proxies=self._trusted_proxies,
        )
        answers = [await call(claim, request) for claim in claims]
        # The highest status answers; a response that does not tell it counts as an error.
        answer = max(answers, key=lambda answer: getattr(answer, "status_code", 500))
        await reply.run(answer, scope, channel.receive)


def sight(scene: Scene, exc: Exception, *, mechanism: Mechanism | None = None) -> Sighting:
    """Return the sighting of *exc* in *scene*, with a new error id.

    Unless told, the mechanism is that of the framework's hook which has shown it, or else
    `escaped`.
    """
    cell = current_cell.get()
    return Sighting(
        exc=exc,
        traceback=exc.__traceback__,
        error_id=new_error_id(),
        scope=scene.scope,
        phase=scene.phase,
        mechanism=mechanism or (cell.mechanism if cell is not None else "escaped"),
        duration=scene.duration,
        status=scene.app_status or None,
        body=scene.body,
        body_truncated=scene.body_size > len(scene.body),
    )


def _put_in_context(failure: BaseException, exc: BaseException) -> None:
    """Make *exc* the context of *failure*, as Python does where no thread is between them."""
    seen: set[int] = set()
    link = failure
    while link is not exc and id(link) not in seen:
        seen.add(id(link))
        following = link.__cause__ or link.__context__
        if following is None:
            link.__context__ = exc
            return
        link = following
