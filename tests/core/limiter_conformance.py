"""Random programs for the rate limiter, held against a plain model of its rules.

    python -m tests.core.limiter_conformance --programs 20000 [--seed 0]

A program is a seed: limits, then steps with macro steps among them (a crowd comes, a
large one comes before small ones, wait for the wakeup, the provider says 429, the
actor is restarted, an answer tells what is left of a model's limits). What is checked at each step: no limit is exceeded in any window,
also with requests that travel; who is first goes first, as soon as the limits allow;
who overtakes puts nobody off, and whoever can overtake does; deadlines are kept or
given up at once; every one who waits gets one answer. At the end faults stop, and the
line must empty in the time that the limits say.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from random import Random

from duckservice.core.grants import Grant, Late, Limits, LineFull, Waits
from duckservice.core.limiter import Limiter
from duckservice.core.rate_hints import RateHints
from duckservice.core.token_bucket import Never
from duckservice.core.waiting_line import PRIORITIES
from tests.core.limiter_model import (
    GUARD,
    Line,
    Model,
    Sent,
    Someone,
    ToldOfKey,
    worst_window,
)

SUBMITTERS = [(None, None), (1, 1), (1, 2), (2, 3)]
MODELS = ["", "a", "b", "c"]
PAUSES = [-1.0, 0.0, 5.0, 30.0, 119.75, 121.0, 1e9, math.inf, math.nan]


class Broken(AssertionError):
    """The limiter has broken a rule."""


def check(holds: object, what: str) -> None:
    if not holds:
        raise Broken(what)


class Program:
    """One run of a limiter beside its model."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.limits = self.some_limits()
        self.limiter: Limiter[int] = Limiter(self.limits, 0.0)
        self.model = Model(self.limits)
        self.line = Line(self.limits.aging)
        self.names = 0
        self.open: list[tuple[Grant, Sent]] = []
        self.numbers = 0
        self.reached: Counter[str] = Counter()
        self.refusals: Counter[int] = Counter()
        self.last_pause: Counter[int] = Counter()
        self.arrivals: list[tuple[Sent, float]] = []
        # Which limits the provider tells of each model; most programs have some.
        kinds = self.rng.choice([1, 2, 2, 3])
        tells = [
            (self.rng.choice([None, 2, 5]), self.rng.choice([None, 60, 150]))
            for _ in range(kinds)
        ]
        self.tells = {model: self.rng.choice(tells) for model in MODELS}
        self.told = False
        self.steps = STEPS if self.rng.random() < 0.6 else SILENT_STEPS

    def some_limits(self) -> Limits:
        rng = self.rng
        bucket = rng.choice([(None, None)] * 3 + [(3, 1.0), (5, 0.5), (2, 4.0)])
        keys = rng.choice([0, 0, 1, 2, 3])
        return Limits(
            capacity=bucket[0],
            refill_rate=bucket[1],
            requests_per_minute=rng.choice([None, 3, 8, 20]),
            tokens_per_minute=rng.choice([None, 100, 250, 250]),
            keys=keys,
            key_requests_per_minute=rng.choice([None, 4]) if keys > 1 else None,
            key_tokens_per_minute=rng.choice([None, 100]) if keys > 1 else None,
            guard=GUARD,
            waiting_max=rng.choice([3, 100, 100]),
            aging=rng.choice([8.0, 30.0]),
            guess_max=rng.choice([0.5, 10.0]),
            patience=rng.choice([4.0, 60.0]),
        )

    @property
    def now(self) -> float:
        return self.model.now

    def run(self, steps: int = 40) -> Counter[str]:
        for _ in range(steps):
            step = self.rng.choice(self.steps)
            step(self)
            self.look()
        self.heal()
        return self.reached

    # Steps.

    def time_passes(self) -> None:
        self.model.now += self.rng.choice([1, 4, 40, 160, 480]) / 8
        self.due()

    def wait_for_the_wakeup(self) -> None:
        at = self.limiter.next_wakeup(self.now)
        check((at is None) == (not self.line.waiting), "it wakes up for nobody")
        if at is None:
            return
        if at > self.now + 0.125:
            self.model.now = at - 0.125
            check(not self.due(), "somebody could have gone before the wakeup")
            at = self.limiter.next_wakeup(self.now)
            assert at is not None
        self.model.now = max(self.now, at)
        check(self.due(), "woken up for nothing")

    def acquire(
        self,
        tokens: int | None = None,
        deadline: float = math.inf,
        *,
        ordinary: bool = False,
        model: str | None = None,
    ) -> None:
        rng = self.rng
        self.names += 1
        if tokens is None:
            tokens = rng.choice([0, 1, 2, 3, 5, 30, 60, 99, 100, 250, 251])
        if not ordinary and rng.random() < 0.25:
            deadline = self.now + rng.choice([0, 1, 10, 50, 200])
        someone = Someone(
            self.names,
            "normal" if ordinary else rng.choice(PRIORITIES),
            not ordinary and rng.random() < 0.2,
            (1, 1) if ordinary else rng.choice(SUBMITTERS),
            self.now,
            deadline,
            tokens,
            min(deadline, self.now + self.limits.patience),
            rng.choice(MODELS) if model is None else model,
        )
        answer = self.limiter.acquire(
            self.now,
            tokens,
            someone.name,
            someone.priority,  # type: ignore[arg-type]
            model=someone.model,
            yields=someone.yields,
            submitter=someone.submitter,
            deadline=deadline,
        )
        self.judge(someone, answer)

    def judge(self, someone: Someone, answer: object) -> None:
        its, model = self.limits, self.model
        tokens = someone.tokens
        most = min(
            (n for n in (its.tokens_per_minute, its.key_tokens_per_minute) if n),
            default=math.inf,
        )
        waiting = self.line.waiting
        if tokens > most:
            check(answer == Never(int(most)), "what can never fit is not told so")
        elif not waiting and model.fits_somewhere(self.now, tokens, someone.model):
            check(isinstance(answer, Grant), "kept waiting though nobody waits")
            assert isinstance(answer, Grant)
            self.debit(answer, someone)
        elif len(waiting) >= its.waiting_max:
            self.reached["line full"] += 1
            check(answer == LineFull(its.waiting_max), "the line has no end")
        elif isinstance(answer, Late):
            self.reached["late at once"] += 1
            self.is_late(someone, answer)
        else:
            check(answer == Waits(), f"it answers {answer}")
            alone = not waiting
            if alone:
                check(
                    model.ready(tokens, someone.model) <= someone.deadline,
                    "it waits for what cannot be in time",
                )
            self.line.enter(someone)
            self.due()

    def is_late(self, someone: Someone, answer: Late) -> None:
        alone = self.model.ready(someone.tokens, someone.model)
        check(answer.ready_at > someone.deadline, "refused though it is in time")
        check(answer.ready_at >= alone, "it promises what the limits do not allow")
        if not self.line.waiting:
            check(answer.ready_at == alone, "its time is not when there is room")
        # At most it reckons with every one that waits, one after the other.
        its, behind = self.limits, len(self.line.waiting) + 1
        tokens = sum(s.tokens for s in self.line.waiting) + someone.tokens
        minutes = behind / 3
        for most in (its.tokens_per_minute, its.key_tokens_per_minute):
            minutes += tokens / most if most else 0
        if self.told:
            minutes += 2 + behind / 2 + tokens / 60
        far = max(alone, self.now) + 61 * (minutes + 2)
        check(answer.ready_at <= far, "its time is far too late")

    def a_crowd_comes(self) -> None:
        self.reached["crowd"] += 1
        tokens = self.rng.choice([None, 1, 3])
        model = self.rng.choice([None, *MODELS])
        for _ in range(self.rng.randint(2, 25)):
            self.acquire(tokens, model=model)

    def a_large_one_comes_before_small_ones(self) -> None:
        self.acquire(self.rng.choice([60, 99, 100]))
        for _ in range(self.rng.randint(1, 5)):
            self.acquire(self.rng.choice([1, 3, 5, 30]))

    def somebody_in_a_hurry_comes_after_others(self) -> None:
        tokens = self.rng.choice([1, 3, 30])
        for _ in range(self.rng.randint(1, 4)):
            self.acquire(tokens, ordinary=True)
        for _ in range(2):
            within = self.rng.choice([3, 10, 58, 59, 130])
            self.acquire(tokens, self.now + within, ordinary=True)
        self.wait_for_the_wakeup()

    def give_up(self) -> None:
        name = self.rng.randint(1, self.names + 1)
        found = [s for s in self.line.waiting if s.name == name]
        first = self.line.first()
        if first and self.rng.random() < 0.5:
            found, name = [first], first.name
        check(self.limiter.remove(name) == bool(found), "it does not know who waits")
        for someone in found:
            self.line.leave(someone, turn=False)
        self.due()

    def settle(self) -> None:
        if not self.open:
            return
        grant, sent = self.rng.choice(self.open)
        tokens = self.rng.choice([0, 1, 30, 300, grant.tokens])
        if not sent.ended:
            self.model.end(sent, tokens)
        else:
            self.reached["settled twice"] += 1
        self.limiter.settle(grant, tokens)
        if self.rng.random() < 0.5:
            self.limiter.succeeded(grant)
            for key in {-1, grant.key_held}:
                if grant.number > self.last_pause[key]:
                    self.refusals[key] = 0
        self.due()

    def give_back(self) -> None:
        if self.open:
            grant, sent = self.open.pop(self.rng.randrange(len(self.open)))
            if not sent.ended:
                self.model.end(sent, 0, unsent=True)
                self.model.untake(sent)
                self.arrivals = [a for a in self.arrivals if a[0] is not sent]
            for _ in range(2):
                self.limiter.give_back(self.now, grant)
            self.due()

    def it_was_held_up(self) -> None:
        held = [i for i in self.open if not i[1].ended and self.now - i[1].at < 60]
        if held:
            grant, sent = self.rng.choice(held)
            self.limiter.was_sent(self.now, grant)
            # The log is in order, and the model looks at all of it anyway.
            sent.at = self.now
            for told in self.model.told_of(sent.key):
                told.held_up(self.now, sent)
            self.arrivals = [
                (s, self.now if s is sent else at) for s, at in self.arrivals
            ]
            self.due()

    def an_answer_tells(self, *, nothing_left: bool = False) -> None:
        rng = self.rng
        grant, sent = rng.choice(self.open) if self.open else (None, None)
        if rng.random() < 0.1:
            grant = sent = None
        model = "" if grant is None else grant.model
        limits = list(self.tells[model])
        if rng.random() < 0.1:
            part = rng.choice([0, 1])
            limits[part] = rng.choice([None, (3, 100)[part]])
        rests: list[tuple[int, float] | None] = [
            (rng.choice([0, 1, 3, 20]), rng.choice([0.0, 4.0, 20.0, 70.0, 500.0])),
            (rng.choice([0, 30, 200]), rng.choice([4.0, 50.0])),
        ]
        for part in (0, 1):
            if rng.random() < 0.6:
                rests[part] = None
        if nothing_left:
            rests[0] = 0, rng.choice([30.0, 60.0])
        hints = RateHints(
            requests_limit=limits[0],
            requests_remaining=rests[0] and rests[0][0],
            requests_reset=rests[0] and rests[0][1],
            tokens_limit=limits[1],
            tokens_remaining=rests[1] and rests[1][0],
            tokens_reset=rests[1] and rests[1][1],
        )
        asked = rng.choice(self.model.keys)
        if sent is not None and rng.random() < 0.8:
            asked = rng.choice([-1, sent.key])
        self.limiter.learn(self.now, hints, asked, grant=grant)
        key = sent.key if sent is not None and asked == -1 else asked
        believed = [rest and (rest[0], min(rest[1], 120.0)) for rest in rests]
        told = self.model.told[key if len(self.model.keys) > 1 else -1]
        moved = told.moved
        number = 0 if grant is None else grant.number
        told.learn(self.now, model, limits, believed, number, self.numbers)
        self.told = True
        self.reached["told"] += 1
        self.reached["several groups"] += len(told.groups) > 1
        self.reached["changed its group under way"] += told.moved > moved
        self.due()

    def one_model_has_nothing_left_and_others_come(self) -> None:
        self.an_answer_tells(nothing_left=True)
        for _ in range(self.rng.randint(2, 8)):
            self.acquire(self.rng.choice([1, 3, 30]), ordinary=True)

    def the_provider_says_429(self) -> None:
        key = self.rng.choice(self.model.keys)
        pause = self.rng.choice([*PAUSES, None, None, None])
        of = self.rng.choice(self.open)[0] if self.open else None
        number = self.numbers if of is None else of.number
        self.limiter.refused(self.now, pause, key, grant=of)
        if number > self.last_pause[key] or not self.refusals[key]:
            self.refusals[key] += 1
            self.last_pause[key] = self.numbers
        if pause is None or not pause >= 0:
            self.reached["doubled"] += self.refusals[key] > 1
            pause = min(self.limits.guess_max, 2.0 ** (self.refusals[key] - 1))
        self.pause(key, pause)

    def it_is_blocked(self) -> None:
        pause, key = self.rng.choice(PAUSES), self.rng.choice(self.model.keys)
        self.limiter.block(self.now, pause, key)
        self.pause(key, pause)

    def pause(self, key: int, pause: float) -> None:
        if pause > 0:
            until = self.now + min(120.0, pause)
            before = self.model.blocked.get(key, -1.0)
            self.reached["not shortened"] += until < before
            self.model.blocked[key] = max(before, until)
        self.due()

    def a_key_is_set_aside(self) -> None:
        key = self.rng.choice(self.model.keys)
        self.limiter.set_aside(self.now, 20.0, key)
        if key >= 0:
            before = self.model.aside.get(key, -1.0)
            self.model.aside[key] = max(before, self.now + 20.0)
        self.due()

    def the_actor_is_restarted(self) -> None:
        self.reached["restarted"] += 1
        self.limiter = Limiter(self.limits, self.now, memory=self.limiter.memory())
        self.line = Line(self.limits.aging)

    # What must hold.

    def due(self) -> bool:
        answers = self.limiter.due(self.now)
        for name, answer in answers:
            found = [s for s in self.line.waiting if s.name == name]
            check(len(found) == 1, "an answer for somebody who does not wait")
            if isinstance(answer, Late):
                self.has_left(found[0], answer)
            else:
                self.was_granted(found[0], answer)
        self.nobody_is_kept()
        return bool(answers)

    def has_left(self, someone: Someone, answer: Late) -> None:
        self.reached["late while waiting"] += 1
        hopeless = someone.deadline <= self.now or someone.deadline < self.model.floor
        check(hopeless, "sent away though it could be in time")
        check(answer.ready_at >= someone.deadline, "late, and yet in time")
        self.line.leave(someone, turn=False)

    def was_granted(self, someone: Someone, grant: Grant) -> None:
        check(grant.tokens == someone.tokens, "a grant of another size")
        first = self.line.first()
        assert first is not None
        if someone is first:
            self.reached["granted late"] += 1
            self.debit(grant, someone)
            self.line.leave(someone, turn=True, popped=True)
            return
        self.reached["overtaken"] += 1
        self.reached["overtaken by another model"] += first.model != someone.model
        before = self.model.ready(first.tokens, first.model)
        check(before > self.now, "overtaken though it fits")
        ahead = [
            s
            for s in self.line.waiting
            if (s.kind, s.submitter, s.tokens, s.model)
            == (someone.kind, someone.submitter, someone.tokens, someone.model)
        ]
        check(
            someone is min(ahead, key=lambda s: (s.due, s.name)),
            "overtaken by one of its own kind and size",
        )
        self.debit(grant, someone)
        after = self.model.ready(first.tokens, first.model)
        check(after <= before, "the first was put off")
        self.line.leave(someone, turn=False)

    def debit(self, grant: Grant, someone: Someone) -> None:
        model, tokens = self.model, someone.tokens
        check(grant.model == someone.model, "a grant for another model")
        key = grant.key_held if len(model.keys) > 1 else -1
        if len(model.keys) > 1:
            per_key = (
                self.limits.key_requests_per_minute
                or self.limits.key_tokens_per_minute
                or model.aside
                or any(model.told[each].groups for each in model.keys)
            )
            check(grant.key == (key if per_key else -1), "it names the wrong key")
            check(key in model.in_use(self.now), "a key that is set aside is granted")
        check(
            model.fits(self.now, tokens, key, someone.model),
            "granted more than a limit allows",
        )
        model.forget(key)
        sent = model.take(tokens, key, someone.model, grant.number)
        self.open.append((grant, sent))
        check(grant.number > self.numbers, "grants are not numbered in order")
        self.numbers = grant.number
        if len(self.open) > 60:
            del self.open[0]
        # It arrives some time within the guard, in the worst order.
        self.arrivals.append((sent, self.now))

    def nobody_is_kept(self) -> None:
        first = self.line.first()
        if first is None:
            check(self.limiter.next_wakeup(self.now) is None, "it wakes for nobody")
            return
        model = self.model
        check(
            not model.fits_somewhere(self.now, first.tokens, first.model),
            "the first is kept waiting",
        )
        for someone in self.line.waiting:
            check(someone.deadline > self.now, "who is too late waits on")
            check(someone.deadline >= model.floor, "who will be too late waits on")
        for lane in {s.lane for s in self.line.waiting} - {first.lane}:
            those = [s for s in self.line.waiting if s.lane == lane]
            if all(self.may_overtake(first, s) for s in those):
                check(False, "one that fits and harms nobody is kept waiting")

    def may_overtake(self, first: Someone, other: Someone) -> bool:
        model = self.model
        before = model.ready(first.tokens, first.model)
        level = model.level, model.level_at
        for key in model.in_use(self.now):
            if not model.fits(self.now, other.tokens, key, other.model):
                continue
            if any(
                self.waits_for_the_rest(told, first, other)
                for told in model.told_of(key)
            ):
                continue
            sent = model.take(other.tokens, key, other.model)
            harmless = model.ready(first.tokens, first.model) <= before
            model.end(sent, 0, unsent=True)
            model.sent.pop()
            model.level, model.level_at = level
            if harmless:
                return True
        return False

    def waits_for_the_rest(
        self, told: ToldOfKey, first: Someone, other: Someone
    ) -> bool:
        """Say whether *first* waits for what is left, of the count of *other*."""
        group = told.group(first.model)
        if group is None or group is not told.group(other.model):
            return False
        return not group.is_left(self.now, [1, first.tokens], told.open)

    def look(self) -> None:
        seen = self.limiter.statistics(self.now)
        check(seen.waiting == len(self.line.waiting), "it does not know who waits")
        floor = self.model.floor
        until = floor if self.now < floor else None
        check(seen.blocked_until == until, "it does not know how long it is blocked")
        model = self.rng.choice(MODELS)
        at = self.limiter.expected_at(self.now, 1, model=model)
        if math.isfinite(at):
            check(at >= self.now, "it expects something in the past")
        if not self.line.waiting and math.isfinite(at):
            ready = self.model.ready(1, model)
            check(at == ready, "it expects the next one at another time")

    def heal(self) -> None:
        """Nothing new comes, and no time is asked for: all must get their answers."""
        bound = self.now + 3820 + 61 * (len(self.line.waiting) + 3)
        while self.line.waiting:
            at = self.limiter.next_wakeup(self.now)
            check(at is not None, "it never wakes up again")
            assert at is not None
            self.model.now = max(self.now, at)
            check(self.now <= bound, "somebody waits for ever")
            check(self.due(), "woken up for nothing")
        self.every_window_holds()

    def every_window_holds(self) -> None:
        """Requests travel for up to half a second: half of them do, in stretches."""
        its = self.limits
        if its.requests_per_minute is None:
            return
        for shift in (0, 1):
            travelled = [
                (at + (GUARD - 0.125 if (number // 3 + shift) % 2 else 0.0), 1)
                for number, (_, at) in enumerate(
                    sorted(self.arrivals, key=lambda a: a[1])
                )
            ]
            check(
                worst_window(travelled) <= its.requests_per_minute,
                "more arrive in 60 s than the limit",
            )


SILENT_STEPS = [
    Program.time_passes,
    Program.time_passes,
    Program.wait_for_the_wakeup,
    Program.wait_for_the_wakeup,
    Program.acquire,
    Program.acquire,
    Program.a_crowd_comes,
    Program.a_large_one_comes_before_small_ones,
    Program.a_large_one_comes_before_small_ones,
    Program.somebody_in_a_hurry_comes_after_others,
    Program.give_up,
    Program.settle,
    Program.settle,
    Program.settle,
    Program.give_back,
    Program.it_was_held_up,
    Program.the_provider_says_429,
    Program.it_is_blocked,
    Program.a_key_is_set_aside,
    Program.the_actor_is_restarted,
]

STEPS = [
    *SILENT_STEPS,
    Program.an_answer_tells,
    Program.an_answer_tells,
    Program.an_answer_tells,
    Program.one_model_has_nothing_left_and_others_come,
    Program.one_model_has_nothing_left_and_others_come,
]

SOMETIMES = (
    "changed its group under way",
    "crowd",
    "doubled",
    "granted late",
    "late at once",
    "late while waiting",
    "line full",
    "not shortened",
    "overtaken",
    "overtaken by another model",
    "restarted",
    "settled twice",
    "several groups",
    "told",
)


def run_programs(programs: int, seed: int = 0) -> Counter[str]:
    """Run so many; return how often each event was reached."""
    reached: Counter[str] = Counter()
    for number in range(seed, seed + programs):
        try:
            reached += Program(number).run()
        except Broken as error:
            msg = f"program {number}: {error}"
            raise Broken(msg) from error
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    begun = time.perf_counter()
    reached = run_programs(args.programs, args.seed)
    took = time.perf_counter() - begun
    print(f"{args.programs} programs, 0 violations, {took:.0f} s")
    for event in SOMETIMES:
        print(f"  {event:20} {reached[event]:>9}")
    return 0 if all(reached[event] for event in SOMETIMES) else 1


if __name__ == "__main__":
    sys.exit(main())
