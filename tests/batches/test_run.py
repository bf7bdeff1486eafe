"""A batch, from its order to its files."""

from __future__ import annotations

import pytest
import trio

from duckservice.batches import run as batch_run
from duckservice.config import RetryConfig
from duckservice.core.job import JobState
from duckservice.core.pricing import pico
from duckservice.errors import Conflict, NotFound
from duckservice.jobs.jobs import JobFilter
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from duckservice.store.memory import open_memory
from tests.batches.conftest import ended, number, order, plain, put, results
from tests.jobs.conftest import mock, running
from tests.service.conftest import mock_config

ONE_TRY = RetryConfig(max_attempts=1)


async def test_every_line_has_one_answer(autojump_clock) -> None:
    async with open_memory() as store:
        await put(store, plain("a", "b") + b"\n\n" + plain("c"))
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            made = await service.batch_jobs.create(order(metadata={"k": "v"}))
            assert made.batch.status == "validating"
            view = await ended(service, made.batch.id)
            answers, errors = await results(store, view)
            jobs = await service.jobs.list_jobs(JobFilter(batch=made.batch.id))
    assert view.batch.status == "completed"
    assert sorted(map(number, answers)) == [1, 2, 5]
    assert errors == []
    texts = {
        each["custom_id"]: each["response"]["body"]["choices"][0]["message"]["content"]
        for each in answers
    }
    assert texts == {"line-1": "a", "line-2": "b", "line-5": "c"}
    tally = view.tally
    assert (tally.total, tally.completed, tally.failed) == (3, 3, 0)
    assert tally.cost == sum(each.job.cost for each in jobs.jobs) > 0
    assert tally.usage.output_tokens == 3
    assert list(view.details.times) == ["in_progress", "finalizing", "completed"]
    assert {each.job.line for each in jobs.jobs} == {1, 2, 5}


async def test_what_fails_is_in_the_file_of_errors(autojump_clock) -> None:
    data = plain("ok") + plain("bad", model="mock-fail")
    async with open_memory() as store:
        await put(store, data)
        config = mock_config("m", retry=ONE_TRY)
        async with running(config, store, m=mock("m")) as (service, _):
            made = await service.batch_jobs.create(order())
            view = await ended(service, made.batch.id)
            answers, errors = await results(store, view)
    assert view.batch.status == "completed"
    assert list(map(number, answers)) == [1]
    [error] = errors
    assert number(error) == 2
    assert error["error"] is None
    assert error["response"]["status_code"] == 502
    assert error["response"]["body"]["error"]["code"] == "provider_error"
    assert view.tally.failed == 1


async def test_bad_lines_fail_a_batch_before_anything_runs(autojump_clock) -> None:
    data = plain("a") + b"nonsense\n" + plain("b", model="unheard-of")
    async with open_memory() as store:
        await put(store, data)
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            made = await service.batch_jobs.create(order())
            view = await ended(service, made.batch.id)
            counts = await service.jobs.counts(batch=made.batch.id)
    assert view.batch.status == "failed"
    assert [(bad.number, bad.code) for bad in view.details.bad] == [
        (2, "invalid_request"),
        (3, "model_not_found"),
    ]
    assert sum(counts.values()) == 0


async def test_bad_lines_may_be_skipped(autojump_clock) -> None:
    data = plain("a") + b"nonsense\n" + plain("b", model="unheard-of") + plain("c")
    async with open_memory() as store:
        await put(store, data)
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            made = await service.batch_jobs.create(order(skip_bad=True))
            view = await ended(service, made.batch.id)
            answers, errors = await results(store, view)
    assert view.batch.status == "completed"
    assert sorted(map(number, answers)) == [1, 4]
    assert errors == []
    assert view.details.bad_lines == 2
    assert view.tally.total == 2


@pytest.mark.parametrize("data", [b"", b"\n \n"])
async def test_a_file_without_a_request_fails(autojump_clock, data) -> None:
    async with open_memory() as store:
        await put(store, data)
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            made = await service.batch_jobs.create(order())
            view = await ended(service, made.batch.id)
    assert view.batch.status == "failed"
    assert [bad.code for bad in view.details.bad] == ["empty_file"]


async def test_what_was_cancelled_says_so_and_keeps_what_was_done(
    autojump_clock,
) -> None:
    async with open_memory() as store:
        await put(store, plain(*"abcdefgh"))
        script = MockScript(latency=10.0)
        config = mock_config("m", max_concurrency=2)
        async with running(config, store, m=mock("m", script)) as (service, _):
            made = await service.batch_jobs.create(order())
            await trio.sleep(15)
            view = await service.batch_jobs.cancel(made.batch.id)
            assert view.batch.status == "cancelling"
            assert view.tally.completed == 2
            began = trio.current_time()
            view = await ended(service, made.batch.id)
            assert trio.current_time() - began < 2
            answers, errors = await results(store, view)
            counts = await service.jobs.counts(batch=made.batch.id)
            with pytest.raises(Conflict, match="cancelled"):
                await service.batch_jobs.cancel(made.batch.id)
    assert view.batch.status == "cancelled"
    assert sorted(map(number, answers + errors)) == list(range(1, 9))
    assert len(answers) == 2
    assert {each["error"]["code"] for each in errors} == {"batch_cancelled"}
    assert counts[JobState.CANCELLED] == 6


async def test_a_batch_that_is_cancelled_at_once_asks_nobody(autojump_clock) -> None:
    async with open_memory() as store:
        await put(store, plain("a", "b"))
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            made = await service.batch_jobs.create(order())
            await service.batch_jobs.cancel(made.batch.id)
            view = await ended(service, made.batch.id)
            answers, errors = await results(store, view)
    assert view.batch.status == "cancelled"
    assert len(answers) + len(errors) == 2


async def test_what_is_not_run_in_time_expires(autojump_clock) -> None:
    async with open_memory() as store:
        await put(store, plain(*"abcd"))
        script = MockScript(latency=10.0)
        config = mock_config("m", max_concurrency=1)
        async with running(config, store, m=mock("m", script)) as (service, _):
            made = await service.batch_jobs.create(order(window=25.0))
            view = await ended(service, made.batch.id)
            answers, errors = await results(store, view)
    assert view.batch.status == "expired"
    assert len(answers) == 2
    assert {each["error"]["code"] for each in errors} == {"batch_expired"}


# The limit of its cost.


async def test_lines_that_might_exceed_the_limit_are_not_run(autojump_clock) -> None:
    async with open_memory() as store:
        await put(store, plain(*"abcdef", max_tokens=100))
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            made = await service.batch_jobs.create(order(max_cost=pico("0.0002")))
            view = await ended(service, made.batch.id)
            answers, errors = await results(store, view)
            jobs = (await service.jobs.list_jobs(JobFilter(batch=made.batch.id))).jobs
    assert view.tally.cost <= pico("0.0002")
    assert len(answers) == len(jobs) > 0
    assert len(errors) == 6 - len(answers)
    assert sorted(map(number, answers + errors)) == [1, 2, 3, 4, 5, 6]
    assert {each["error"]["code"] for each in errors} <= {"budget_exceeded"}


async def test_what_was_reserved_and_not_spent_lets_others_run(autojump_clock) -> None:
    async with open_memory() as store:
        await put(store, plain(*"abcdef", max_tokens=100))
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            # Room for the worst case of one line, and of what all of them really cost.
            made = await service.batch_jobs.create(order(max_cost=pico("0.00015")))
            view = await ended(service, made.batch.id)
    assert view.tally.completed == 6
    assert view.tally.cost <= pico("0.00015")


async def test_what_runs_could_all_cost_its_most_and_stay_in_the_limit(
    autojump_clock,
) -> None:
    limit, seen = pico("0.0003"), 0
    # Some are done while others still run, and make room for the next.
    slow = plain("a", model="mock-slow", max_tokens=100)
    fast = plain("a", max_tokens=100)
    async with open_memory() as store:
        await put(store, (slow + slow + fast) * 4)
        provider = MockProvider("m", models=("mock-*",))
        async with running(mock_config("m"), store, m=provider) as (service, _):
            made = await service.batch_jobs.create(order(max_cost=limit))
            batch = made.batch.id
            for _ in range(100):
                await trio.sleep(0.25)
                listed = await service.jobs.list_jobs(JobFilter(batch=batch))
                jobs = [view.job for view in listed.jobs]
                most = [its.cost if its.state.final else its.max_cost for its in jobs]
                assert sum(most) <= limit
                seen = max(seen, sum(not its.state.final for its in jobs))
            assert (await service.batch_jobs.get(batch)).tally.completed == 12
    assert seen > 1


async def test_a_line_without_a_bound_is_bad_under_a_limit_and_nothing_is_run(
    autojump_clock,
) -> None:
    async with open_memory() as store:
        await put(store, plain("a", max_tokens=5) + plain("b"))
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            made = await service.batch_jobs.create(order(max_cost=pico("1")))
            view = await ended(service, made.batch.id)
            jobs = (await service.jobs.list_jobs(JobFilter(batch=made.batch.id))).jobs
    assert view.batch.status == "failed"
    [bad] = view.details.bad
    assert (bad.number, bad.code) == (2, "budget_exceeded")
    assert "max_tokens" in bad.message
    assert not jobs


async def test_lines_without_a_bound_are_left_out_where_bad_ones_are(
    autojump_clock,
) -> None:
    async with open_memory() as store:
        await put(
            store, plain("a", max_tokens=5) + plain("b") + plain("c", max_tokens=5)
        )
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            its = order(max_cost=pico("1"), skip_bad=True)
            made = await service.batch_jobs.create(its)
            view = await ended(service, made.batch.id)
            answers, errors = await results(store, view)
    assert sorted(map(number, answers)) == [1, 3]
    assert not errors
    assert (view.tally.total, view.details.bad_lines) == (2, 1)


async def test_without_a_limit_a_line_needs_no_bound(autojump_clock) -> None:
    async with open_memory() as store:
        await put(store, plain("a"))
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            made = await service.batch_jobs.create(order())
            assert (await ended(service, made.batch.id)).tally.completed == 1


# Size.


async def test_no_more_jobs_wait_than_the_window_has(
    autojump_clock, monkeypatch
) -> None:
    monkeypatch.setattr(batch_run, "WINDOW", 10)
    monkeypatch.setattr(batch_run, "GROUP", 4)
    most = 0
    async with open_memory() as store:
        await put(store, plain(*(f"text {number}" for number in range(60))))
        script = MockScript(latency=1.0)
        async with running(mock_config("m"), store, m=mock("m", script)) as (
            service,
            _,
        ):
            made = await service.batch_jobs.create(order())
            while (view := await service.batch_jobs.get(made.batch.id)).tally.left or (
                view.batch.status != "completed"
            ):
                counts = await service.jobs.counts(batch=made.batch.id)
                open_ = counts[JobState.AVAILABLE] + counts[JobState.EXECUTING]
                most = max(most, open_)
                await trio.sleep(0.25)
            answers, _ = await results(store, view)
    assert 4 <= most <= 10
    assert sorted(map(number, answers)) == list(range(1, 61))


# Orders.


async def test_the_same_order_with_the_same_key_is_one_batch(autojump_clock) -> None:
    async with open_memory() as store:
        await put(store, plain("a"))
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            one = await service.batch_jobs.create(order(idempotency_key="k"))
            two = await service.batch_jobs.create(order(idempotency_key="k"))
            assert one.batch.id == two.batch.id
            with pytest.raises(Conflict, match="key"):
                await service.batch_jobs.create(
                    order(idempotency_key="k", skip_bad=True)
                )
            view = await ended(service, one.batch.id)
    assert view.tally.total == 1


async def test_a_batch_needs_a_file(autojump_clock) -> None:
    async with running(mock_config("m"), m=mock("m")) as (service, _):
        with pytest.raises(NotFound):
            await service.batch_jobs.create(order("file-none"))
        with pytest.raises(NotFound):
            await service.batch_jobs.get("batch_none")
