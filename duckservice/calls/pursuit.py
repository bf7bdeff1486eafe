"""One call's way through its plan: which provider is asked, again, instead, or no more.

Permissions are got and a request is sent (`attempt`); what a failure means is decided
by `core.retry`, and pure. Nothing here outlives the call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, final

import attrs
import trio

from duckservice.calls.attempt import Attempt
from duckservice.calls.call import Call
from duckservice.calls.opening import open_attempt
from duckservice.calls.planning import Plan, Planner, Step, could_go_now
from duckservice.calls.verdict import is_dear, verdict
from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    EmbeddingRequest,
    ImageRequest,
)
from duckservice.core import retry
from duckservice.core.retry import (
    FailOver,
    GiveUp,
    RetriesSpent,
    Retry,
    RetryPolicy,
)
from duckservice.errors import DuckError, Unavailable, forget_frames
from duckservice.events import EventSink
from duckservice.money.spending import worst_cost
from duckservice.providers.auth.keys import OtherKey
from duckservice.providers.sending import may_be_accepted
from duckservice.tree import Guarded, Parts

#: So many keys are tried for one call: their number has no limit.
KEYS_MAX = 16

#: Seconds that who may not ask anybody waits, if no better time is known.
HELD_PAUSE = 5.0

T = TypeVar("T")
R = TypeVar("R", ChatRequest, EmbeddingRequest, ImageRequest)


@attrs.frozen
class Won(Generic[T, R]):
    """A reply, and whom it is from."""

    value: T
    step: Step[R]


@final
@attrs.define(eq=False, kw_only=True)
class Pursuit(Generic[R]):
    """Asks one provider after the other, each as often as the policy says."""

    parts: Parts
    emit: EventSink
    planner: Planner
    policy: RetryPolicy
    chance: Callable[[], float]
    """Random in [0, 1)."""
    call: Call
    plan: Plan[R]
    """Who is yet to be asked."""
    streaming: bool = False
    _errors: list[DuckError] = attrs.field(factory=list[DuckError])
    _tried: set[str] = attrs.field(factory=set[str])
    _held: list[Guarded] = attrs.field(factory=list[Guarded])
    """Who may not be asked again yet."""
    _asking: Step[R] | None = None
    """Whom the first of two asks."""
    _probing: bool = False
    """Whether that request finds out for all whether its provider is back: then it
    must not be broken off because another one is quicker."""
    _rotated: int = 0
    """Attempts that have only found out that a key is limited or refused."""
    _retries: list[Guarded] = attrs.field(factory=list[Guarded])
    """Whose retries are taken, and not sent yet."""
    _replaced: set[str] = attrs.field(factory=set[str])
    """Models that another one stands in for, since they were the wrong ones."""

    async def run(self, send: Callable[[Attempt, R], Awaitable[T]]) -> Won[T, R]:
        """Return the first reply.

        Raises:
            DuckError: what has become of all attempts, as one error.
        """
        try:
            while (step := self._next()) is not None:
                won = await self._ask(step, send)
                if won is not None:
                    return won
            raise self.verdict()
        finally:
            for guarded in list(self._retries):
                self._give_retry_back(guarded)

    @property
    def others(self) -> bool:
        """Whether more than one provider may be asked."""
        return len(self.plan) > 1

    def stand_in(self) -> Step[R] | None:
        """Return whom to ask beside the one that is being asked; it is asked no more.

        None: nobody could be, or it would be too many requests, or too dear.
        """
        first = self._asking
        if first is None or self._probing or self._is_last_attempt():
            return None
        for step in self.plan:
            if (
                step.request.model == first.request.model
                and step.provider not in self._tried
                and could_go_now(step)
                and self._is_affordable(step.guarded, step.request)
            ):
                # What is asked twice is paid twice: as retries, it is a share only.
                if not self._take_retry(step.guarded):
                    return None
                self.plan.remove(step)
                return step
        return None

    def _is_last_attempt(self) -> bool:
        return self.call.report.attempts - self._rotated >= self.policy.max_attempts

    async def ask_once(
        self, step: Step[R], send: Callable[[Attempt, R], Awaitable[T]]
    ) -> Won[T, R] | None:
        """Ask beside the others; None where that comes to nothing."""
        self._tried.add(step.provider)
        silent = "nobody" if self._asking is None else self._asking.provider
        try:
            attempt = await self._open(step, f"asked as well: {silent} is silent")
            return Won(await send(attempt, step.request), step)
        except DuckError as error:
            self._note(error)
            return None

    def verdict(self) -> DuckError:
        """Return the one error that says what became of all attempts."""
        return verdict(self._errors) if self._errors else _retries_spent(self._held)

    def _note(self, error: DuckError) -> None:
        """Keep what the failure says, and not how it came here."""
        forget_frames(error)
        self._errors.append(error)

    # One provider.

    def _next(self) -> Step[R] | None:
        """Take the next out of the plan that may be asked."""
        while self.plan:
            step = self.plan.popleft()
            name = step.provider
            if self.parts.providers.get(name) is not step.guarded:
                msg = f"there is no provider {name!r} any more"
                self._note(Unavailable(msg, provider=name))
                continue
            if self._may_begin(step):
                return step
            self._held.append(step.guarded)
        return None

    def _may_begin(self, step: Step[R]) -> bool:
        """Say whether *step* may be asked.

        A provider that comes twice, with a fallback model, is asked again: that
        is a retry, and takes from its budget.
        """
        if not self._is_affordable(step.guarded, step.request):
            return False
        return not self._was_asked(step.guarded) or self._take_retry(step.guarded)

    def _was_asked(self, guarded: Guarded) -> bool:
        """Say whether the provider was asked in this call, or in one before it."""
        name, watch = guarded.config.name, self.call.options.watch
        before = watch is not None and watch.asked_before(name)
        return before or name in self._tried

    async def _ask(
        self, step: Step[R], send: Callable[[Attempt, R], Awaitable[T]]
    ) -> Won[T, R] | None:
        """Ask one provider; None: it is another one's turn.

        Raises:
            DuckError: it is nobody's.
        """
        self._asking = step
        while True:
            try:
                attempt = await self._open(step)
            except DuckError as refusal:
                # What all share has refused; only a budget may have room for a
                # cheaper provider.
                if refusal.provider is None and not is_dear(refusal):
                    raise
                self._note(refusal)
                return None
            self._earn_retry(step.guarded)
            self._probing = attempt.permit.serial > 0
            try:
                return Won(await send(attempt, step.request), step)
            except DuckError as error:
                self._note(error)
                pause = self._what_next(step, error)
            if pause is None:
                return None
            await trio.sleep(pause)

    async def _open(self, step: Step[R], why: str = "") -> Attempt:
        try:
            attempt = await open_attempt(
                self.parts,
                self.emit,
                self.call,
                step.guarded,
                step.request,
                why=f"{why}; {step.why}" if why else self._why(step),
            )
        except BaseException:
            self._give_retry_back(step.guarded)
            raise
        self._send_retry(step.guarded)
        return attempt

    def _why(self, step: Step[R]) -> str:
        if not self._errors:
            return step.why
        last = self._errors[-1]
        again = last.provider == step.provider
        what = "again" if again else f"{last.provider or 'another'} failed"
        return f"{what} ({last.code}); {step.why}"

    def _earn_retry(self, guarded: Guarded) -> None:
        if not self._was_asked(guarded):
            self._tried.add(guarded.config.name)
            its = guarded.board
            its.retry_budget = retry.earn(its.retry_budget, trio.current_time())

    def _take_retry(self, guarded: Guarded) -> bool:
        """Take a retry from the provider's budget; say whether there was one."""
        its = guarded.board
        budget = retry.take(its.retry_budget, trio.current_time())
        if budget is None:
            return False
        its.retry_budget = budget
        self._retries.append(guarded)
        return True

    def _send_retry(self, guarded: Guarded) -> None:
        """Have the retry that was taken, if one was, count from now on."""
        if guarded in self._retries:
            self._retries.remove(guarded)
            its = guarded.board
            its.retry_budget = retry.sent(its.retry_budget, trio.current_time())

    def _give_retry_back(self, guarded: Guarded) -> None:
        """Have the retry that was taken, if one was, be another's: it is not sent."""
        if guarded in self._retries:
            self._retries.remove(guarded)
            its = guarded.board
            its.retry_budget = retry.give_back(its.retry_budget)

    def _what_next(self, step: Step[R], error: DuckError) -> float | None:
        """Return the pause before the same provider is asked again, None for the next.

        Raises:
            DuckError: what the errors so far amount to, if that is the answer.
        """
        if isinstance(error, OtherKey) and self._may_rotate(step, error):
            # The limiter grants another key; who asked with the wrong one was not heard.
            self._rotated += 1
            return 0.0
        if self._is_paid_already(step.request, error):
            # Whoever would repeat it after us, client or job, would pay again, too.
            error.retryable = False
            raise error
        other_model = self._other_model_for(step, error)
        decision = retry.decide(
            error,
            attempt=self.call.report.attempts - self._rotated,
            policy=self.policy,
            chance=self.chance(),
            now=trio.current_time(),
            deadline=self.call.options.deadline,
            others_left=bool(self.plan),
            delivered=False,
            takes=self._takes(step),
            other_model=other_model,
        )
        match decision:
            case FailOver():
                return None
            case Retry(after):
                if self.call.options.watch is not None:  # the pause is its own affair
                    raise self.verdict()
                affordable = self._is_affordable(step.guarded, step.request)
                if affordable and self._take_retry(step.guarded):
                    return after
                raise self.verdict()
            case GiveUp():
                raise self.verdict()

    def _may_rotate(self, step: Step[R], error: OtherKey) -> bool:
        """Say whether *step* may be asked again at once, with another key.

        The provider sees one more request, so it takes from its budget of retries. Where
        that is used up, a 429 is one like any other, whatever key it is about: else all
        keys of an overloaded account were tried by all requests. But a key that is no
        good any more fails nobody: only those meet it that are under way at that moment.
        """
        if self._rotated >= KEYS_MAX:
            return False
        return self._take_retry(step.guarded) or not error.is_limited

    def _other_model_for(self, step: Step[R], error: DuckError) -> bool:
        """Plan for another model, if *error* says that this one is the wrong one."""
        model = step.request.model
        if error.provider is None or model in self._replaced:
            return False
        instead = self.planner.fallbacks_after(
            error, step.request, self.call.options, streaming=self.streaming
        )
        if not instead:
            return False
        self._replaced.add(model)
        self.plan = instead
        return True

    def _takes(self, step: Step[R]) -> float:
        """Return the seconds in which nobody who is left has answered lately."""
        if self.call.options.deadline is None:
            return 0.0
        others: list[float] = [_shortest(each) for each in self.plan]
        return min([_shortest(step), *others])

    def _is_affordable(self, guarded: Guarded, request: AnyRequest) -> bool:
        """Say whether one more attempt stays within the caller's limit, if any."""
        limit = self.call.options.max_cost
        if limit is None:
            return True
        worst = worst_cost(guarded.provider, request)
        return worst is not None and self.call.at_most + worst <= limit

    def _is_paid_already(self, request: AnyRequest, error: DuckError) -> bool:
        """Say whether *request* is for pictures that may be made, and paid, already."""
        if not isinstance(request, ImageRequest) or not may_be_accepted(error):
            return False
        # What we broke off ourselves is a job's own affair: it says so in on_interrupt.
        return self.call.options.watch is None or not isinstance(error, Unavailable)


def _shortest(step: Step[R]) -> float:
    monitor = step.guarded.board.performance
    return monitor.shortest(step.request.model, trio.current_time())


def _retries_spent(held: Sequence[Guarded]) -> RetriesSpent:
    """Return the error for who has been asked before, and must not be asked yet."""
    now = trio.current_time()
    at = [retry.next_retry_at(guarded.board.retry_budget, now) for guarded in held]
    msg = "so many requests are being repeated that this one has to wait"
    wait = min(at, default=now) - now
    # A little later than that: what rests comes back after its time.
    return RetriesSpent(msg, retry_after=wait + 0.1 if wait > 0 else HELD_PAUSE)
