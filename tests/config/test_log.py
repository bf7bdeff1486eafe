"""What reaches the log: one line an event, without secrets, whatever happens."""

from __future__ import annotations

import io
import json
import logging
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import structlog
from hypothesis import given, strategies as st

from duckservice import log, redaction
from duckservice.config import Config, LogConfig, ProviderConfig, Secret

CANARY = "canary+4f1b9c/key-of-a-kind"
NOON = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def undo():
    """Leave no set-up and no secret behind."""
    registered = set(redaction._registered)
    handlers = list(logging.getLogger().handlers)
    yield
    redaction._registered.clear()
    redaction._registered.update(registered)
    logging.getLogger().handlers[:] = handlers
    log.setup(LogConfig(), io.StringIO())
    structlog.reset_defaults()


def set_up(stream=None, environ=None, **config):
    stream = io.StringIO() if stream is None else stream
    log.setup(LogConfig(**config), stream, environ=environ or {}, now=lambda: NOON)
    return stream, structlog.get_logger()


def written(stream):
    """Return the events in *stream*, each of which must be one line of JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_time_level_and_name_first():
    stream, logger = set_up()
    logger.info("attempt", provider="openai", status=200, ms=1.5, ok=True, none=None)
    assert stream.getvalue() == (
        '{"timestamp":"2026-11-20T12:00:00.123Z","level":"info","event":"attempt",'
        '"provider":"openai","status":200,"ms":1.5,"ok":true,"none":null}\n'
    )


def test_on_a_terminal_an_event_is_for_eyes():
    stream, logger = set_up(Terminal(), environ={"NO_COLOR": "1"})
    logger.warning("attempt", provider="openai", error="no answer")
    assert stream.getvalue() == (
        '12:00:00 warning  attempt provider=openai error="no answer"\n'
    )


def test_colour_is_for_terminals_without_no_color_only():
    for stream, environ, coloured in (
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (io.StringIO(), {}, False),
    ):
        _, logger = set_up(stream, environ=environ, format="console")
        logger.info("x")
        assert ("\x1b[" in stream.getvalue()) is coloured


def test_the_format_that_is_asked_for_wins_over_the_terminal():
    stream, logger = set_up(Terminal(), format="json")
    logger.info("x")
    assert written(stream)[0]["event"] == "x"


def test_what_is_below_the_level_is_not_written():
    stream, logger = set_up(level="warning")
    logger.info("quiet")
    logger.error("loud")
    assert [e["event"] for e in written(stream)] == ["loud"]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\x1b[2Jb", "a\x9bb", "a\u2028b"])
def test_a_text_cannot_start_a_line_of_its_own_or_draw(form, text):
    stream, logger = set_up(format=form)
    logger.info(text, value=text, nested={"a": [text]})
    line = stream.getvalue().removesuffix("\n")
    assert not set(line) & set("\n\r\x1b\x9b")
    if form == "console":
        assert len(line.splitlines()) == 1


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text()
            | st.binary() | st.dates() | st.decimals() | st.characters(codec=None),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
        max_size=3,
    ),
    st.sampled_from(["json", "console"]),
)  # fmt: skip
def test_any_value_is_one_line_that_can_be_encoded(values, form):
    stream, logger = set_up(format=form)
    logger.info(
        "x", values=values, **{f"k{i}": v for i, v in enumerate(values.values())}
    )
    line = stream.getvalue()
    assert line.encode()
    assert line.count("\n") == 1
    if form == "json":
        assert written(stream)


def test_a_registered_secret_is_redacted_wherever_it_stands():
    log.register_secret(Secret(CANARY))
    stream, logger = set_up()
    logger.info(
        f"event {CANARY}",
        text=f"a {CANARY} b",
        nested={"a": [{CANARY: (CANARY,)}]},
        raw=CANARY.encode(),
        error=ValueError(CANARY),
        path=Path(CANARY),
        encoded="Y2FuYXJ5KzRmMWI5Yy9rZXktb2YtYS1raW5k",
        url="https://x/canary%2B4f1b9c%2Fkey-of-a-kind/",
    )
    assert "canary" not in stream.getvalue()
    assert "Y2FuYXJ5" not in stream.getvalue()
    assert written(stream)[0]["text"] == "a … b"


def test_the_keys_of_a_config_are_registered_at_once():
    headers = {"X-Api-Key": "canary-header", "X-Team": "core-team"}
    provider = ProviderConfig(
        name="x", adapter="mock", api_key=Secret(CANARY), headers=headers
    )
    log.register_config(Config(providers={"x": provider}))
    stream, logger = set_up()
    logger.info("x", a=CANARY, b="canary-header", c="core-team")
    assert "canary" not in stream.getvalue()
    assert "core-team" in stream.getvalue()


@pytest.mark.parametrize(
    "key",
    [
        "sk-abcdefghijklmnop", "sk-ant-api03-abcdef_-ghi", "sk-proj-ab*****yz",
        "AIzaSyA1234567890abcdefghijklm", "gsk_abcdefghijklmnopqrst",
        "xai-abcdefghijklmnopqrst", "hf_abcdefghijklmnopqrst", "AKIAIOSFODNN7EXAMPLE",
        "Bearer abcdefgh.ijk", "bearer abcdefgh", "https://x/?key=abcdefgh&y=1",
        "https://x/?a=b&access_token=abcdefgh",
    ],
)  # fmt: skip
def test_what_is_shaped_like_a_key_is_redacted(key):
    stream, logger = set_up()
    logger.info("x", a=f"before {key} after", b=[key])
    event = written(stream)[0]
    assert "abcdefgh" not in stream.getvalue()
    assert key not in event["a"]
    assert event["a"].startswith("before ")


def test_words_that_look_a_little_like_keys_stay():
    text = "task-force risk-averse sk-learn monkey=1 the bearer of news: key=value"
    stream, logger = set_up()
    logger.info("x", a=text)
    assert written(stream)[0]["a"] == text


def test_a_short_dummy_key_does_not_blank_out_words():
    log.register_secret(Secret("ollama"))
    stream, logger = set_up()
    logger.info("x", provider="ollama")
    assert written(stream)[0]["provider"] == "ollama"


def test_a_traceback_has_no_locals_and_no_secrets():
    log.register_secret(Secret(CANARY))
    stream, logger = set_up()
    hidden = "prompt-of-the-user"
    try:
        raise ExceptionGroup(  # noqa: TRY301 - its traceback is the point
            hidden[:3], [ValueError(f"wrong: {CANARY}")]
        )
    except ExceptionGroup:
        logger.exception("failed")
    [event] = written(stream)
    assert event["level"] == "error"
    assert "ValueError: wrong: …" in event["exception"]
    assert hidden not in event["exception"]


def test_a_value_that_cannot_be_printed_is_no_reason_to_fail():
    class Bad:
        def __repr__(self):
            raise RuntimeError("no")

    stream, logger = set_up()
    loop: list = []
    loop.append(loop)
    logger.info(
        "x", bad=Bad(), loop=loop, big=2**70, huge=-(10**5000), d=Decimal("1.5")
    )
    event = written(stream)[0]
    assert event["bad"] == "<Bad whose repr raises RuntimeError>"
    assert event["big"] == str(2**70)
    assert event["d"] == "1.5"


def test_a_long_text_is_cut():
    stream, logger = set_up()
    logger.info("x", text="y" * 10_000_000)
    assert len(stream.getvalue()) < 20_000


@pytest.mark.parametrize("error", [OSError(28, "no space"), ValueError("closed")])
def test_a_stream_that_fails_is_no_reason_to_fail(error):
    class Full(io.StringIO):
        def write(self, text):
            raise error

    _, logger = set_up(Full())
    logger.info("x")


def test_a_logger_in_use_follows_to_the_new_stream():
    first, logger = set_up()
    logger.info("one")
    second, _ = set_up()
    logger.info("two")
    assert [e["event"] for e in written(first)] == ["one"]
    assert [e["event"] for e in written(second)] == ["two"]


def test_libraries_are_heard_from_warning_on_and_http_never():
    stream, _ = set_up()
    set_up(stream)  # a second set-up must not double the lines
    logging.getLogger("some.library").info("quiet")
    logging.getLogger("some.library").warning("take %s", "care\n")
    logging.getLogger("some.library").log(45, "odd level")
    for name in ("httpx", "httpcore.http11", "hpack"):
        logging.getLogger(name).critical("a URL with a key")
    first, second = written(stream)
    assert (first["level"], first["message"]) == ("warning", "take care\n")
    assert (second["level"], second["logger"]) == ("error", "some.library")


def test_a_librarys_wrong_arguments_are_no_reason_to_fail():
    stream, _ = set_up()
    root = logging.getLogger()
    root.handlers[:] = root.handlers[-1:]  # pytest's own handlers would raise
    logging.getLogger("some.library").warning("%d", "no number")
    assert written(stream)[0]["message"] == "%d"


def test_the_setup_is_for_standard_streams():
    log.setup(LogConfig(level="error"), sys.stderr)
    structlog.get_logger().info("quiet")
