"""What /metrics promises: figures that are those of what was done, and bounded labels."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import attrs
import pytest
import trio
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from duckservice.actors.circuit_breaker import CircuitBreaker
from duckservice.config import BudgetConfig, LimitsConfig, RetryConfig
from duckservice.errors import DuckError, ProviderError
from duckservice.metrics.histogram import Histogram
from duckservice.metrics.table import METRICS, docs_table
from duckservice.metrics.tally import (
    DYNAMIC,
    LABELS_MAX,
    OTHER,
    Labels,
    Tally,
    actor_label,
)
from duckservice.providers.mock_script import MockScript
from duckservice.running import open_running
from duckservice.tree import Seams
from tests.gateway.job_service import BrokenStore
from tests.jobs.conftest import job, mock, running
from tests.service.conftest import chat, mock_config
from tests.service.test_event_hub import attempt


@pytest.fixture(autouse=True)
def _rendered_here(monkeypatch):
    """While all tasks wait for a thread, the clock of a test would jump."""

    async def inline(function, *args):
        return function(*args)

    monkeypatch.setattr("duckservice.metrics.metrics.trio.to_thread.run_sync", inline)


class Scrape:
    """The samples of one answer."""

    def __init__(self, text: str) -> None:
        self.families = {its.name: its for its in parse(text)}
        self.samples = [s for its in self.families.values() for s in its.samples]

    def __call__(self, name: str, **labels: str) -> float | None:
        """Return the sum over what matches; None if there is nothing."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == f"duck_{name}" and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None


async def scraped(service) -> Scrape:
    body, content_type = await service.metrics()
    assert content_type.startswith("text/plain; version=0.0.4")
    return Scrape(body.decode())


async def test_requests_and_attempts_are_counted_as_they_ended(autojump_clock) -> None:
    down = ProviderError("down", provider="a")
    script = MockScript(latency=2.0, errors={1: down, 4: down, 5: down})
    once = RetryConfig(max_attempts=1)
    config = mock_config("a", retry=once)
    async with running(config, a=mock("a", script)) as (service, _):
        done = Counter()
        for _ in range(5):
            try:
                await service.complete(chat("hi"))
                done["ok"] += 1
            except DuckError as error:
                done[error.code] += 1
        with trio.move_on_after(1):
            await service.complete(chat("hi"))
        its = await scraped(service)
        assert done == {"ok": 2, "provider_error": 3}
        for outcome, count in {**done, "cancelled": 1}.items():
            labels = {"operation": "chat", "outcome": outcome}
            assert its("requests_finished_total", **labels) == count
        assert its("requests_finished_total") == 6
        assert its("requests_in_flight") == 0
        attempts = service.parts.board.providers["a"].requests
        assert its("provider_attempts_total", provider="a") == attempts
        name = "provider_request_duration_seconds"
        labels = {"provider": "a", "model": "mock-1", "operation": "chat"}
        assert its(f"{name}_count", **labels) == attempts
        assert its(f"{name}_bucket", **labels, le="+Inf") == attempts
        assert its("provider_attempts_total", outcome="ok") == 2
        assert its(f"{name}_bucket", **labels, le="2.5") == attempts


async def test_tokens_and_cost_are_those_of_the_accounts(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        for words in ("one", "one two", "one two three"):
            await service.complete(chat(words))
        await trio.sleep(1)
        costs, its = await service.costs("total"), await scraped(service)
        total = costs["total"]
        of_model = {"provider": "a", "model": "mock-1"}
        for kind in ("input", "output", "cached"):
            found = its("tokens_total", **of_model, type=kind)
            assert found == total[f"{kind}_tokens"]
        assert its("cost_usd_total", **of_model) == float(total["cost_usd"]) > 0


async def test_jobs_are_counted_by_state_and_by_their_end(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        for _ in range(3):
            submitted = await service.jobs.submit(job("hi", priority="low"))
            await service.jobs.wait(submitted.job.id)
        held = await service.jobs.submit(job("hi", hold=True))
        other = await service.jobs.submit(job("hi", hold=True))
        await service.jobs.cancel(other.job.id)
        its = await scraped(service)
        counts = await service.jobs.counts()
        assert its("jobs", state="completed") == counts["completed"] == 3
        assert its("jobs", state="suspended") == 1
        assert its("jobs_finished_total", outcome="completed", model="mock-1") == 3
        assert its("jobs_finished_total", outcome="cancelled") == 1
        assert its("job_wait_seconds_count", priority="low") == 3
        assert held.job.id not in str(its.samples)


async def test_the_breaker_shows_its_state_and_its_moves(autojump_clock) -> None:
    async with running(mock_config("a", "b"), a=mock("a"), b=mock("b")) as (service, _):
        await service.provider_action("a", "disable")
        its = await scraped(service)
        assert (
            its("breaker_state", provider="a"),
            its("breaker_state", provider="b"),
        ) == (3, 0)
        assert its("breaker_transitions_total", provider="a", to="disabled") == 1
        await service.parts.providers["a"].breaker.call(CircuitBreaker.enable)
        its = await scraped(service)
        assert its("breaker_state", provider="a") == 0
        assert its("breaker_transitions_total", provider="a") == 2


async def test_restarts_are_counted_with_their_reason(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        for _ in range(2):
            await service.restart_actor("cost_tracker")
            await trio.sleep(1)
        its = await scraped(service)
        labels = {"actor": "cost_tracker", "reason": "RestartRequested"}
        assert its("actor_restarts_total", **labels) == 2
        assert its("actor_restarts_total") == 2
        assert its("actor_mailbox_depth", actor="request_queue") == 0


async def test_who_was_restarted_for_another_one_says_so(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        await service.restart_actor("dispatcher/dispatcher")
        await trio.sleep(1)
        its = await scraped(service)
        actor = {"actor": "dispatcher/dispatcher"}
        assert its("actor_restarts_total", **actor, reason="RestartRequested") == 1
        assert its("actor_restarts_total", actor="dispatcher/news") == 1
        assert its("actor_restarts_total", reason="sibling") == 1


async def test_the_limits_and_budgets_show_what_is_left(autojump_clock) -> None:
    config = attrs.evolve(
        mock_config("a", limits=LimitsConfig(requests_per_minute=5)),
        budgets={"daily": BudgetConfig(limit_usd="2")},
    )
    async with running(config, a=mock("a")) as (service, _):
        await service.complete(chat("hi", max_tokens=10))
        await trio.sleep(1)
        its = await scraped(service)
        assert its("limiter_available", provider="a", kind="requests") == 4
        assert its("limiter_available", provider="a", kind="tokens") is None
        [budget] = service.budgets()
        assert its("budget_limit_usd", budget="daily") == 2
        assert its("budget_remaining_usd") == float(budget["remaining_usd"]) < 2
        assert its("budget_reserved_usd") == 0


async def test_the_store_shows_its_commits_and_its_size(tmp_path) -> None:
    seams, providers = Seams(emit=lambda _: None), {"a": mock("a")}
    async with open_running(
        mock_config("a"), providers=providers, seams=seams, state_dir=tmp_path
    ) as service:
        submitted = await service.jobs.submit(job("hi"))
        await service.jobs.wait(submitted.job.id)
        its = await scraped(service)
        commits = its("store_commit_seconds_count")
        assert commits >= 4
        assert its("store_batch_size_count") == commits
        assert its("store_batch_size_sum") >= commits
        assert its("store_used_bytes") > 0
        assert its("store_up") == 1


async def test_a_store_that_fails_costs_its_own_figures_only(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        service._slot._opened = BrokenStore()
        its = await scraped(service)
        assert its("store_up") == 0
        assert its("jobs") is None
        assert its("queue_waiting") == 0


async def test_a_store_that_hangs_holds_a_scrape_up_for_moments(autojump_clock) -> None:
    class Hangs:
        def __getattr__(self, name):
            async def hang(*args, **kwargs):
                await trio.sleep_forever()

            return hang

    async with running(mock_config("a"), a=mock("a")) as (service, _):
        kept, service._slot._opened = service._slot._opened, Hangs()
        with trio.fail_after(10):
            its = await scraped(service)
        service._slot._opened = kept
        assert its("store_up") == 0
        assert its("build_info") == 1


async def test_every_metric_of_the_table_is_there_and_no_other(tmp_path) -> None:
    config = mock_config("a")
    seams, providers = Seams(emit=lambda _: None), {"a": mock("a")}
    async with open_running(
        config, providers=providers, seams=seams, state_dir=tmp_path
    ) as service:
        await service.complete(chat("hi"))
        families = (await scraped(service)).families
        kinds = {its.name.removesuffix("_total"): its.kind for its in METRICS}
        kinds.pop("duck_cache_requests")  # where the cache is enabled only
        assert {name: its.type for name, its in families.items()} == kinds
        labels = {its.name: set(its.labels) for its in METRICS}
        for family in families.values():
            for sample in family.samples:
                name = family.name + "_total" * (family.type == "counter")
                assert set(sample.labels) - {"le"} == labels[name]


async def test_openmetrics_is_spoken_to_who_asks_for_it(autojump_clock) -> None:
    accept = 'application/openmetrics-text;version="9.9\r\nevil: 1";q=0.5,*/*;q=0.1'
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        await service.complete(chat("hi"))
        body, content_type = await service.metrics(accept)
        assert content_type.startswith("application/openmetrics-text; version=1.0.0")
        assert "evil" not in content_type
        names = {its.name for its in parse_openmetrics(body.decode())}
        assert "duck_requests_finished" in names


async def test_two_services_have_nothing_in_common(autojump_clock) -> None:
    async with (
        running(mock_config("a"), a=mock("a")) as (one, _),
        running(mock_config("a"), a=mock("a")) as (other, _),
    ):
        await one.complete(chat("hi"))
        assert (await scraped(one))("requests_finished_total") == 1
        assert (await scraped(other))("requests_finished_total") is None


async def test_the_loop_is_watched_while_somebody_scrapes(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        await trio.sleep(100)
        assert (await scraped(service))("loop_lag_seconds_count") == 0
        await trio.sleep(100.5)
        assert (await scraped(service))("loop_lag_seconds_count") == 100
        await trio.sleep(10_000)
        assert (await scraped(service))("loop_lag_seconds_count") == 401


async def test_a_loop_that_is_held_up_shows(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        await scraped(service)
        await trio.sleep(1.5)
        autojump_clock.jump(2.0)  # as a task that computes for so long
        await trio.sleep(0.1)
        its = await scraped(service)
        assert its("loop_lag_seconds_bucket", le="1.0") == 1
        assert its("loop_lag_seconds_sum") == pytest.approx(1.5)


# Labels.


def test_no_more_models_are_told_apart_than_the_limit() -> None:
    labels = Labels()
    names = [f"model-{number}" for number in range(LABELS_MAX + 50)]
    told = {labels.of(name) for name in names}
    assert told == {*names[:LABELS_MAX], OTHER}
    assert labels.of(names[0]) == names[0], "who is known stays known"
    assert labels.of(names[-1]) == OTHER


@pytest.mark.parametrize("name", ["x" * 101, "sk-abcdefghijklmnopqrstuvwxyz"])
def test_what_is_no_name_becomes_no_label(name) -> None:
    assert Labels().of(name) == OTHER


def test_a_name_that_is_no_text_can_be_written() -> None:
    assert Labels().of("\ud800").encode() == b"\\ud800"


async def test_labels_are_bounded_in_the_answer_too(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        for number in range(LABELS_MAX + 20):
            service.seams.emit(attempt(model=f'evil"\n{number}'))
        its = await scraped(service)
        name = "duck_provider_time_to_first_chunk_seconds"
        models = {sample.labels["model"] for sample in its.families[name].samples}
        assert len(models) == LABELS_MAX + 1


async def test_jobs_and_batches_become_no_labels(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        nodes = service.root.inspect().walk()
        assert {node.path for node in nodes if node.kind == "dynamic"} == DYNAMIC
    assert actor_label("dispatcher/jobs/job_17") == "dispatcher/jobs/*"
    assert actor_label("providers/a/client") == "providers/a/client"
    assert actor_label("") == "root"


# The parts.


def test_a_histogram_counts_what_is_at_most_as_large_as_each_bound() -> None:
    its = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        its.add(value)
    assert list(its.cumulated()) == [(1.0, 2), (2.0, 3), (float("inf"), 4)]
    assert (its.count, its.sum) == (4, 10.0)
    twin = its.copy()
    its.add(1.0)
    assert (twin.count, its.count) == (4, 5)


def test_a_copy_of_the_tally_stays_as_it_is() -> None:
    its = Tally()
    its.add(attempt())
    twin = its.copy()
    its.add(attempt())
    assert twin.attempts == {("a", "ok"): 1}
    assert twin.durations["a", "m", "unknown"].count == 1
    assert its.attempts == {("a", "ok"): 2}


def test_who_is_not_scraped_does_not_import_the_library() -> None:
    code = (
        "import sys, duckservice.daemon, duckservice.cli.parser;"
        "sys.exit(any(m.startswith('prometheus_client') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_document_has_every_metric() -> None:
    document = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert docs_table() in document.read_text()
    named = set(re.findall(r"\bduck_[a-z_]+", document.read_text()))
    suffix = re.compile("_(bucket|sum|count)$")
    assert {suffix.sub("", name) for name in named} == {its.name for its in METRICS}
