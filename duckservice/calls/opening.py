"""How an attempt is opened: money set aside, permissions got, the ledger written."""

from __future__ import annotations

import trio

from duckservice.calls.attempt import Attempt
from duckservice.calls.attempt_money import AttemptMoney
from duckservice.calls.call import Call
from duckservice.calls.permissions import get_permissions
from duckservice.completion import AnyRequest
from duckservice.events import EventSink
from duckservice.tree import Guarded, Parts


async def open_attempt(
    parts: Parts,
    emit: EventSink,
    call: Call,
    guarded: Guarded,
    request: AnyRequest,
    *,
    why: str = "",
) -> Attempt:
    """Get all permissions to send *request* to *guarded*, waiting for them in turn.

    *why* says why it is this one that is asked.

    Raises:
        BudgetExceeded: a budget has not enough left. It names the provider, as the
            others do, where another one may be free of that budget.
        CircuitOpen: the provider's breaker refuses.
        RateLimited: the request can never fit the rate limit.
        QueueFull: too many wait already.
        Unavailable, InternalError: an actor does not answer; or a budget binds the
            request, and the store cannot write.
    """
    while True:
        attempt = await _permitted(parts, emit, call, guarded, request, why)
        if attempt.provider is guarded.provider:
            break
        # A reload came while it stood in line: it was permitted, and priced, for what
        # is no more. Whoever has got this far is not long in line again.
        attempt.give_back()
    watch = call.options.watch
    if watch is not None:
        watch.permitted(guarded.config.name)
    try:
        attempt.money.belong_to_now()
        await attempt.money.open_entry()
        attempt.money.obey_new_budgets()
        attempt.must_be_fit_to_send()
    except BaseException:
        attempt.give_back()
        raise
    return attempt


async def _permitted(
    parts: Parts,
    emit: EventSink,
    call: Call,
    guarded: Guarded,
    request: AnyRequest,
    why: str,
) -> Attempt:
    """Set its money aside, and wait for its permissions."""
    report, options, since = call.report, call.options, trio.current_time()
    money = AttemptMoney.set_aside(parts, call, guarded, request)
    try:
        permissions = await get_permissions(
            parts,
            emit,
            guarded,
            request,
            options.priority,
            yields=options.watch is not None,  # jobs have more time than people
            submitter=options.submitter,
            deadline=options.deadline,
        )
    except BaseException:
        money.release()
        raise
    finally:
        now = trio.current_time()
        report.queued += now - since
    report.attempts += 1
    report.provider = guarded.config.name
    report.model = request.model
    return Attempt(
        parts=parts,
        emit=emit,
        call=call,
        guarded=guarded,
        request=request,
        number=report.attempts,
        turn=permissions.turn,
        permit=permissions.permit,
        grant=permissions.grant,
        money=money,
        started=now,
        queued=now - since,
        why=why,
    )
