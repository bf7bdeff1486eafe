"""`duck top`: what its frames hold, how they fit, and what it does to a terminal."""

from __future__ import annotations

import json
from decimal import Decimal
from queue import SimpleQueue

import attrs
import pytest

from duckservice.cli.top.build import Bodies, frame
from duckservice.cli.top.feed import Feed
from duckservice.cli.top.frame import Limit
from duckservice.cli.top.grid import ASCII, UNICODE, Cell, Column, bar, curve, grid
from duckservice.cli.top.history import KEPT, TYPES, History
from duckservice.cli.top.layout import View, lines
from duckservice.cli.top.providers import SORTS
from duckservice.event_stream.words import WORDS
from duckservice.gateway.client import DaemonClient
from duckservice.terminal import CONTROLS
from tests.cli import fake_daemon
from tests.cli.golden import COMMANDS, _scene, frame_of, printed
from tests.cli.test_real_daemon import real  # noqa: F401 - a fixture

NOW = 1_000_000.5


def stop(at: float, took: float = 10.0, **fields) -> dict:
    return {"type": "request.stop", "at": at, "duration_ms": took, **fields}


def failed(at: float, **fields) -> dict:
    return {"type": "request.exception", "at": at, "outcome": "timeout", **fields}


def cost(at: float, usd: str) -> dict:
    its = {"input_tokens": 7, "output_tokens": 5, "cost_usd": usd}
    return {"type": "cost", "at": at, **its}


def history(*events: dict) -> History:
    its = History()
    for event in events:
        its.take(event)
    return its


def text(shown: list) -> str:
    return "\n".join(line.plain for line in shown)


def view(width: int, height: int | None, **more) -> View:
    return View(width=width, height=height, marks=more.pop("marks", UNICODE), **more)


# What was told.


def test_requests_are_counted_over_ten_seconds_and_the_rest_over_a_minute() -> None:
    its = history(
        *(stop(NOW - 200 + n, 5000.0) for n in range(100)),
        *(stop(NOW - 30, float(n)) for n in range(1, 101)),
        failed(NOW - 20),
        *(stop(NOW - 5, 1.0) for _ in range(20)),
        failed(NOW - 1),
        cost(NOW - 61, "100"),
        cost(NOW - 59, "0.1"),
        cost(NOW, "0.2"),
    )
    rates = its.rates(NOW)
    assert rates.requests_per_s == pytest.approx(2.1)
    assert rates.failures_per_s == pytest.approx(0.1)
    assert rates.failed == pytest.approx(2 / 122, abs=1e-4)
    # 20 of 1 ms, and 1 to 100 ms: the 60th and the 114th of 120.
    assert (rates.p50_ms, rates.p95_ms) == (40.0, 94.0)
    assert rates.tokens_per_minute == 24
    assert Decimal(rates.usd_per_minute) == Decimal("0.3")


def test_without_a_request_there_is_no_latency_and_no_share_of_failures() -> None:
    rates = History().rates(NOW)
    assert (rates.p50_ms, rates.p95_ms, rates.failed) == (None, None, None)
    assert rates.requests_per_s == 0


def test_the_curve_ends_with_the_last_whole_second_and_begins_with_what_is_known() -> (
    None
):
    its = history(stop(NOW - 3), stop(NOW - 1), failed(NOW - 1), stop(NOW))
    drawn = its.throughput(NOW)
    assert len(drawn) == KEPT
    assert drawn[-3:] == (1, 0, 2)  # NOW is in a second that is not over
    assert set(drawn[:-3]) == {None}


def test_what_is_older_than_the_curve_is_forgotten() -> None:
    its = history(stop(NOW - KEPT - 10), stop(NOW))
    its.rates(NOW)
    assert sum(n or 0 for n in its.throughput(NOW + 1)) == 1
    assert len(its._ended) == 1


def test_events_of_note_are_told_once_the_newest_first() -> None:
    breaker = {"type": "breaker", "provider": "x", "now": "open"}
    its = history(
        breaker | {"at": 1},
        {"type": "restart", "at": 2, "actor": "a", "what": "started", "incarnation": 1},
        {"type": "restart", "at": 3, "actor": "a", "what": "normal"},
        {"type": "job", "at": 4, "state": "completed"},
        {"type": "restart", "at": 5, "actor": "a", "what": "crashed"},
        stop(6),
        cost(7, "1"),
        breaker | {"at": 8},
        {"type": "job", "at": 9, "state": "discarded"},
    )
    told = [(note.event["at"], note.times) for note in its.notes()]
    assert told == [(9, 1), (8, 2), (5, 1)]


def test_notes_do_not_grow_without_end() -> None:
    its = history(*(failed(n, model=f"m{n}") for n in range(1000)))
    assert len(its.notes()) == 50
    assert its.notes()[0].event["model"] == "m999"


def test_all_types_that_are_asked_for_are_known() -> None:
    assert set(TYPES) <= set(WORDS)


# From answers to a frame.


def bodies(**changes) -> Bodies:
    its = _scene("busy")["bodies"]
    given = {
        "status": its["GET /v1/status"],
        "providers": its["GET /v1/providers"]["providers"],
        "budgets": its["GET /v1/budgets"]["budgets"],
        "tree": its["GET /v1/tree"],
        "today": {"total": {"cost_usd": "1"}},
        "last_hour": {"total": {"cost_usd": "2"}},
        "jobs": (),
    }
    return Bodies(**(given | changes))


def test_who_waits_for_a_limit_is_told_from_who_waits_for_a_turn() -> None:
    its = frame_of("busy")
    told = {(wait.number, wait.what, wait.why) for wait in its.waits}
    assert (41, "request", "the rate limit of limited") in told
    assert (1, "request", "a turn at anthropic (2 of 2 busy)") in told
    assert (3, "job", "the rate limit of limited") in told
    assert its.queue.running == 2


def test_what_somebody_wanted_to_wait_is_no_bottleneck() -> None:
    assert not any("held" in wait.why for wait in frame_of("busy").waits)


def test_actors_that_do_not_run_come_first_then_those_with_most_restarts() -> None:
    told = [(its.path, its.state) for its in frame_of("busy").actors]
    assert told == [
        ("ledger", "restarting"),
        ("providers/openai/circuit_breaker", "running"),
        ("store_keeper", "running"),
    ]


def test_an_actor_that_does_not_run_comes_before_one_that_crashed_more_often() -> None:
    tree = json.loads(json.dumps(fake_daemon.TREE))
    busy, down = tree["children"]
    busy["restarts"], down["restarts"] = 9, 1
    told = frame(bodies(tree=tree), History(), NOW).actors
    assert [its.path for its in told] == ["providers", "request_queue"]


def test_a_limit_is_what_is_configured_or_what_the_provider_has_told() -> None:
    [given] = [its for its in bodies().providers if its["name"] == "limited"]

    def limit(**limiter):
        provider = given | {"limiter": given["limiter"] | limiter}
        its = frame(bodies(providers=[provider]), History(), NOW)
        return its.providers[0].requests

    both = {"requests_per_minute": 60, "tokens_per_minute": None, "burst": 20}
    assert limit(available=5, limits=both) == Limit(left=5, of=20)
    assert limit(available=5, limits={}) == Limit(left=5, of=None)
    each = {"requests_per_minute": 8, "tokens_per_minute": None}
    assert limit(available=5, limits={}, key_limits=each) == Limit(left=5, of=8)
    two = {"key_limits": each, "keys": [{"available": 1}, {"available": 4}]}
    assert limit(available=5, limits={}, **two) == Limit(left=5, of=16)
    assert limit(available=5, limits=both | {"burst": 12}, **two).of == 12
    assert limit(available=None, told={}) is None
    told = {
        "a": {"available": 9, "requests_limit": 10},
        "b": {"available": 1, "requests_limit": 10},
    }
    assert limit(available=None, told=told) == Limit(left=1, of=10)


@pytest.mark.parametrize(
    ("left", "of", "used"),
    [(10, 10, 0.0), (0, 10, 1.0), (-5, 10, 1.0), (5, None, None)],
)
def test_no_more_than_all_of_a_limit_is_used(left, of, used) -> None:
    assert Limit(left=left, of=of).used == used


def test_a_daemon_of_an_older_version_is_shown_as_far_as_it_tells() -> None:
    status = fake_daemon.STATUS
    its = bodies(status=status, providers=(), budgets=(), tree=fake_daemon.TREE)
    shown = text(lines(frame(its, History(), NOW), view(80, 24)))
    assert "12 waiting (2 high, 10 normal, 0 low)" in shown


# Lines.


@pytest.mark.parametrize("which", ["busy", "quiet"])
@pytest.mark.parametrize("marks", [UNICODE, ASCII])
def test_no_line_is_too_wide_and_there_are_not_too_many(which, marks) -> None:
    its = frame_of(which)
    for width in (1, 7, 20, 39, 60, 79, 80, 120, 149, 150, 200, 300):
        for height in (1, 2, 5, 6, 9, 14, 24, 40, 60, 100):
            shown = lines(its, view(width, height, keys=True, marks=marks))
            assert len(shown) == height, (width, height)
            assert max(line.cell_len for line in shown) <= width, (width, height)


def test_in_24_lines_of_80_columns_there_is_something_of_everything() -> None:
    shown = text(lines(frame_of("busy"), view(80, 24, keys=True)))
    for head in ("QUEUE", "PROVIDER", "BUDGET", "JOB", "ACTOR", "EVENTS", "q quit"):
        assert f"\n{head}" in shown
    assert all(name in shown for name in ("broken", "openai", "anthropic", "limited"))


def test_nothing_is_cut_where_there_is_room() -> None:
    shown = text(lines(frame_of("busy"), view(200, 60, keys=True)))
    assert "…" not in shown
    assert "  +" not in shown


def test_what_others_have_written_can_only_be_read() -> None:
    its = frame_of("busy")
    evil = "x\x1b]0;t\x07\u202e\n\u2028"
    hostile = attrs.evolve(
        its,
        lost=evil,
        waits=[attrs.evolve(each, why=evil) for each in its.waits],
        providers=[attrs.evolve(each, name=evil, why=evil) for each in its.providers],
        budgets=[attrs.evolve(each, name=evil) for each in its.budgets],
        jobs=[attrs.evolve(each, model=evil, waits_for=evil) for each in its.jobs],
        actors=[attrs.evolve(each, path=evil, last_crash=evil) for each in its.actors],
        notes=[attrs.evolve(each, event=each.event | {"model": evil}) for each in its.notes],
        daemon=attrs.evolve(its.daemon, version=evil, store=evil),
    )  # fmt: skip
    for line in lines(hostile, view(200, 60)):
        assert not CONTROLS.search(line.plain)


def test_names_in_wide_letters_are_measured_as_they_are_drawn() -> None:
    columns = (Column("A", grows=True), Column("B", right=True))
    rows = [(Cell("日本語日本語"), Cell("1")), (Cell("abc"), Cell("22"))]
    head, drawn = grid(columns, rows, 80, UNICODE)
    assert [line.cell_len for line in (head, *drawn)] == [16, 16, 16]
    _, drawn = grid(columns, rows, 10, UNICODE)
    assert max(line.cell_len for line in drawn) <= 10
    assert drawn[0].plain.startswith("日")


def test_a_column_that_has_no_room_goes_the_dearest_stays() -> None:
    columns = (Column("NAME"), Column("FIRST", drop=2), Column("SECOND", drop=1))
    rows = [(Cell("name"), Cell("first"), Cell("second"))]
    for width, heads in ((19, "NAME FIRST SECOND"), (18, "NAME SECOND"), (9, "NAME")):
        head, _ = grid(columns, rows, width, UNICODE)
        assert head.plain.split() == heads.split()


def test_a_bar_is_full_only_where_nothing_is_left() -> None:
    assert bar(0.999, 8, ASCII) == "#######."
    assert bar(1.0, 8, ASCII) == "########"
    assert bar(0.0, 8, ASCII) == "........"
    assert bar(7.0, 8, ASCII) == "########"


def test_a_curve_shows_little_as_more_than_nothing() -> None:
    assert curve((None, 0, 1, 1000), 10, UNICODE) == " ▁▂█"
    assert curve((5, 0, 0), 2, UNICODE) == "▁▁"
    assert curve((), 5, UNICODE) == ""


@pytest.mark.parametrize("sort", SORTS)
def test_providers_are_sorted_by_what_was_chosen(sort) -> None:
    shown = lines(frame_of("busy"), view(120, 40, sort=sort, keys=True))
    plain = [line.plain for line in shown]
    [at] = [n for n, line in enumerate(plain) if line.startswith("PROVIDER")]
    first = plain[at + 1].split()[0]
    firsts = {"name": "broken", "load": "limited", "failures": "flaky"}
    assert first == (firsts | {"latency": "anthropic", "spend": "openai"})[sort]
    assert f"sort: {sort}" in plain[-1]


def test_who_is_lost_is_said_and_what_was_known_stays() -> None:
    its = attrs.evolve(frame_of("busy"), lost="connection refused")
    shown = text(lines(its, view(80, 24)))
    assert "lost, trying again: connection refused" in shown
    assert "anthropic" in shown


def test_a_daemon_that_lets_us_wait_is_said_to() -> None:
    its = frame_of("busy")
    assert "no answer" not in text(lines(its, view(80, 24, silent_s=1.9)))
    shown = text(lines(its, view(80, 24, silent_s=4.2)))
    assert "no answer for 4s: what is shown is from before" in shown
    assert "anthropic" in shown
    lost = attrs.evolve(its, lost="connection refused")
    assert "no answer" not in text(lines(lost, view(80, 24, silent_s=4.2)))


# The command.


@pytest.fixture
def scene(daemon):
    from tests.cli.golden import _Answers

    daemon.answers = _Answers(_scene("busy"))
    today = next(its for q, its in daemon.answers.items() if "by=total" in q)

    class Whenever(dict):
        # The day is today's.
        def get(self, question):
            found = super().get(question)
            return today if found is None and "by=total" in question else found

    daemon.answers = Whenever(daemon.answers)
    return daemon


def test_where_nobody_looks_it_is_one_frame(duck, scene) -> None:
    status, out, err = duck("top")
    assert (status, err) == (0, "")
    assert out.count("PROVIDER") == 1
    assert "\x1b" not in out


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_dumb_terminal_gets_one_frame_without_any_sequence(duck, scene, term) -> None:
    duck.environ["TERM"] = term
    status, out, _ = duck("top", terminal=True)
    assert status == 0
    assert "\x1b" not in out


def test_so_many_frames_as_were_asked_for(duck, scene) -> None:
    argv = ("top", "-n", "3", "--interval", "0.1")
    assert duck(*argv).out.count("PROVIDER") == 3
    told = [json.loads(line) for line in duck(*argv, "--json").out.splitlines()]
    assert len(told) == 3
    assert told[0]["daemon"]["version"] == "0.1.0"
    assert duck(*argv, "--once").out.count("PROVIDER") == 1


@pytest.mark.parametrize(
    "argv", [["--interval", "0"], ["--interval", "nan"], ["-n", "-1"]]
)
def test_what_makes_no_sense_is_refused(duck, argv) -> None:
    assert duck("top", *argv).status == 2


def test_without_a_daemon_it_ends_as_others_do(duck) -> None:
    ended = duck("top")
    assert (ended.status, ended.out) == (69, "")
    assert "start one with: duckd" in ended.err


def test_who_may_not_see_the_providers_is_told_so(duck, scene) -> None:
    message = {"code": "permission_denied", "message": "only the user who runs it"}
    scene.answers["GET /v1/providers"] = {"error": message}
    scene.status["GET /v1/providers"] = 403
    assert duck("top").status == 77


@pytest.mark.parametrize(
    ("environ", "unicode"),
    [
        ({}, True),
        ({"LANG": "en_GB.UTF-8"}, True),
        ({"LC_ALL": "C", "LANG": "en_GB.UTF-8"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
        ({"LC_CTYPE": "C.utf8", "LANG": "C"}, True),
    ],
)
def test_a_locale_without_unicode_gets_ascii(duck, scene, environ, unicode) -> None:
    duck.environ |= environ
    assert duck("top").out.isascii() != unicode


def test_the_feed_catches_up_with_what_was_told_before(daemon) -> None:
    daemon.answers = dict.fromkeys(daemon.answers) | {}
    scene = _scene("busy")
    [question] = [q for q in scene["events"] if "types" in q]
    daemon.answers[question] = [json.dumps(stop(NOW - 2)), json.dumps(failed(NOW - 1))]
    feed, its = Feed(DaemonClient(daemon.path)), History()
    feed.start()
    feed.catch_up(its)
    feed.close()
    assert its.throughput(NOW)[-2:] == (1, 1)


class Asked(SimpleQueue):
    """What a daemon was asked, to be waited for."""

    append = SimpleQueue.put


def test_the_feed_goes_on_behind_the_last_event_that_it_has_read(daemon) -> None:
    [question] = [q for q in _scene("busy")["events"] if "types" in q]
    daemon.answers[question] = [f"{json.dumps(stop(NOW))}\nid: a-7"]
    asked = daemon.asked = Asked()
    feed = Feed(DaemonClient(daemon.path), pause=0.0)
    feed.start()
    first, _, _ = asked.get(timeout=10)
    later, headers, _ = asked.get(timeout=10)
    feed.close()
    assert first == question
    assert later != question
    assert headers["last-event-id"] == "a-7"


def test_the_queue_is_shown_to_who_may_not_see_providers_and_no_failure_is_hidden(
    duck, daemon
) -> None:
    question = "GET /v1/providers"
    for status, code, ends in ((403, "permission_denied", 0), (500, "internal", 1)):
        daemon.answers[question] = {"error": {"code": code, "message": "no"}}
        daemon.status[question] = status
        assert duck("queue").status == duck("status").status == ends


def test_its_golden_frames_are_of_the_command_itself() -> None:
    assert COMMANDS["top"] == ["top", "--once"]
    assert printed("top", _scene("busy"), [], 120).startswith("duckd 0.1.0  running")


def test_it_and_the_real_daemon_agree(duck, real) -> None:  # noqa: F811
    assert duck("ask", "quack").status == 0
    told = json.loads(duck("top", "--json").out)
    assert told["daemon"]["state"] == "running"
    assert [its["name"] for its in told["providers"]] == ["mock"]
    assert told["providers"][0]["asked"] == 1
    assert told["rates"]["requests_per_s"] == pytest.approx(0.1)
    assert told["rates"]["tokens_per_minute"] > 0
    assert sum(n or 0 for n in told["throughput"]) <= 1
    assert "mock" in duck("top").out
