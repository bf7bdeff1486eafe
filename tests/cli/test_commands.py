"""What each command prints, for people and for programs."""

from __future__ import annotations

import json

import pytest

from tests.cli import fake_daemon

STATUS = r"""
duckd     0.1.0, pid 4242
state     running, up 2h 14m
requests  1,234 completed, 3 failed since the start, 3 in flight
queue     12 waiting (2 high, 10 normal, 0 low)
spent     $12.35 over all starts

PROVIDER      BREAKER   IN FLIGHT  HEALTH
openai        closed            3     99%
local\x1b[2J  disabled          0      0%
"""

TREE = r"""
root (one_for_one)  running
├── request_queue  running  1 message waiting  2 restarts  last crash: ValueError: bad\nthing
│   \x1b[31m
└── providers (one_for_one)  restarting
"""

PROVIDERS = """
PROVIDER  ADAPTER            BREAKER    HEALTH  BUSY  LATENCY  REQUESTS  FAILURES    COST  MODELS
openai    openai             closed        99%  3/64    812ms     1,237         3  $12.35  a, b, c
                                                                                           and 1
                                                                                           more
local     openai-compatible  half_open     50%   0/4        -         0         0   $0.00  *
COST is over all starts, REQUESTS and FAILURES since the last
"""

MODELS = r"""
MODEL             PROVIDER  FOR        CAN
gpt-4o            openai    chat       stream tools vision schema
gpt-4o            azure     chat       stream schema
evil\x1b]0;x\x07  x         embedding
"""

PRICES = """
MODEL   PROVIDER  INPUT  CACHED  WRITTEN  OUTPUT  PICTURES  ABOVE    SOURCE
gpt-4o  openai      2.5    1.25               10                     list
gpt-4o  azure         1                        2                     config
gpt-4o  azure         2                        4            200,000  config
"""

COST = """
MODEL   REQUESTS  INPUT TOKENS  OUTPUT TOKENS       COST  ESTIMATED  UNPRICED
gpt-4o     1,000     1,234,567             89  $1,234.50         12         0
llama          1             5              6  $0.000002          0         1
total      1,001     1,234,572             95  $1,234.50         12         1
"""

QUEUE = """
PRIORITY  WAITING
high            2
normal         10
low             0
all            12

3 running
"""


def test_prices_come_with_their_date_and_a_warning_of_what_has_none(duck, daemon):
    shown = duck("models", "--prices")
    assert (shown.status, shown.out) == (0, PRICES.removeprefix("\n"))
    date, warning = shown.err.splitlines()
    assert "genai-prices 1.2.3" in date
    assert "2026-11-09" in date
    assert r"no price is known of evil\x1b]0;x\x07 (x)" in warning
    assert duck("models", "--prices", "--json").err == ""


def test_a_long_list_of_models_without_a_price_is_cut(duck, daemon):
    unknown = fake_daemon.MODELS["data"][1]
    its = fake_daemon.MODELS | {"data": [unknown | {"id": f"m{n}"} for n in range(12)]}
    daemon.answers["GET /v1/models?details=true"] = its
    warning = duck("models", "--prices").err.splitlines()[1]
    assert "m9 (x) and 2 more:" in warning
    assert "m10" not in warning


@pytest.mark.parametrize(
    ("argv", "picture", "data"),
    [
        (["status"], STATUS, fake_daemon.STATUS),
        (["tree"], TREE, fake_daemon.TREE),
        (["providers"], PROVIDERS, fake_daemon.PROVIDERS),
        (["models"], MODELS, fake_daemon.MODELS),
        (["cost", "--by", "model", "--since", "24h"], COST, fake_daemon.COSTS),
        (["queue"], QUEUE, fake_daemon.QUEUE),
    ],
)
def test_a_picture_for_people_and_the_data_for_programs(
    duck, daemon, argv, picture, data
):
    shown = duck(*argv)
    assert shown == (0, picture.removeprefix("\n"), "")
    plain = duck(*argv, "--json")
    assert (plain.status, plain.err) == (0, "")
    assert json.loads(plain.out) == data
    assert plain.out.isascii()
    assert "\x1b" not in plain.out


def test_the_status_says_what_the_cache_holds_and_how_often_it_was_of_use(duck, daemon):
    cache = {"entries": 1200, "bytes": 3 << 20, "hits": 7, "misses": 5, "coalesced": 2}
    daemon.answers["GET /v1/status"] = fake_daemon.STATUS | {"cache": cache}
    shown = " ".join(duck("status").out.split())
    assert "1,200 replies, 3.0 MiB; 7 hits, 5 misses, 2 coalesced" in shown
    daemon.answers["GET /v1/status"] = fake_daemon.STATUS | {"cache": None}
    assert "replies" not in duck("status").out


def test_on_a_terminal_the_same_is_coloured_unless_no_color_is_set(duck, daemon):
    without = duck("status", terminal=True).out
    assert "\x1b[3" not in without
    del duck.environ["NO_COLOR"]
    coloured = duck("status", terminal=True).out
    assert "\x1b[32m" in coloured  # closed is green
    assert "\x1b[2J" not in coloured


def test_into_a_pipe_without_a_width_nothing_is_cut(duck, daemon):
    del duck.environ["COLUMNS"]
    assert "a, b, c and 1 more\n" in duck("providers").out


@pytest.mark.parametrize(
    ("argv", "asked", "said"),
    [
        (["drain"], "POST /v1/drain", "drains"),
        (["shutdown"], "POST /v1/shutdown", "stops"),
        (["restart", "/providers/my one/"],
         "POST /v1/tree/providers/my%20one/restart", "was crashed"),
        (["providers", "reset", "openai"],
         "POST /v1/providers/openai/reset", "openai: closed"),
    ],
)  # fmt: skip
def test_a_command_that_changes_something_posts_and_tells_on_stderr(
    duck, daemon, argv, asked, said
):
    done = duck(*argv)
    assert (done.status, done.out) == (0, "")
    assert said in done.err
    assert daemon.asked[-1][0] == asked
    told = duck(*argv, "--json")
    assert json.loads(told.out) == daemon.answers[asked]
    assert not told.err


def test_who_disables_a_provider_is_told_how_long_that_lasts(duck, daemon):
    its = {"name": "x", "breaker": "disabled"}
    daemon.answers["POST /v1/providers/x/disable"] = its
    done = duck("providers", "disable", "x")
    assert (done.status, done.out) == (0, "")
    assert done.err == "x: disabled, until duckd is started anew\n"
    assert json.loads(duck("providers", "disable", "x", "--json").out) == its


def test_who_resets_a_disabled_provider_is_told_that_it_stays_disabled(duck, daemon):
    daemon.answers["POST /v1/providers/x/reset"] = {"name": "x", "breaker": "disabled"}
    done = duck("providers", "reset", "x")
    assert done.status == 0
    assert "x: stays disabled" in done.err
    assert "`duck providers enable x`" in done.err


WHY = "12 of the last 20 requests took longer than slow_call, 5 s, to begin"
OPEN = {"breaker": "open", "breaker_why": WHY, "breaker_wait_s": 41.2}
CLOSED = {"breaker": "closed", "breaker_why": None, "breaker_wait_s": None}
PROBED = CLOSED | {"breaker": "half_open", "breaker_why": "others are finding out"}


@pytest.mark.parametrize("command", ["providers", "status"])
def test_breakers_that_are_not_closed_are_shown_with_why_and_until_when(
    duck, daemon, command
):
    by_model = {"gpt-4o-2026-01-01": OPEN, "gpt-4o-mini": CLOSED, "o9": PROBED}
    listed = fake_daemon.PROVIDERS["providers"]
    its = [listed[0] | CLOSED | {"breakers": by_model}, listed[1] | OPEN]
    daemon.answers["GET /v1/providers"] = {"providers": its}
    named = {"providers": {each["name"]: each for each in its}}
    daemon.answers["GET /v1/status"] = fake_daemon.STATUS | named
    duck.environ["COLUMNS"] = "80"
    lines = duck(command).out.splitlines()
    assert max(map(len, lines)) <= 80
    (at,) = (n for n, line in enumerate(lines) if line.startswith("NOT CLOSED"))
    rows = lines[at + 1 :]
    assert [row.split()[:4] for row in rows if not row.startswith(" ")] == [
        ["openai:", "gpt-4o-2026-01-01", "open", "41s"],
        ["openai:", "o9", "half_open", "-"],
        ["local", "open", "41s", "12"],
    ]
    assert " ".join(" ".join(rows).split()).count("slow_call, 5 s, to begin") >= 1
    daemon.answers["GET /v1/status"] = fake_daemon.STATUS
    daemon.answers["GET /v1/providers"] = fake_daemon.PROVIDERS
    assert "NOT CLOSED" not in duck(command).out


def test_models_whose_breakers_are_not_closed_may_be_many(duck, daemon):
    by_model = {f"m{number:03}": OPEN for number in range(256)}
    its = fake_daemon.PROVIDERS["providers"][0] | CLOSED | {"breakers": by_model}
    daemon.answers["GET /v1/providers"] = {"providers": [its]}
    shown = duck("providers").out
    assert "openai: m019" in shown
    assert "openai: m020" not in shown
    assert "236 more models" in shown


@pytest.mark.parametrize("columns", [70, 80, 100])
def test_a_narrow_terminal_has_what_providers_have_cost_and_done(duck, daemon, columns):
    big = {"cost_usd": "12345.67", "requests": 1234567, "failures": 1234}
    its = [each | big for each in fake_daemon.PROVIDERS["providers"]]
    daemon.answers["GET /v1/providers"] = {"providers": its}
    duck.environ["COLUMNS"] = str(columns)
    head, *lines, since = duck("providers").out.splitlines()
    assert since.startswith("COST is over all starts")
    assert max(map(len, [*lines, since])) <= columns
    assert "…" not in "".join([head, *lines])
    for line in lines if columns < 100 else lines[:1]:
        assert {"$12,345.67", "1,234,567", "1,234"} <= set(line.split())
    assert ("MODELS" in head) == (columns == 100)


def test_a_check_of_a_provider_fails_if_it_does_not_answer(duck, daemon):
    checked = duck("providers", "check", "openai")
    assert checked.status == 1
    assert checked.out == "openai does not answer: no\\x1bkey\n"
    assert duck("providers", "reset").status == 2


def test_a_check_of_all_providers_fails_if_one_does_not_answer(duck, daemon):
    checked = duck("providers", "check")
    assert checked.status == 1
    rows = [line.split() for line in checked.out.splitlines()]
    assert ["openai", "openai", "yes", "12ms"] in rows
    assert any(row[:3] == ["local", "ollama", "no"] for row in rows)
    told = duck("providers", "check", "--json")
    assert told.status == 1
    assert len(json.loads(told.out)["providers"]) == 2


def test_what_a_command_does_not_find_is_its_failure(duck, daemon):
    failed = duck("restart", "nowhere")
    assert failed.status == 1
    assert failed.err == "duck: there is nothing at this path (not_found)\n"


def test_the_doctor_tells_a_missing_daemon_from_other_failures(duck):
    failed = duck("doctor", "--json")
    assert failed.status == 69
    verdicts = {f["subject"]: f["verdict"] for f in json.loads(failed.out)}
    assert verdicts["daemon"] == "failed"
    assert verdicts["config"] == verdicts["directory"] == verdicts["state"] == "ok"
    assert verdicts["sqlite"] != "failed"


def test_the_doctor_is_content_with_a_daemon_that_is_well(duck, daemon):
    duck.socket.chmod(0o600)
    assert duck("doctor").status == 0
    duck.socket.chmod(0o666)
    assert "failed" in duck("doctor").out
    duck.directory.chmod(0o777)
    assert duck("doctor").status == 1


def test_the_doctor_notices_another_version(duck, daemon):
    duck.socket.chmod(0o600)
    daemon.answers["GET /v1/version"] = {"version": "0.0.1"}
    warned = duck("doctor")
    assert warned.status == 0
    assert "runs 0.0.1" in warned.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_its_options(duck, shell):
    from duckservice.cli.parser import COMMANDS

    script = duck("completion", shell).out
    for command in COMMANDS:
        assert command.name in script
    assert "no-stream" in script
    assert "enable" in script  # a choice of `providers`


def test_a_completion_script_is_valid_for_its_shell(duck, tmp_path):
    import subprocess

    script = tmp_path / "completion"
    script.write_text(duck("completion", "bash").out)
    subprocess.run(["bash", "-n", script], check=True)
    words = "COMP_WORDS=(duck co); COMP_CWORD=1; _duck; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "-c", f"source {script}; {words}"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["cost", "config", "completion"]
