"""What a provider tells with the answers to one key, and which models it is about.

    an answer of model m says "limit 500"   ─>   m is of the group 500
                        "limit 5, 4 left"   ─>   that model is of another group

Most providers limit each model, or class of models, by itself; some limit all of them
together, and no header says which. So models are of one *group*, with one count, if
all limits that were told of them are the same numbers: a limit that all of them share
is then never exceeded. A model of which nothing was told yet is of the only group
there is, or if there are several, of none: its first answer tells.

When a model comes into a group, what it has under way comes with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import attrs

from duckservice.core.rate_hints import RateHints
from duckservice.core.told_group import OUTPUT, Cost, Group, Numbers, UnderWay

MODELS_MAX = 64
"""Of so many it is known what was told; the quietest are forgotten first."""

RESET_MAX = 120.0
"""Seconds; what a provider says is left is not believed for longer."""

COUNT_MAX = 10**15
"""What a provider says above this is no count."""

UNHEARD_MAX = 120.0
"""Seconds after which a request that nobody has ended counts as sent and lost."""


@attrs.define(eq=False)
class _Model:
    """A model of which something was told."""

    group: Group
    said: list[tuple[int, int] | None]
    """Of each part the limit, and the last grant before it was told."""

    def numbers(self) -> Numbers:
        one, two, three, four = (its and its[0] for its in self.said)
        return one, two, three, four

    def hear(self, part: int, limit: int, *, of: int, last: int) -> None:
        """Believe it, but for a higher one that may be older than what is known."""
        known = self.said[part]
        if known is None or of > known[1] or limit < known[0]:
            self.said[part] = limit, last


class Told:
    """What was told of the models of one key, or of a provider with one; it changes."""

    def __init__(self, guard: float = 0.0) -> None:
        """Start with nothing told; each minute is longer by *guard* seconds."""
        self._guard = guard
        self._models: OrderedDict[str, _Model] = OrderedDict()
        """The quietest first."""
        self._groups: dict[Numbers, Group] = {}
        self._under_way: dict[int, UnderWay] = {}
        """By the numbers of the grants; those longest under way are first."""

    def group(self, model: str) -> Group | None:
        """Return what *model* counts in; None: nothing that was told is about it."""
        its = self._models.get(model)
        if its is not None:
            return its.group
        return next(iter(self._groups.values())) if len(self._groups) == 1 else None

    def groups(self) -> Iterator[Group]:
        """Yield each group."""
        yield from self._groups.values()

    def models(self) -> dict[str, Group]:
        """Return of which models something was told, and their groups."""
        return {name: its.group for name, its in self._models.items()}

    def some(self) -> Iterator[str]:
        """Yield one model of each group."""
        yield from {its.group: name for name, its in self._models.items()}.values()

    def knows_of_tokens(self, model: str | None) -> bool:
        """Say whether it matters how many tokens a request to *model* has; None: any."""
        if model is None:
            return any(group.knows_of_tokens for group in self.groups())
        group = self.group(model)
        return group is not None and group.knows_of_tokens

    # What is under way.

    def take(self, now: float, model: str, cost: Cost, number: int) -> None:
        """Note that the grant of that *number* is under way."""
        self._forget_lost(now)
        if model in self._models:
            self._models.move_to_end(model)
        its = self._under_way[number] = UnderWay(now, model, cost)
        group = self.group(model)
        if group is not None:
            group.join(now, its)

    def sent(self, now: float, number: int) -> None:
        """Have it count from *now* on, and not from when it was granted."""
        its = self._under_way.pop(number, None)
        if its is not None:
            self._under_way[number] = its
            its.at = now
            if its.group is not None:
                its.group.sent(now, its)

    def end(self, number: int, actual: Cost) -> None:
        """Have it under way no more: so much was used."""
        its = self._under_way.pop(number, None)
        if its is not None and its.group is not None:
            its.group.end(its, actual)

    def give_back(self, number: int) -> None:
        """Have it under way no more: nothing was sent."""
        its = self._under_way.pop(number, None)
        if its is not None and its.group is not None:
            its.group.leave(its)

    # What the provider tells.

    def learn(
        self, now: float, model: str, hints: RateHints, *, of: int, last: int
    ) -> None:
        """Take what was said with the answer of *model* to grant number *of*.

        *last* is the last grant that was made. It may be any nonsense: what cannot
        be true is left out, and nothing holds for longer than 120 s.
        """
        self._forget_lost(now)
        said = _said(hints)
        if all(limit is None and left is None for limit, left in said):
            return
        group = self._group_of_answer(
            now, model, [limit for limit, _ in said], of=of, last=last
        )
        answered = self._under_way.get(of)
        for part, (_, left_until) in enumerate(said):
            if left_until is None:
                continue
            if part != OUTPUT and answered is not None and answered.group is group:
                # Counted as it comes in; of the output nobody knew yet.
                group.counted(answered, part)
            left, reset = left_until
            group.headrooms[part].hear(left, now + reset, of=of, last=last)

    def _group_of_answer(
        self,
        now: float,
        model: str,
        limits: Sequence[int | None],
        *,
        of: int,
        last: int,
    ) -> Group:
        """Return the group of *model*, now that these *limits* were told of it."""
        its = self._models.get(model)
        known = its is not None
        if its is None:
            its = _Model(Group(self._guard), [None] * len(limits))
        before = its.numbers()
        for part, limit in enumerate(limits):
            if limit is not None:
                its.hear(part, limit, of=of, last=last)
        numbers = its.numbers()
        if not known or numbers != before:
            alone = not any(
                other.group is its.group
                for name, other in self._models.items()
                if name != model
            )
            if numbers in self._groups:
                its.group = self._groups[numbers]
            elif not alone:
                its.group = Group(self._guard)
            # Where it is alone, its group keeps what was taken, with new limits.
            members = [u for u in self._under_way.values() if u.group is its.group]
            its.group.limit(now, numbers, members)
            self._models[model] = its
            self._sort(now, model)
        self._models.move_to_end(model)
        return its.group

    def _sort(self, now: float, latest: str) -> None:
        """Forget what is too much, and bring what is under way to where it belongs."""
        self._models.move_to_end(latest)
        while len(self._models) > MODELS_MAX:
            self._models.popitem(last=False)
        self._groups = {its.group.numbers: its.group for its in self._models.values()}
        for its in self._under_way.values():
            group = self.group(its.model)
            if group is not its.group:
                if its.group is not None:
                    its.group.leave(its)
                if group is not None:
                    group.join(now, its)

    def _forget_lost(self, now: float) -> None:
        while self._under_way:
            number, its = next(iter(self._under_way.items()))
            if its.at + UNHEARD_MAX > now:
                return
            self.end(number, its.cost)


def _said(
    hints: RateHints,
) -> Sequence[tuple[int | None, tuple[int, float] | None]]:
    """Return limit, and rest with its seconds, of each part, if they make sense."""
    said = (
        (hints.requests_limit, hints.requests_remaining, hints.requests_reset),
        (hints.tokens_limit, hints.tokens_remaining, hints.tokens_reset),
        (
            hints.input_tokens_limit,
            hints.input_tokens_remaining,
            hints.input_tokens_reset,
        ),
        (
            hints.output_tokens_limit,
            hints.output_tokens_remaining,
            hints.output_tokens_reset,
        ),
    )
    return [(_count(limit, 1), _left(left, reset)) for limit, left, reset in said]


def _left(left: int | None, reset: float | None) -> tuple[int, float] | None:
    count = _count(left, 0)
    # False for a NaN, too.
    if count is None or reset is None or not reset >= 0:
        return None
    return count, min(reset, RESET_MAX)


def _count(value: int | None, least: int) -> int | None:
    return None if value is None or not least <= value <= COUNT_MAX else value
