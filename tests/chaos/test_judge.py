"""The verdict, from bytes alone."""

from __future__ import annotations

import json

import attrs
import pytest

from duckservice.chaos.client import Seen
from duckservice.chaos.judge import CODES, Terms, judge
from duckservice.chaos.upstream import Call
from tests.test_docs import all_errors

TEXT = "The answer is a duck."
KEY = "sk-0123456789abcdef0123456789abcdef"


def seen(body=b"", status=200, **more):
    fields = {"headers": {}, "complete": True, "took": 0.1, "timed_out": False}
    return Seen(**{"status": status, "body": body, **fields, **more})


def call(at=0.0, provider="first", sick=True, **more):
    fields = {"nonce": "n", "key": KEY, "foreign_key": False}
    return Call(**{"provider": provider, "at": at, "sick": sick, **fields, **more})


def whole(text=TEXT, finish="stop"):
    choice = {"message": {"content": text}, "finish_reason": finish}
    return json.dumps({"choices": [choice]}).encode()


def delta(text, finish=None):
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


def events(*values):
    lines = (v if isinstance(v, str) else json.dumps(v) for v in values)
    return b"".join(b"data: %b\n\n" % line.encode() for line in lines)


def error(code="timeout", message="too late"):
    return {"error": {"code": code, "message": message}}


TERMS = Terms(text=TEXT, is_stream=False, limit=5.0, calls_max=2, secrets=(KEY,))
STREAM = attrs.evolve(TERMS, is_stream=True)


def outcome(what, calls=None, terms=TERMS):
    verdict = judge(what, [call()] if calls is None else calls, terms)
    return verdict.outcome, verdict.reason


def fails(what, reason, calls=None, terms=TERMS):
    found, why = outcome(what, calls, terms)
    assert found == "failed"
    assert reason in why


def test_a_whole_and_right_answer_is_a_rescue():
    assert outcome(seen(whole()))[0] == "rescued"
    stream = events(delta("The answer "), delta("is a duck.", "stop"), "[DONE]")
    assert outcome(seen(stream), terms=STREAM)[0] == "rescued"


def test_a_typed_error_in_time_is_safe():
    body = json.dumps(error()).encode()
    assert outcome(seen(body, 504)) == ("safe", "timeout (status 504)")
    assert outcome(seen(body, 504), terms=STREAM)[0] == "safe"


def test_a_stream_that_ends_with_an_error_is_safe():
    stream = events(delta("The "), error())
    assert outcome(seen(stream), terms=STREAM) == (
        "safe",
        "timeout (after 4 characters)",
    )


def test_comments_between_events_are_no_fault():
    stream = events(delta("The "))
    stream += b": alive\n\n" + events(delta("answer is a duck.", "stop"), "[DONE]")
    assert outcome(seen(stream), terms=STREAM)[0] == "rescued"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (whole("The answer"), "a truncated answer"),
        (whole(""), "a truncated answer"),
        (whole("A goose."), "a wrong answer"),
        (whole(TEXT + TEXT), "a wrong answer"),
        (whole(None), "a wrong answer"),
        (whole(finish=None), "does not say that it is whole"),
        (b'{"choices": []}', "a wrong answer"),
        (b"", "no JSON"),
        (b"[]", "no JSON"),
        (json.dumps(error()).encode(), "an error with status 200"),
    ],
)
def test_a_200_that_is_not_the_answer_is_a_failure(body, reason):
    fails(seen(body), reason)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (events(delta("The ", "stop"), "[DONE]"), "a truncated answer"),
        (events(delta("The "), "[DONE]"), "a truncated answer"),
        (events(delta(TEXT), "[DONE]"), "does not say that it is whole"),
        (events(delta("The ")), "ended without a word"),
        (events(delta(TEXT, "stop")), "ended without a word"),
        (b"", "ended without a word"),
        (events(delta("The "), error(), "[DONE]"), "behind the end"),
        (events("[DONE]", delta("The ")), "behind the end"),
        (events(delta("The ", "stop"), error()), "presented as whole"),
        (events(delta("The "), delta("The "), error()), "came twice"),
        (events(delta("The "), {"error": {"message": "x"}}), "an untyped error"),
        (events(delta("The "), {"error": "x"}), "an untyped error"),
        (events(delta("The "), "oops"), "no JSON object"),
    ],
)
def test_a_stream_that_does_not_say_how_it_went_is_a_failure(stream, reason):
    fails(seen(stream), reason, terms=STREAM)


def test_an_answer_that_http_says_is_cut_is_a_failure():
    fails(seen(whole(), complete=False), "breaks off")
    stream = events(delta(TEXT, "stop"), "[DONE]")
    fails(seen(stream, complete=False), "ended without", terms=STREAM)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"oops",
        b'{"error": "x"}',
        b'{"error": {"code": "e17"}}',
        b"[1]",
        b'{"error": {"code": "timeout", "message": ""}}',
    ],
)
def test_an_error_without_a_type_is_a_failure(body):
    fails(seen(body, 502), "an untyped error")


def test_a_bug_of_the_daemon_is_a_failure():
    fails(seen(json.dumps(error("internal_error")).encode(), 500), "a bug")


def test_an_error_that_breaks_off_is_a_failure():
    body = json.dumps(error()).encode()
    fails(seen(body, 504, complete=False), "breaks off")


def test_no_answer_at_all_is_a_failure():
    fails(seen(status=None, complete=False), "without an answer")


def test_a_right_answer_that_comes_too_late_is_a_failure():
    fails(seen(whole(), took=5.1), "no end within 5.0 s")
    fails(seen(whole(), timed_out=True), "no end within 5.0 s")


def test_a_right_answer_that_has_cost_too_many_calls_is_a_failure():
    fails(seen(whole()), "3 calls where 2 are allowed", [call(), call(), call()])


def test_the_wrong_error_for_a_fault_is_a_failure():
    terms = attrs.evolve(TERMS, codes={"rate_limited"})
    fails(seen(json.dumps(error()).encode(), 504), "the wrong error", terms=terms)


@pytest.mark.parametrize("shown", [KEY, KEY[:12], KEY[5:17], KEY[-12:]])
def test_a_piece_of_a_key_in_an_answer_is_a_failure(shown):
    body = json.dumps(error(message=f"bad key {shown}")).encode()
    fails(seen(body, 401), "a key is in the answer")
    fails(seen(whole(), headers={"x-debug": shown}), "a key is in the answer")


def test_the_last_four_characters_of_a_key_may_be_shown():
    body = json.dumps(error(message=f"bad key …{KEY[-4:]}")).encode()
    assert outcome(seen(body, 401))[0] == "safe"


def test_to_show_a_provider_the_key_of_another_is_a_failure():
    fails(seen(whole()), "another one's key", [call(foreign_key=True)])


def test_to_ask_again_before_retry_after_is_a_failure():
    terms = attrs.evolve(TERMS, retry_after=1.0)
    fails(seen(whole()), "before its Retry-After", [call(0.0), call(0.9)], terms)
    for later in (call(1.0), call(0.1, "second"), call(0.1, key="another")):
        assert outcome(seen(whole()), [call(0.0), later], terms)[0] == "rescued"


def test_to_ask_again_after_a_part_was_delivered_is_a_failure():
    stream = seen(events(delta("The "), error()))
    calls = [call(0.0, spoke_at=0.1), call(0.3, "second", sick=False)]
    fails(stream, "after a part was delivered", calls, STREAM)
    # A hedge that was sent before that is no second try.
    calls = [call(0.0, spoke_at=0.1), call(0.05, "second", sick=False)]
    assert outcome(stream, calls, STREAM)[0] == "safe"


def test_that_nobody_was_asked_is_a_failure_with_the_reason():
    body = json.dumps(error("model_not_found", "no such model")).encode()
    fails(seen(body, 404), "no provider was asked: no such model", [])
    terms = attrs.evolve(TERMS, needs_call=False)
    assert outcome(seen(body, 404), [], terms)[0] == "safe"


def test_the_judge_knows_every_code_of_the_contract():
    assert CODES | {"internal_error"} == {cls.code for cls in all_errors()}
