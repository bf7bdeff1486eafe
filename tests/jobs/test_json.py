"""Submissions as JSON: what is read, what is refused by name, what is written."""

from __future__ import annotations

import json

import attrs
import pytest

from duckservice.calls.call import CallOptions
from duckservice.core.job import JobError, submit
from duckservice.errors import InvalidRequest
from duckservice.jobs.as_json import attempt_fields, job_fields, read_submission
from duckservice.jobs.jobs import JobView
from duckservice.store.base import AttemptRecord

NOW = 1_700_000_000.0
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def read(options=None, **fields):
    fields.setdefault("request", REQUEST)
    body = json.dumps(fields).encode()
    return read_submission(body, now=NOW, options=options, options_at=50.0)


def test_the_request_is_kept_byte_for_byte():
    inside = b'{ "model":"m" , "messages" :[{"role":"user","content":"\\u00e4 \\n"}]}'
    body = b'{"request":  ' + inside + b', "priority":"low"}'
    its = read_submission(body, now=NOW)
    assert its.request == inside
    assert (its.kind, its.model, its.priority) == ("chat", "m", "low")


def test_everything_that_may_be_said_is_read():
    its = read(
        priority="high",
        tags={"team": "core"},
        deadline=60,
        not_before="2023-11-14T22:14:00Z",
        max_cost_usd=0.05,
        max_attempts=7,
        on_interrupt="fail",
        hold=True,
    )
    assert its.priority == "high"
    assert its.tags == {"team": "core"}
    assert its.deadline == NOW + 60
    assert its.not_before == pytest.approx(NOW + 40)
    assert its.max_cost == 50_000_000_000
    assert (its.max_attempts, its.on_interrupt, its.hold) == (7, "fail", True)


def test_what_the_body_does_not_say_the_headers_do():
    options = CallOptions(
        priority="low", tags={"a": "1", "b": "2"}, max_cost=5, deadline=80.0
    )
    its = read(options, tags={"b": "3"})
    assert (its.priority, its.max_cost) == ("low", 5)
    assert its.tags == {"a": "1", "b": "3"}
    assert its.deadline == NOW + 30


def test_money_is_read_as_it_was_written():
    assert read(max_cost_usd=0.1).max_cost == 100_000_000_000
    assert read(max_cost_usd="0.000000000001").max_cost == 1
    assert read(max_cost_usd=1e-7).max_cost == 100_000
    assert read(max_cost_usd=3).max_cost == 3 * 10**12


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"kind": "video"}, "kind"),
        ({"kind": "image"}, "request.prompt"),
        ({"kind": 3}, "kind"),
        ({"priority": "urgent"}, "priority"),
        ({"request": None}, "request"),
        ({"request": {"model": "m"}}, "request.messages"),
        ({"request": {"messages": []}}, "request.model"),
        ({"request": 7}, "request"),
        ({"tags": ["a"]}, "tags"),
        ({"tags": {"a": 1}}, "tags.a"),
        ({"tags": {"a": ""}}, "tags.a"),
        ({"tags": {"a\n": "b"}}, "tags"),
        ({"tags": {str(n): "x" for n in range(17)}}, "tags"),
        ({"deadline": -1}, "deadline"),
        ({"deadline": "tomorrow"}, "deadline"),
        ({"deadline": True}, "deadline"),
        ({"deadline": 1e9}, "deadline"),
        ({"not_before": []}, "not_before"),
        ({"not_before": 60, "deadline": 60}, "not_before"),
        ({"max_cost_usd": -1}, "max_cost_usd"),
        ({"max_cost_usd": "NaN"}, "max_cost_usd"),
        ({"max_cost_usd": True}, "max_cost_usd"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"on_interrupt": "ask"}, "on_interrupt"),
        ({"hold": "yes"}, "hold"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert caught.value.param == param


def test_equal_submissions_have_equal_fingerprints_at_any_time():
    one = read(deadline=60)
    later = json.dumps({"deadline": 60, "request": REQUEST}).encode()
    assert read_submission(later, now=NOW + 99).fingerprint == one.fingerprint
    assert read(deadline=61).fingerprint != one.fingerprint
    assert read(priority="low").fingerprint != read().fingerprint
    assert read(CallOptions(tags={"a": "1"})).fingerprint != read().fingerprint


def test_a_job_is_shown_with_all_that_the_contract_names():
    job = submit(read(tags={"a": "b"}), id_="job_1", now=NOW)
    error = JobError(at=NOW, attempt=1, code="timeout", message="late", provider="p")
    job = attrs.evolve(job, errors=(error,), cost=5)
    shown = job_fields(JobView(job, "queued", None))
    contract = (
        "id kind state priority tags submitter attempt max_attempts wait_reason errors"
        " provider model usage cost_usd created_at started_at finished_at maybe_billed"
    )
    assert set(contract.split()) <= shown.keys()
    assert shown["errors"][0]["code"] == "timeout"
    assert shown["cost_usd"] == "0.000000000005"
    assert json.loads(json.dumps(shown)) == shown


def test_an_attempt_in_flight_can_be_shown():
    record = AttemptRecord(
        id="job_1.1",
        job="job_1",
        number=1,
        provider="p",
        model="m",
        reserved=7,
        began_at=NOW,
    )
    shown = attempt_fields(record)
    assert (shown["state"], shown["cost_usd"]) == ("open", None)
    assert json.loads(json.dumps(shown)) == shown
