from __future__ import annotations

import math
import statistics
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.core import performance
from duckservice.core.circuit_breaker import Outcome
from duckservice.core.performance import PerformanceMonitor
from duckservice.core.performance_figures import (
    Counts,
    Outlook,
    Sample,
    Spread,
    Statistics,
)

ENDINGS = [
    ("ok", Outcome.SUCCESS),
    ("timeout", Outcome.FAILURE),
    ("provider_error", Outcome.FAILURE),
    ("provider_error", Outcome.NEITHER),  # a refusal has the same code
    ("cancelled", Outcome.NEITHER),
]
#: Whole seconds, so that "as old as the window" is exact.
PAUSES = st.sampled_from([0, 0, 1, 299, 300, 600, 899, 900, 5000])
TIMES = st.sampled_from([0.0, 0.125, 1.0, 2.5, 10.0])


@st.composite
def samples(draw):
    code, outcome = draw(st.sampled_from(ENDINGS))
    return {
        "code": code,
        "outcome": outcome,
        "duration": draw(TIMES),
        "first_token": draw(st.none() | TIMES),
        "output_tokens": draw(st.sampled_from([0, 0, 1, 7, 1000])),
    }


HISTORIES = st.lists(
    st.tuples(PAUSES, st.sampled_from(["a", "b", "c", "d"]), samples()), max_size=40
)


def sample(at: float = 0.0, **more) -> Sample:
    its = {"code": "ok", "outcome": Outcome.SUCCESS, "duration": 1.0, **more}
    return Sample(at=at, **its)


def failure(at: float = 0.0, code: str = "timeout") -> Sample:
    return sample(at, code=code, outcome=Outcome.FAILURE)


class Model:
    """Forgets nothing but models, and counts everything anew whenever it is asked."""

    def __init__(self, most: int, models_max: int) -> None:
        self.most, self.models_max = most, models_max
        self.all: list[Sample] = []
        self.by_model: dict[str, list[Sample]] = {}
        self.news: dict[str, int] = {}
        self.forgot = False

    def track(self, name: str, one: Sample) -> None:
        self.all.append(one)
        if name not in self.by_model and one.outcome is Outcome.NEITHER:
            return
        if name not in self.by_model and len(self.by_model) == self.models_max:
            del self.by_model[min(self.by_model, key=self.news.__getitem__)]
            self.forgot = True
        self.by_model.setdefault(name, []).append(one)
        self.news[name] = len(self.all)

    def check(self, found: Statistics, its: list[Sample], now: float):
        young = [s for s in its if now - s.at < 900][-self.most :]
        check_counts(found.window, young)
        check_counts(found.ever, its)
        well = [s for s in young if s.outcome is Outcome.SUCCESS]
        check_spread(found.latency, [s.duration for s in well])
        begun = [s.first_token for s in young if s.first_token is not None]
        check_spread(found.first_token, begun)
        timed = [s for s in well if s.output_tokens]
        tokens = sum(s.output_tokens for s in timed)
        seconds = sum(Fraction(s.duration) for s in timed)
        if seconds:
            assert found.tokens_per_second == pytest.approx(float(tokens / seconds))
        else:
            assert found.tokens_per_second is None
        self.check_outlook(found.outlook, its, young, now)

    def check_outlook(
        self, found: Outlook, its: list[Sample], young: list[Sample], now: float
    ):
        judged = [s for s in young if s.outcome is not Outcome.NEITHER]
        assert found.samples == len(judged)
        if judged:
            well = sum(s.outcome is Outcome.SUCCESS for s in judged)
            assert found.success_rate == well / len(judged)
        else:
            assert found.success_rate is None
        whole = [(s.at, s.duration) for s in its if s.outcome is Outcome.SUCCESS]
        begun = [(s.at, s.first_token) for s in its if s.first_token is not None]
        assert found.latency_ewma == pytest.approx(weighted(whole))
        assert found.ttft_ewma == pytest.approx(weighted(begun))
        news = [at for at, _ in whole + begun]
        assert found.age == (now - max(news) if news else None)


def weighted(history: list[tuple[float, float]]) -> float | None:
    """Give each value its share, from the newest back: what is left goes to the rest."""
    if not history:
        return None
    left, total = 1.0, 0.0
    for (before, _), (at, value) in zip(history[-2::-1], history[:0:-1], strict=True):
        older = 0.8 * math.exp(-math.log(2) * (at - before) / 60)
        total += left * (1 - older) * value
        left *= older
    return total + left * history[0][1]


def check_counts(found: Counts, its: list[Sample]) -> None:
    def by_code(outcome):
        codes = [s.code for s in its if s.outcome is outcome]
        return {code: codes.count(code) for code in codes}

    assert found.requests == len(its)
    assert found.successes == sum(s.code == "ok" for s in its)
    assert found.failures == by_code(Outcome.FAILURE)
    assert found.not_counted == by_code(Outcome.NEITHER)


def check_spread(found: Spread | None, times: list[float]) -> None:
    if not times:
        assert found is None
        return
    assert found is not None
    assert found.average == pytest.approx(statistics.fmean(times))
    for percent, value in ((50, found.p50), (90, found.p90), (99, found.p99)):
        # Nearest rank, from its definition: the least time of which at least so
        # many percent are no longer.
        fits = [
            t for t in times if sum(x <= t for x in times) * 100 >= percent * len(times)
        ]
        assert value == min(fits)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performance, "SAMPLES_MAX", 3)
    monkeypatch.setattr(performance, "MODELS_MAX", 2)


@pytest.mark.usefixtures("small")
def test_every_figure_is_that_of_counting_anew() -> None:
    reached = Counter[str]()

    @settings(max_examples=200)
    @given(history=HISTORIES, later=PAUSES, reads=st.booleans())
    def property_(history, later, reads) -> None:
        monitor, model, now = PerformanceMonitor(), Model(3, 2), 0.0
        for pause, name, its in history:
            now += pause
            one = Sample(at=now, **its)
            monitor.track(name, one)
            model.track(name, one)
            if reads:  # reading changes no later answer
                monitor.outlook(name, now)
        now += later
        model.check(monitor.statistics(now), model.all, now)
        assert list(monitor.models()) == sorted(model.by_model)
        for name in "abcd":
            its = model.by_model.get(name, [])
            model.check(monitor.statistics(now, name), its, now)
            assert monitor.outlook(name, now) == monitor.statistics(now, name).outlook
        reached["a model that was forgotten"] += model.forgot
        ages = [now - s.at for s in model.all]
        reached["more in the window than are kept"] += sum(a < 900 for a in ages) > 3
        reached["the border of the window"] += 900 in ages

    property_()
    assert min(reached.values()) > 0, reached


@pytest.mark.parametrize("count", [1, 2, 10, 99, 100, 101, 1000])
def test_percentiles_are_measured_times_by_nearest_rank(count) -> None:
    monitor = PerformanceMonitor()
    for number in range(count, 0, -1):
        monitor.track("m", sample(duration=float(number)))
    found = monitor.statistics(0.0).latency
    assert found is not None
    expected = [math.ceil(Fraction(p * count, 100)) for p in (50, 90, 99)]
    assert [found.p50, found.p90, found.p99] == expected


def test_only_the_newest_thousand_are_kept() -> None:
    monitor = PerformanceMonitor()
    for number in range(1500):
        monitor.track("m", failure() if number < 500 else sample())
    its = monitor.statistics(0.0, "m")
    assert its.window.requests == 1000
    assert its.window.success_rate == 1.0
    assert its.outlook.samples == 1000
    assert its.ever.requests == 1500
    assert its.ever.failures == {"timeout": 500}


def test_what_is_as_old_as_the_window_is_left_out_and_not_before() -> None:
    monitor = PerformanceMonitor()
    monitor.track("m", failure(at=100.0))
    assert monitor.outlook("m", 999.9).success_rate == 0.0
    assert monitor.outlook("m", 1000.0).success_rate is None
    assert monitor.statistics(1000.0).ever.requests == 1


def test_what_says_nothing_about_the_provider_changes_no_rate() -> None:
    monitor = PerformanceMonitor()
    monitor.track("m", sample())
    gone = {"code": "cancelled", "outcome": Outcome.NEITHER, "duration": 99.0}
    monitor.track("m", sample(**gone))
    its = monitor.statistics(0.0)
    assert its.window.success_rate == 1.0
    assert its.window.not_counted == {"cancelled": 1}
    assert its.latency is not None
    assert its.latency.average == 1.0


def test_a_first_token_counts_though_its_stream_was_left() -> None:
    monitor = PerformanceMonitor()
    gone = {"code": "cancelled", "outcome": Outcome.NEITHER}
    monitor.track("m", sample())
    monitor.track("m", sample(first_token=0.25, **gone))
    assert monitor.outlook("m", 0.0).ttft_ewma == 0.25


def test_a_quick_failure_makes_nobody_fast() -> None:
    monitor = PerformanceMonitor()
    monitor.track("m", sample(duration=5.0))
    refused = {"code": "timeout", "outcome": Outcome.FAILURE, "duration": 0.01}
    monitor.track("m", sample(**refused))
    assert monitor.outlook("m", 0.0).latency_ewma == 5.0
    assert monitor.outlook("m", 0.0).success_rate == 0.5


def test_names_that_somebody_makes_up_displace_no_model() -> None:
    monitor = PerformanceMonitor()
    monitor.track("real", sample())
    unknown = {"code": "model_not_found", "outcome": Outcome.NEITHER}
    for number in range(1000):
        monitor.track(f"made-up-{number}", sample(**unknown))
    assert monitor.models() == ["real"]
    assert monitor.statistics(0.0).ever.not_counted == {"model_not_found": 1000}


def test_the_memory_is_bounded_whatever_is_asked_for() -> None:
    monitor = PerformanceMonitor()
    for number in range(3 * performance.MODELS_MAX):
        monitor.track("busy", sample())
        monitor.track(f"m{number}", sample())
    assert len(monitor.models()) == performance.MODELS_MAX
    assert "busy" in monitor.models()
    assert monitor.statistics(0.0).ever.requests == 6 * performance.MODELS_MAX


def test_of_what_was_never_asked_nothing_is_known() -> None:
    monitor = PerformanceMonitor()
    assert monitor.outlook("m", 7.0) == monitor.outlook(None, 7.0) == Outlook()
    its = monitor.statistics(7.0)
    assert (its.latency, its.first_token, its.tokens_per_second) == (None,) * 3
    assert its.window.success_rate is None


def test_news_after_a_long_silence_weigh_nearly_all() -> None:
    monitor = PerformanceMonitor()
    monitor.track("m", sample(at=0.0, duration=10.0))
    monitor.track("m", sample(at=0.0, duration=0.0))
    assert monitor.outlook("m", 0.0).latency_ewma == pytest.approx(8.0)
    monitor.track("m", sample(at=3600.0, duration=1.0))
    outlook = monitor.outlook("m", 3601.0)
    assert outlook.latency_ewma == pytest.approx(1.0)
    assert outlook.age == 1.0


def test_the_repr_is_short() -> None:
    monitor = PerformanceMonitor()
    monitor.track("m", sample())
    assert repr(monitor) == "<PerformanceMonitor 1 models, 1 samples>"
