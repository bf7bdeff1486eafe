"""Random programs, run against a breaker and against the model of its promises.

    python -m tests.core.breaker_conformance --programs 20000

runs so many programs against the pure breaker and against the actor, and prints
how often each interesting state was reached. Single steps seldom get deep, so
most steps are small stories: "trip it", "reach half open", "let a probe hang".
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from random import Random
from typing import Protocol

from duckservice.actors.board import Board, ProviderBoard
from duckservice.actors.circuit_breaker import CircuitBreaker
from duckservice.core import breaker_scopes, circuit_breaker as core
from duckservice.core.breaker_policy import BreakerPolicy
from duckservice.core.circuit_breaker import BreakerState, Outcome, Permit
from duckservice.events import BreakerMoved, Event

from .breaker_model import Asked, Life, Model, Rules

STEPS = 25
OUTCOMES = ("success", "failure", "neither")

#: What a run must have reached, or it proves nothing.
SOMETIMES = (
    "open: a row",
    "open: failure rate",
    "open: slow",
    "open: probe failed",
    "open: crashes",
    "closed: probes succeeded",
    "closed: by hand",
    "closed: forgotten",
    "half_open: rest",
    "disabled: by hand",
    "refused while open",
    "refused while half open",
    "refused while disabled",
    "all places taken",
    "several probes out",
    "a probe hung",
    "an expired probe ended",
    "a probe was cancelled",
    "a probe ended twice",
    "a stale end while half open",
    "a stale end while closed again",
    "a slow probe",
    "an end left the window",
    "crashed while open",
    "crashed while half open",
    "crashed while disabled",
    "a model without a place",
)


class Subject(Protocol):
    """A breaker under test."""

    def admit(self, model: str, now: int) -> Permit | None: ...
    def settle(
        self, permit: Permit, outcome: str, latency: int, now: int, *, timed_out: bool
    ) -> None: ...
    def state_of(self, model: str) -> BreakerState: ...
    def stands(self, permit: Permit, now: int) -> bool: ...
    def enable(self, now: int) -> None: ...
    def disable(self, now: int) -> None: ...
    def reset(self, now: int) -> None: ...
    def crash(self, now: int) -> None: ...
    def moves(self) -> list[tuple[str, str, str, str]] | None: ...


def policy_of(rules: Rules) -> BreakerPolicy:
    rate = rules.failure_rate
    return BreakerPolicy(
        failure_threshold=rules.threshold,
        success_threshold=rules.successes,
        half_open_max=rules.probes,
        reset_timeout=rules.rest,
        probe_timeout=rules.ttl,
        failure_rate=None if rate is None else float(rate),
        slow_call=rules.slow_call,
        slow_rate=float(rules.slow_rate),
        window=rules.window,
        min_requests=rules.least,
    )


class Pure:
    """The functions of the core, around one state."""

    def __init__(self, rules: Rules) -> None:
        self.policy = policy_of(rules)
        self.slow_call = rules.slow_call
        self.eras: Iterator[int] = itertools.count(0, 1 << 32)
        self.state: BreakerState = core.Closed(next(self.eras))
        self.starts = 1

    def enter(self, state: BreakerState) -> None:
        if core.phase_name(state) != core.phase_name(self.state):
            self.starts = 0
        self.state = state

    def admit(self, model: str, now: int) -> Permit | None:
        state, permit = core.admit(self.state, self.policy, now)
        self.enter(state)
        return permit

    def settle(
        self, permit: Permit, outcome: str, latency: int, now: int, *, timed_out: bool
    ) -> None:
        slow = self.slow_call is not None and (timed_out or latency > self.slow_call)
        its = Outcome(outcome)
        self.enter(core.settle(self.state, self.policy, now, permit, its, slow=slow))

    def state_of(self, model: str) -> BreakerState:
        return self.state

    def stands(self, permit: Permit, now: int) -> bool:
        return core.stands(self.state, now, permit)

    def enable(self, now: int) -> None:
        self.enter(core.enable(self.state))

    def disable(self, now: int) -> None:
        self.enter(core.disable(self.state))

    def reset(self, now: int) -> None:
        self.enter(core.reset(self.state))

    def crash(self, now: int) -> None:
        self.starts += 1
        trusted = self.starts <= 2
        self.enter(
            breaker_scopes.revive(
                self.state, self.policy, now, self.eras, trusted=trusted
            )
        )

    def moves(self) -> None:
        return None


class Actor:
    """The actor, with its board."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.now = 0
        its = ProviderBoard("p", 8, policy=policy_of(rules), by_model=rules.by_model)
        self.board = Board(providers={"p": its})
        self.events = list[Event]()
        self.crash(self.now)

    def crash(self, now: int) -> None:
        self.now = now
        self.actor = CircuitBreaker(
            "p",
            self.board.providers["p"],
            self.board.eras,
            self.events.append,
            self.rules.models_max,
            lambda: float(self.now),
        )
        self.actor.revive()

    def admit(self, model: str, now: int) -> Permit | None:
        self.now = now
        return self.actor.admit(model)

    def settle(
        self, permit: Permit, outcome: str, latency: int, now: int, *, timed_out: bool
    ) -> None:
        self.now = now
        self.actor.settle(permit, Outcome(outcome), latency, timed_out=timed_out)

    def state_of(self, model: str) -> BreakerState:
        return self.board.providers["p"].breaker_of(model)

    def stands(self, permit: Permit, now: int) -> bool:
        return self.board.providers["p"].stands(permit, now)

    def enable(self, now: int) -> None:
        self.now = now
        self.actor.enable()

    def disable(self, now: int) -> None:
        self.now = now
        self.actor.disable()

    def reset(self, now: int) -> None:
        self.now = now
        self.actor.reset()

    def moves(self) -> list[tuple[str, str, str, str]]:
        moved = [e for e in self.events if isinstance(e, BreakerMoved)]
        assert all(event.provider == "p" for event in moved)
        return [(e.model, e.was, e.now, e.why) for e in moved]


SUBJECTS: dict[str, Callable[[Rules], Subject]] = {"pure": Pure, "actor": Actor}


class Broken(AssertionError):
    """A promise was broken; the text says which, where and after what."""


class Program:
    """One random program; the same seed gives the same one."""

    def __init__(self, kind: str, seed: int, reached: Counter[str]) -> None:
        self.kind, self.seed, self.reached = kind, seed, reached
        self.random = Random(seed)
        self.rules = _rules(self.random, kind)
        self.model = Model(self.rules)
        self.subject = SUBJECTS[kind](self.rules)
        self.names = list("abcde") if self.rules.by_model else ["a"]
        self.trace = [repr(self.rules)]
        self.asked = list[Asked]()

    def run(self) -> None:
        """Run it.

        Raises:
            Broken: the breaker did not do what the model of its promises did.
        """
        stories: list[Callable[[], object]] = [
            self.herd,
            self.herd,
            self.some_end,
            self.some_end,
            self.time_passes,
            self.wait_for_a_deadline,
            self.wait_for_a_deadline,
            self.trip_by_a_row,
            self.trip_by_rate,
            self.trip_by_slowness,
            self.window_slides,
            self.reach_half_open,
            self.reach_half_open,
            self.probes_hang,
            self.probe_is_cancelled,
            self.probe_fails,
            self.probe_is_late_for_its_time,
            self.probe_ends_twice,
            self.recover,
            self.stale_end,
            self.crash,
            self.operator,
        ]
        if self.rules.by_model:
            stories += [self.many_models, self.many_models_rest]
        for _ in range(STEPS):
            story = self.random.choice(stories)
            self.trace.append(story.__name__)
            story()
        self.heals()
        for _, _, now, why in self.model.moves:
            self.reached[f"{now}: {why}"] += 1

    # Small steps, each compared with the model.

    def check(self, promise: str, got: object, expected: object) -> None:
        if got != expected:
            steps = "\n  ".join(self.trace)
            msg = f"{promise}: {got!r}, and not {expected!r}; {self.kind} {self.seed}"
            raise Broken(f"{msg}\n  {steps}")

    def look(self) -> None:
        model, now = self.model, self.model.now
        for name in self.names:
            state, life = self.subject.state_of(name), model.life_of(name)
            self.check(f"phase of {name}", core.phase_name(state), life.phase)
            admits = model.admits(life)
            self.check(f"I21 {name} eligible", core.eligible(state, now), admits)
            at = core.retry_at(state)
            if admits or life.phase == "disabled":
                self.check("retry_at is past", at is None or at <= now, True)
            else:
                assert at is not None
                self.check("not yet eligible", core.eligible(state, at - 1), False)
                self.check("eligible then", core.eligible(state, at), True)
            out = len(model.out(life))
            self.check("I17 probes out", out <= self.rules.probes, True)
            self.reached["several probes out"] += out > 1
        moves = self.subject.moves()
        if moves is not None:
            expected = model.moves
            self.check("moves", [m[:3] for m in moves], [m[:3] for m in expected])
            said = [why in m[3] for m, (*_, why) in zip(moves, expected, strict=True)]
            self.check(f"reasons {moves[-1:]}", all(said), True)

    def request(self, name: str | None = None) -> Asked | None:
        name = name or self.random.choice(self.names)
        phase = self.model.phase_of(name)
        expected = self.model.ask(name)
        permit = self.subject.admit(name, self.model.now)
        self.trace.append(f"  {self.model.now} request {name}: {permit}")
        promise = f"I17, I18 a request for {name} passes while {phase}"
        self.check(promise, permit is not None, expected is not None)
        if expected is None or permit is None:
            self.reached[f"refused while {phase.replace('_', ' ')}"] += 1
            self.look()
            return None
        if self.rules.by_model and not expected[0]:
            self.reached["a model without a place"] += 1
        asked = self.model.permitted(*expected, permit)
        self.asked.append(asked)
        self.check("a permit stands", self.subject.stands(permit, self.model.now), True)
        self.look()
        return asked

    def end(
        self,
        asked: Asked,
        outcome: str,
        *,
        latency: int = 0,
        timed_out: bool = False,
    ) -> None:
        model = self.model
        counts, phase = model.counts(asked), model.phase_of(asked.scope)
        if not counts:
            self.reached["a stale end while half open"] += phase == "half_open"
            known = not asked.scope or asked.scope in model.lives
            again = phase == "closed" and known and asked.is_probe
            self.reached["a stale end while closed again"] += again
            hung = asked.life is model.life_of(asked.scope) and not asked.ended
            self.reached["an expired probe ended"] += asked.is_probe and hung
        slow = self.rules.slow_call is not None and latency > self.rules.slow_call
        self.reached["a slow probe"] += counts and asked.is_probe and slow
        permit = asked.permit
        assert isinstance(permit, Permit)
        self.check("I20 stands", self.subject.stands(permit, model.now), counts)
        self.trace.append(f"  {model.now} {permit} {outcome} {latency} {timed_out}")
        model.end(asked, outcome, latency, timed_out=timed_out)
        self.subject.settle(permit, outcome, latency, model.now, timed_out=timed_out)
        if asked in self.asked:
            self.asked.remove(asked)
        self.look()

    def to(self, now: int) -> None:
        self.model.now = max(self.model.now, now)

    # Stories.

    def herd(self) -> None:
        name = self.random.choice(self.names)
        for _ in range(self.random.randint(1, 5)):
            if self.request(name) is None:
                self.reached["all places taken"] += (
                    self.model.phase_of(name) == "half_open"
                )

    def some_end(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            if self.asked:
                self.end_somehow(self.random.choice(self.asked))

    def end_somehow(self, asked: Asked) -> None:
        outcome = self.random.choice(OUTCOMES)
        self.end(
            asked,
            outcome,
            latency=self.random.choice((0, 4, 5, 6, 9)),
            timed_out=outcome == "failure" and self.random.random() < 0.3,
        )

    def time_passes(self) -> None:
        self.model.now += self.random.randint(0, 25)
        self.look()

    def wait_for_a_deadline(self) -> None:
        model, early = self.model, self.random.choice((0, 1))
        deadlines = [
            life.until
            for life in (model.own, *model.lives.values())
            if life.phase == "open"
        ]
        for life in (model.own, *model.lives.values()):
            deadlines += [p.at + self.rules.ttl for p in model.out(life)]
        deadlines = [at for at in deadlines if at > model.now]
        if deadlines:
            self.to(self.random.choice(deadlines) - early)
        self.look()

    def one(self, name: str, outcome: str, **how: int | bool) -> None:
        asked = self.request(name)
        if asked is not None:
            latency = int(how.get("latency", 0))
            timed_out = bool(how.get("timed_out", False))
            self.end(asked, outcome, latency=latency, timed_out=timed_out)

    def trip_by_a_row(self, name: str | None = None) -> None:
        name = name or self.random.choice(self.names)
        while self.model.phase_of(name) == "closed":
            if self.random.random() < 0.3:
                self.one(name, "neither")
            self.one(name, "failure")

    def trip_by_rate(self) -> None:
        name = self.random.choice(self.names)
        for n in range(2 * self.rules.least):
            if self.model.phase_of(name) != "closed":
                break
            self.one(name, ("success", "failure")[n % 2])
            self.model.now += self.random.choice((0, 0, 1, 5))

    def trip_by_slowness(self) -> None:
        name = self.random.choice(self.names)
        for _ in range(self.rules.least):
            if self.model.phase_of(name) != "closed":
                break
            if self.random.random() < 0.8:
                self.one(name, "success", latency=6)
            else:
                self.one(name, "failure", timed_out=True)

    def window_slides(self) -> None:
        """Fail as often as is just allowed, wait till that is forgotten, or nearly."""
        name = self.random.choice(self.names)
        for _ in range(self.rules.least):
            self.one(name, "success")
        bad = self.random.choice((("failure", 0), ("success", 6), ("failure", 6)))
        for _ in range(2 * self.rules.least):
            if not self.stays_closed(name, bad[0] == "failure"):
                break
            self.one(name, bad[0], latency=bad[1])
        slice_ = self.rules.slice
        edge = math.ceil((self.model.now // slice_ + 60) * slice_)
        self.to(edge - self.random.choice((0, 1)))
        for outcome, latency in (bad, ("success", 0), bad):
            life = self.model.life_of(name)
            self.one(name, outcome, latency=latency)
            gone = len(life.ended) > len(self.model.in_window(life))
            self.reached["an end left the window"] += gone

    def stays_closed(self, name: str, failed: bool) -> bool:
        life = self.model.life_of(name)
        if life.phase != "closed":
            return False
        ended = [*life.ended, (self.model.now, failed, True)]
        return not self.model.why_open(Life("closed", ended=ended))

    def reach_half_open(self, name: str | None = None) -> str:
        name = name or self.random.choice(self.names)
        if self.random.random() < 0.5:
            self.request(name)  # its end will be late
        self.trip_by_a_row(name)
        life = self.model.life_of(name)
        if life.phase == "open":
            self.to(life.until - 1)
            self.request(name)
            self.to(life.until)
            self.request(name)
        return name

    def probes(self) -> list[Asked]:
        name = self.reach_half_open()
        for _ in range(self.random.randint(1, 4)):
            self.request(name)
        return self.model.out(self.model.life_of(name))

    def probes_hang(self) -> None:
        hung = self.probes()
        if hung:
            self.to(hung[-1].at + self.rules.ttl - self.random.choice((0, 1)))
            self.reached["a probe hung"] += 1
            if self.random.random() < 0.5:
                self.herd()
            for probe in hung:
                self.end_somehow(probe)

    def probe_is_cancelled(self) -> None:
        for probe in self.probes():
            self.end(probe, "neither")
            self.reached["a probe was cancelled"] += 1
            self.herd()

    def probe_fails(self) -> None:
        out = self.probes()
        if out:
            self.end(out.pop(), "failure")
        for probe in out:
            self.end_somehow(probe)

    def probe_is_late_for_its_time(self) -> None:
        """One of several probes fails; others end when new ones are out."""
        late = self.probes()
        if late:
            name = late[0].scope or self.names[0]
            self.end(late.pop(), "failure")
            self.reach_half_open(name)
            self.request(name)
        for probe in late:
            self.end_somehow(probe)

    def probe_ends_twice(self) -> None:
        for probe in self.probes()[:1]:
            self.end(probe, self.random.choice(("success", "neither")))
            self.end_somehow(probe)
            self.reached["a probe ended twice"] += 1

    def recover(self) -> None:
        name = self.reach_half_open()
        for _ in range(self.rules.successes + 1):
            self.request(name)
            out = self.model.out(self.model.life_of(name))
            if out:
                self.end(out[0], "success", latency=self.random.choice((0, 0, 5, 6)))

    def stale_end(self) -> None:
        stale = [asked for asked in self.asked if not self.model.counts(asked)]
        if stale:
            self.end_somehow(self.random.choice(stale))

    def crash(self) -> None:
        for _ in range(self.random.choice((1, 1, 2, 3))):
            for life in (self.model.own, *self.model.lives.values()):
                self.reached[f"crashed while {life.phase.replace('_', ' ')}"] += 1
            self.model.crash()
            self.subject.crash(self.model.now)
            self.look()

    def operator(self) -> None:
        for _ in range(self.random.choice((1, 2, 2, 3))):
            what = self.random.choice(("enable", "disable", "reset"))
            for _ in range(self.random.choice((1, 2))):
                self.trace.append(f"  {what}")
                getattr(self.model, what)()
                getattr(self.subject, what)(self.model.now)
                self.look()
        if self.random.random() < 0.3:
            self.herd()
        if self.random.random() < 0.7:  # else most programs would end disabled
            self.model.enable()
            self.subject.enable(self.model.now)
            self.look()

    def many_models(self) -> None:
        for name in self.random.sample(self.names, 4):
            self.request(name)

    def many_models_rest(self) -> None:
        for name in self.random.sample(self.names, 4):
            self.trip_by_a_row(name)
            self.request(name)

    def heals(self) -> None:
        """I19: once all calls succeed, it is closed in time, whatever was before."""
        self.trace.append("all is well from now on")
        self.model.enable()
        self.subject.enable(self.model.now)
        rules = self.rules
        by = self.model.now + rules.rest + rules.ttl
        while self.model.now < by:
            for name in self.names:
                self.one(name, "success")
            self.model.now += 1
        for name in self.names:
            for _ in range(rules.successes):
                self.one(name, "success")
            phase = core.phase_name(self.subject.state_of(name))
            self.check(f"I19 {name} is closed by {by}", phase, "closed")


def _rules(random: Random, kind: str) -> Rules:
    rated, slow = random.random() < 0.6, random.random() < 0.5
    rate = random.choice((Fraction(1, 2), Fraction(3, 10), Fraction(3, 5), Fraction(1)))
    return Rules(
        threshold=random.choice((1, 2, 3, 6)),
        successes=random.randint(1, 3),
        probes=random.randint(1, 3),
        rest=random.choice((5, 10)),
        ttl=random.choice((8, 20)),
        failure_rate=rate if rated else None,
        slow_call=5 if slow else None,
        slow_rate=random.choice((Fraction(1, 2), Fraction(2, 3), Fraction(1))),
        window=random.choice((60, 120, 30)),
        least=random.choice((2, 4, 5, 10)),
        by_model=kind == "actor" and random.random() < 0.6,
        models_max=random.randint(2, 3),
    )


def run(kind: str, seeds: range) -> Counter[str]:
    """Run a program for each seed; return how often what was reached.

    Raises:
        Broken: the first that breaks a promise.
    """
    reached = Counter[str]()
    for seed in seeds:
        Program(kind, seed, reached).run()
    return reached


def main() -> None:
    """Run as many programs as asked for; end with 1 if one breaks a promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args()
    seeds = range(args.first_seed, args.first_seed + args.programs)
    for kind in SUBJECTS:
        since = time.monotonic()
        try:
            reached = run(kind, seeds)
        except Broken as broken:
            raise SystemExit(str(broken)) from None
        seconds = time.monotonic() - since
        print(f"{kind}: {len(seeds)} programs, none broke a promise, {seconds:.0f} s")
        for what, times in sorted(reached.items()):
            print(f"  {times:9} {what}")


if __name__ == "__main__":
    main()
