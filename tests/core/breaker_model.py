"""What a circuit breaker promises, written down a second time and in another way.

It remembers everything that has happened and counts anew whenever it is asked. It
knows no eras: what a request says counts if the life of the breaker in which it
was permitted is still the one that it leads.
"""

from __future__ import annotations

from fractions import Fraction

import attrs


@attrs.frozen(kw_only=True)
class Rules:
    """What the config says, in whole seconds."""

    threshold: int
    successes: int
    probes: int
    rest: int
    ttl: int
    failure_rate: Fraction | None = None
    slow_call: int | None = None
    slow_rate: Fraction = Fraction(1, 2)
    window: int = 60
    least: int = 4
    by_model: bool = False
    models_max: int = 3

    @property
    def slice(self) -> Fraction:
        return Fraction(self.window, 60)


@attrs.define(eq=False)
class Life:
    """A breaker in one phase, from the moment it entered it."""

    phase: str
    until: int = 0
    ended: list[tuple[int, bool, bool]] = attrs.field(factory=list)
    """Of a closed one: when, whether it failed, whether it was slow."""
    probes: list[Asked] = attrs.field(factory=list)
    good: list[bool] = attrs.field(factory=list)
    """Of a half open one: for each probe that succeeded, whether it was slow."""


@attrs.define(eq=False)
class Asked:
    """A request that was permitted."""

    permit: object
    scope: str
    life: Life
    at: int
    ended: bool = False

    @property
    def is_probe(self) -> bool:
        return self.life.phase == "half_open"


@attrs.define(eq=False)
class Model:
    """The breakers of one provider."""

    rules: Rules
    now: int = 1000
    own: Life = attrs.field(factory=lambda: Life("closed"))
    lives: dict[str, Life] = attrs.field(factory=dict)
    moves: list[tuple[str, str, str, str]] = attrs.field(factory=list)
    """The model, the phase before, the phase after, a word of the reason."""
    starts: int = 1

    def life_of(self, model: str) -> Life:
        return self.lives.get(model, self.own)

    def phase_of(self, model: str) -> str:
        return self.life_of(model).phase

    # What must be true of a request.

    def out(self, life: Life) -> list[Asked]:
        ttl = self.rules.ttl
        return [p for p in life.probes if not p.ended and self.now < p.at + ttl]

    def admits(self, life: Life) -> bool:
        rules = self.rules
        match life.phase:
            case "closed":
                return True
            case "open":
                return self.now >= life.until
            case "half_open":
                out, most = len(self.out(life)), max(rules.probes, rules.successes)
                return out < rules.probes and out + len(life.good) < most
            case _:
                return False

    def ask(self, model: str) -> tuple[str, Life] | None:
        """Return where the permit comes from; None if there must be none."""
        scope = self.place(model)
        life = self.lives[scope] if scope else self.own
        if not self.admits(life):
            return None
        if life.phase == "open":
            life = self.enter(scope, Life("half_open"), "rest")
        return scope, life

    def permitted(self, scope: str, life: Life, permit: object) -> Asked:
        asked = Asked(permit, scope, life, self.now)
        if life.phase == "half_open":
            life.probes.append(asked)
        return asked

    def counts(self, asked: Asked) -> bool:
        current = self.lives.get(asked.scope) if asked.scope else self.own
        if current is not asked.life:
            return False
        return not asked.is_probe or asked in self.out(asked.life)

    def end(self, asked: Asked, outcome: str, latency: int, *, timed_out: bool) -> None:
        counts, rules = self.counts(asked), self.rules
        asked.ended = True
        if not counts or outcome == "neither":
            return
        failed, life = outcome == "failure", asked.life
        limit = rules.slow_call
        slow = limit is not None and (timed_out or latency > limit)
        if life.phase == "closed":
            life.ended.append((self.now, failed, slow))
            why = self.why_open(life)
        elif failed:
            why = "probe failed"
        else:
            life.good.append(slow)
            if len(life.good) < rules.successes:
                return
            if limit is None or self.part(life.good) < rules.slow_rate:
                self.enter(asked.scope, Life("closed"), "probes succeeded")
                return
            why = "slow"
        if why:
            self.enter(asked.scope, Life("open", self.now + rules.rest), why)

    def why_open(self, life: Life) -> str:
        rules = self.rules
        last = [failed for _, failed, _ in life.ended[-rules.threshold :]]
        if len(last) == rules.threshold and all(last):
            return "a row" if rules.threshold > 1 else "a failure"
        judged = self.in_window(life)
        if len(judged) < rules.least:
            return ""
        rate = self.part([failed for _, failed, _ in judged])
        if rules.failure_rate is not None and rate >= rules.failure_rate:
            return "failure rate"
        rate = self.part([slow for _, _, slow in judged])
        if rules.slow_call is not None and rate >= rules.slow_rate:
            return "slow"
        return ""

    def in_window(self, life: Life) -> list[tuple[int, bool, bool]]:
        oldest = self.now // self.rules.slice - 59
        return [its for its in life.ended if its[0] // self.rules.slice >= oldest]

    @staticmethod
    def part(of: list[bool]) -> Fraction:
        return Fraction(sum(of), len(of))

    # Which models have a breaker of their own.

    def place(self, model: str) -> str:
        if not self.rules.by_model or self.own.phase == "disabled":
            return ""
        if model in self.lives:
            life = self.lives.pop(model)
        else:
            if len(self.lives) == self.rules.models_max:
                worth = {m: self.worth(life) for m, life in self.lives.items()}
                worth = {m: its for m, its in worth.items() if its < 3}
                if not worth:
                    return ""
                gone = min(worth, key=lambda m: worth[m])  # of equals, the first
                self.move(gone, self.lives.pop(gone).phase, "closed", "forgotten")
            life = Life("closed")
        self.lives[model] = life
        return model

    def worth(self, life: Life) -> int:
        if life.phase == "closed":
            row = bool(life.ended) and life.ended[-1][1]
            bad = any(failed or slow for _, failed, slow in self.in_window(life))
            has_window = self.rules.failure_rate or self.rules.slow_call is not None
            return int(row or (bad and bool(has_window)))
        if life.phase == "open" and self.now >= life.until:
            return 2
        return 2 if life.phase == "half_open" and not self.out(life) else 3

    # What operators and accidents do.

    def disable(self) -> None:
        if self.own.phase != "disabled":
            self.enter("", Life("disabled"), "by hand")
        self.forget("disabled")

    def enable(self) -> None:
        if self.own.phase == "disabled":
            self.enter("", Life("closed"), "by hand")

    def reset(self) -> None:
        if self.own.phase != "disabled":
            self.enter("", Life("closed"), "by hand")
        self.forget("closed")

    def crash(self) -> None:
        self.starts += 1
        suspect = self.starts > 2
        for scope, life in {"": self.own, **self.lives}.items():
            if life.phase == "closed":
                self.enter(scope, Life("closed"), "")
            elif life.phase == "half_open" and suspect:
                expire = [p.at + self.rules.ttl for p in self.out(life)]
                until = max([self.now + self.rules.rest, *expire])
                self.enter(scope, Life("open", until), "crashes")

    def forget(self, phase: str) -> None:
        gone, self.lives = self.lives, {}
        for model, life in gone.items():
            self.move(model, life.phase, phase, "by hand")

    def enter(self, scope: str, life: Life, why: str) -> Life:
        before = self.lives[scope] if scope else self.own
        if scope:
            self.lives[scope] = life
        else:
            self.own = life
        self.move(scope, before.phase, life.phase, why)
        return life

    def move(self, scope: str, was: str, now: str, why: str) -> None:
        if was != now:
            self.starts = 0
            self.moves.append((scope, was, now, why))
