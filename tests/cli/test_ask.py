"""`duck ask`: the reply on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json

import pytest

from tests.cli.conftest import Terminal

CHAT = "POST /v1/chat/completions"


def chunk(text=None, **fields):
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}}]
    return json.dumps({"choices": choices, **fields})


USAGE = {"prompt_tokens": 1200, "completion_tokens": 34, "total_tokens": 1234}
STREAM = [
    chunk(""),
    chunk("Hello, "),
    chunk("world"),
    chunk(usage=USAGE),
    "[DONE]",
]
WHOLE = {
    "choices": [{"message": {"role": "assistant", "content": "Hello"}}],
    "usage": USAGE,
}


@pytest.fixture(autouse=True)
def stdin(monkeypatch):
    """Set what comes on stdin; by default there is a terminal."""

    def put(text):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

    monkeypatch.setattr("sys.stdin", Terminal())
    return put


def body_of(daemon):
    [body] = [json.loads(b) for question, _, b in daemon.asked if question == CHAT]
    return body


def test_the_reply_is_streamed_to_stdout_with_one_newline_at_its_end(duck, daemon):
    daemon.answers[CHAT] = STREAM
    assert duck("ask", "hi") == (0, "Hello, world\n", "")
    assert body_of(daemon) == {
        "model": "gpt-4o",  # the first of /v1/models
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_what_is_asked_for_is_sent(duck, daemon):
    daemon.answers[CHAT] = STREAM
    asked = duck(
        "ask", "-m", "m", "-s", "be brief", "--priority", "low", "--max-tokens", "9", "hi"
    )  # fmt: skip
    assert asked.status == 0
    body = body_of(daemon)
    assert body["model"] == "m"
    assert body["max_tokens"] == 9
    assert body["messages"][0] == {"role": "system", "content": "be brief"}
    assert daemon.asked[0][0] == CHAT  # nobody asked for the models
    assert daemon.asked[0][1]["duck-priority"] == "low"


@pytest.mark.parametrize("word", ["off", "refresh"])
def test_the_cache_can_be_left_alone_or_refreshed(duck, daemon, word):
    daemon.answers[CHAT] = STREAM
    assert duck("ask", "--cache", word, "hi").status == 0
    assert daemon.asked[-1][1]["duck-cache"] == word
    assert duck("ask", "hi").status == 0
    assert "duck-cache" not in daemon.asked[-1][1]
    assert duck("ask", "--cache", "on", "hi").status == 2


@pytest.mark.parametrize(
    ("words", "piped", "prompt"),
    [
        (["-"], "from stdin\n", "from stdin\n"),
        ([], "from stdin\n", "from stdin\n"),
        (["sum", "up:", "-"], "text", "sum up:\n\ntext"),
        (["only", "this"], "not read", "only this"),
    ],
)
def test_the_prompt_is_the_words_then_stdin(duck, daemon, stdin, words, piped, prompt):
    daemon.answers[CHAT] = STREAM
    stdin(piped)
    assert duck("ask", *words).status == 0
    assert body_of(daemon)["messages"][0]["content"] == prompt


def test_without_a_prompt_nothing_is_asked(duck, daemon, stdin):
    assert duck("ask").status == 2
    stdin("  \n")
    assert duck("ask", "-").status == 2
    assert not daemon.asked


def test_the_account_is_told_on_a_terminal_or_when_asked_for(duck, daemon):
    daemon.answers[CHAT] = STREAM
    account = "openai · 1,200 in, 34 out tokens · $0.00123\n"
    assert duck("ask", "hi", terminal=True).err == account
    assert duck("ask", "hi", "--verbose").err == account


def test_a_reply_from_the_cache_is_told_as_one(duck, daemon):
    daemon.answers[CHAT] = STREAM
    daemon.headers |= {
        "Duck-Cache": "hit", "Duck-Attempts": "0", "Duck-Cost-Usd": "0",
    }  # fmt: skip
    assert duck("ask", "hi", "-v").err.endswith(" · $0.00 · from the cache\n")


def test_the_whole_reply_can_be_had_at_once(duck, daemon):
    daemon.answers[CHAT] = WHOLE
    assert duck("ask", "hi", "--no-stream") == (0, "Hello\n", "")
    assert "stream" not in body_of(daemon)


def test_json_is_the_daemons_own_answer(duck, daemon):
    daemon.answers[CHAT] = WHOLE
    assert json.loads(duck("ask", "hi", "--json").out) == WHOLE


ATTACK = "a\x1b[2Jb\x1b]0;title\x07c\r\n"


def test_on_a_terminal_a_reply_can_only_print(duck, daemon):
    daemon.answers[CHAT] = [*map(chunk, ATTACK), "[DONE]"]
    assert duck("ask", "hi", terminal=True).out == "abc\n"


def test_into_a_pipe_a_reply_goes_as_it_is(duck, daemon):
    daemon.answers[CHAT] = [*map(chunk, ATTACK), "[DONE]"]
    assert duck("ask", "hi").out == ATTACK


def test_a_refusal_is_printed_as_well(duck, daemon):
    refusal = {"choices": [{"index": 0, "delta": {"refusal": "I must not"}}]}
    daemon.answers[CHAT] = [json.dumps(refusal), "[DONE]"]
    assert duck("ask", "hi").out == "I must not\n"


def test_a_stream_that_fails_keeps_what_came_and_says_so(duck, daemon):
    error = {"error": {"code": "timeout", "message": "too\x1b slow"}}
    daemon.answers[CHAT] = [chunk("Hello"), json.dumps(error)]
    assert duck("ask", "hi") == (75, "Hello\n", "duck: too\\x1b slow (timeout)\n")


def test_a_stream_without_its_end_is_a_failure(duck, daemon):
    daemon.answers[CHAT] = [chunk("Hello")]
    assert duck("ask", "hi") == (1, "Hello\n", "duck: the reply broke off\n")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("provider_error", 1),
        ("rate_limited", 1),
        ("model_not_found", 1),
        ("queue_full", 75),
        ("timeout", 75),
        ("deadline_exceeded", 75),
        ("draining", 75),
        ("permission_denied", 77),
    ],
)
def test_the_exit_code_says_what_kind_of_error_it_was(duck, daemon, code, status):
    daemon.answers[CHAT] = {"error": {"code": code, "message": "no"}}
    daemon.status[CHAT] = 500
    ended = duck("ask", "hi")
    assert (ended.status, ended.out) == (status, "")
    assert ended.err.startswith(f"duck: no ({code})")


@pytest.mark.parametrize("number", ["0", "-1", "x"])
def test_max_tokens_is_a_positive_number(duck, number):
    assert duck("ask", "hi", "--max-tokens", number).status == 2


def test_without_a_model_that_has_a_name_one_must_be_given(duck, daemon):
    daemon.answers["GET /v1/models"] = {"object": "list", "data": []}
    assert duck("ask", "hi").status == 2


def test_without_a_prompt_and_without_stdin_it_asks_for_one(duck, daemon, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    for words in ([], ["-"]):
        ended = duck("ask", *words)
        assert ended.status == 2
        assert "ask what?" in ended.err


@pytest.mark.parametrize("limit", ["0", "-1", "many", "1e3", "9" * 5000])
def test_a_limit_that_is_none_is_refused_in_words(duck, daemon, capsys, limit):
    assert duck("ask", "hi", f"--max-tokens={limit}").status == 2
    assert "must be a whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "meant"), [("gpt-4", '; did you mean "gpt-4o"?'), ("nope", "")]
)
def test_a_model_that_nobody_serves_is_answered_by_where_to_look(
    duck, daemon, asked, meant
):
    daemon.status[CHAT] = 404
    missing = {"code": "model_not_found", "message": f"no provider serves {asked!r}"}
    daemon.answers[CHAT] = {"error": missing}
    ended = duck("ask", "-m", asked, "Hi")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == (
        f"duck: no provider serves {asked!r} (model_not_found);"
        f" `duck models` shows what there is{meant}\n"
    )


def test_a_model_that_nobody_serves_is_told_though_the_models_are_not(duck, daemon):
    daemon.status[CHAT] = 404
    daemon.answers[CHAT] = {"error": {"code": "model_not_found", "message": "none"}}
    daemon.answers["GET /v1/models"] = "<html>"
    assert "none (model_not_found)" in duck("ask", "-m", "x", "Hi").err
