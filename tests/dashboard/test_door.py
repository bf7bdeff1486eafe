"""Nobody but this user's browser comes in, and no page but the dashboard's own."""

from __future__ import annotations

import json
import re

import trio

from duckservice.dashboard import door
from duckservice.dashboard.entrance import TOKEN_LIFE, Entrance
from duckservice.gateway.server import ServerLimits
from tests.dashboard.conftest import daemon_at, open_stage

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PATHS = ["/", "/static/app.js", "/stream", "/v1/status", "/nothing", "/favicon.ico"]
PAUSE = "/v1/queue/pause"


async def test_a_token_becomes_a_cookie_that_no_script_and_no_other_site_gets(
    stage,
) -> None:
    reply = await stage.browser.enter(stage.dashboard.new_url())
    assert (reply.status, reply.headers["location"]) == (303, "/")
    name, *flags = re.split("=|; ", reply.headers["set-cookie"], maxsplit=1)
    assert name == f"duck-dashboard-{stage.dashboard.port}"
    assert re.fullmatch(
        r"[\w-]{43}; Path=/; HttpOnly; SameSite=Strict", flags[0], re.ASCII
    )
    assert (await stage.browser.get("/")).status == 200


async def test_a_token_is_good_once_and_a_wrong_one_never(stage) -> None:
    url = stage.dashboard.new_url()
    used = (await stage.browser.enter(url)).status
    for path in (url, url + "x", url[:-1], url.partition("=")[0] + "=", "/enter"):
        reply = await stage.browser.enter(path)
        assert reply.status == 403, path
        assert b"duck dashboard" in reply.body
        assert "set-cookie" not in reply.headers
    assert used == 303


async def test_two_tokens_at_once_are_none(stage) -> None:
    url = stage.dashboard.new_url()
    assert (await stage.browser.enter(url + "&token=x")).status == 403


def test_a_token_expires_after_five_minutes() -> None:
    now = 0.0
    entrance = Entrance(1, lambda: now)
    early, late = entrance.offer(), entrance.offer()
    now = TOKEN_LIFE - 0.001
    assert entrance.enter(early)
    now = TOKEN_LIFE
    assert entrance.enter(late) is None
    assert TOKEN_LIFE == 300


def test_what_opens_the_door_has_256_bits_and_is_in_no_repr() -> None:
    entrance = Entrance(1, lambda: 0.0)
    token = entrance.offer()
    cookie = entrance.enter(token)
    assert len({entrance.offer() for _ in range(100)}) == 100
    assert len(token) == 43  # in base64
    assert token not in repr(entrance)
    assert cookie is not None
    assert cookie.partition("=")[2][:43] not in repr(entrance)
    assert token not in cookie


def test_tokens_and_sessions_are_few() -> None:
    entrance = Entrance(1, lambda: 0.0)
    first = entrance.offer()
    for _ in range(100):
        assert entrance.enter(entrance.offer())
    assert entrance.enter(first)
    forgotten = entrance.offer()
    for _ in range(16):
        entrance.offer()
    assert entrance.enter(forgotten) is None


async def test_without_the_cookie_there_is_nothing(stage) -> None:
    name = f"duck-dashboard-{stage.dashboard.port}"
    own = stage.browser.cookie
    for cookie in ("x", f"{name}=", f"{name}=x", own[:-1], own + "x", f"x{own}", "a=b"):
        for path in PATHS:
            reply = await stage.browser.get(path, cookie=cookie)
            assert reply.status == 403, (cookie, path)
            assert b"duck dashboard" in reply.body


async def test_a_cookie_is_found_among_others(stage) -> None:
    cookie = f"a=b; {stage.browser.cookie}; c"
    assert (await stage.browser.get("/", cookie=cookie)).status == 200


async def test_a_cookie_of_another_dashboard_is_none(stage) -> None:
    port = stage.dashboard.port
    cookie = stage.browser.cookie.replace(f"-{port}=", f"-{port + 1}=")
    assert (await stage.browser.get("/", cookie=cookie)).status == 403


HOSTS = [
    "evil.example:{}",
    "127.0.0.1.evil.example:{}",
    "localhost.:{}",
    "127.0.0.1",
    "localhost",
    "127.0.0.1:1",
    "0.0.0.0:{}",
    "[::1]:{}",
]


async def test_a_name_that_was_made_to_lead_here_is_refused(stage) -> None:
    for host in [host.format(stage.dashboard.port) for host in HOSTS]:
        for path in [*PATHS, "/enter"]:
            reply = await stage.browser.get(path, host=host)
            assert reply.status == 403, (host, path)
            assert b"(Host)" in reply.body


async def test_a_refused_name_does_not_use_the_token_up(stage) -> None:
    path = stage.dashboard.new_url().removeprefix(stage.browser.origin)
    assert (await stage.browser.get(path, host="evil.example")).status == 403
    assert (await stage.browser.get(path)).status == 303


async def test_it_goes_by_the_name_localhost_too(stage) -> None:
    host = f"localhost:{stage.dashboard.port}"
    assert (await stage.browser.get("/", host=host)).status == 200
    headers = (f"Origin: http://{host}", "Duck-Dashboard: 1")
    reply = await stage.browser.post(PAUSE, *headers, host=host)
    assert reply.status == 200


async def test_no_link_and_no_script_of_another_site_gets_anything(stage) -> None:
    for site in ("cross-site", "same-site", "nonsense"):
        for path in PATHS:
            reply = await stage.browser.get(path, f"Sec-Fetch-Site: {site}")
            assert reply.status == 403, (site, path)


async def test_the_page_itself_and_the_address_bar_do(stage) -> None:
    for site in ("same-origin", "none"):
        reply = await stage.browser.get("/", f"Sec-Fetch-Site: {site}")
        assert reply.status == 200


async def test_a_link_with_a_token_leads_to_the_page_by_a_step_of_our_own(
    stage,
) -> None:
    url = stage.dashboard.new_url()
    reply = await stage.browser.enter(url, "Sec-Fetch-Site: cross-site")
    assert reply.status == 200
    assert b'http-equiv="refresh" content="0;url=/"' in reply.body
    assert "set-cookie" in reply.headers
    assert (await stage.browser.get("/", "Sec-Fetch-Site: same-origin")).status == 200


async def is_paused(stage) -> bool:
    return (await stage.ask("GET", "/v1/queue"))["paused"]


async def test_the_page_may_act(stage) -> None:
    reply = await stage.browser.post(PAUSE)
    assert (reply.status, await is_paused(stage)) == (200, True)


NOT_THE_PAGE = [
    ["Duck-Dashboard: 1"],
    ["Origin: {own}"],
    ["Origin: {own}", "Duck-Dashboard: 0"],
    ["Origin: {own}", "Duck-Dashboard:"],
    ["Origin: null", "Duck-Dashboard: 1"],
    ["Origin: http://evil.example", "Duck-Dashboard: 1"],
    ["Origin: http://127.0.0.1:1", "Duck-Dashboard: 1"],
    ["Origin: {localhost}", "Duck-Dashboard: 1"],
    ["Origin: {own}/", "Duck-Dashboard: 1"],
    ["Origin: {own}", "Sec-Fetch-Site: cross-site", "Duck-Dashboard: 1"],
    ["Content-Type: application/x-www-form-urlencoded", "Origin: {own}"],
]


async def test_nobody_else_may(stage) -> None:
    names = {
        "own": stage.browser.origin,
        "localhost": f"http://localhost:{stage.dashboard.port}",
    }
    for headers in NOT_THE_PAGE:
        sent = [header.format(**names) for header in headers]
        reply = await stage.browser.post(PAUSE, *sent)
        assert (reply.status, await is_paused(stage)) == (403, False), headers


async def test_an_action_needs_the_cookie_too(stage) -> None:
    reply = await stage.browser.post(PAUSE, cookie="none")
    assert (reply.status, await is_paused(stage)) == (403, False)


async def test_an_action_is_no_get(stage) -> None:
    reply = await stage.browser.get(PAUSE)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert not await is_paused(stage)


async def test_other_users_of_this_machine_are_refused_even_with_the_cookie(
    stage, monkeypatch
) -> None:
    monkeypatch.setattr(door, "is_same_user", lambda *_: False)
    url = stage.dashboard.new_url()
    for path in (url.removeprefix(stage.browser.origin), *PATHS):
        assert (await stage.browser.get(path)).status == 403
    monkeypatch.undo()
    assert (await stage.browser.enter(url)).status == 303


async def test_each_answer_keeps_the_page_to_itself(stage) -> None:
    browser = stage.browser
    replies = [
        *[await browser.get(path) for path in PATHS if path != "/stream"],
        await browser.get("/", cookie="none"),
        await browser.get("/v1/status", cookie="none"),
        await browser.get("/", host="evil.example"),
        await browser.get("/enter?token=wrong"),
        await browser.enter(stage.dashboard.new_url()),
        await browser.get("/v1/jobs/job_none"),
        await browser.get("/v1/jobs?nonsense=1"),
        await browser.get("/v1/jobs", method="DELETE"),
        await browser.post("/"),
        await browser.post(PAUSE),
        await browser.post(PAUSE, "Origin: null"),
        await browser.get("/", "Origin: " + browser.origin, method="OPTIONS"),
    ]
    client = await browser.connect()
    await client.send(browser.head("GET", "/stream", [], None, None))
    heads = [reply.headers for reply in replies] + [(await client.head())[1]]
    assert {reply.status for reply in replies} >= {200, 303, 400, 403, 404, 405}
    for headers in heads:
        assert_kept_to_itself(headers)


def assert_kept_to_itself(headers) -> None:
    assert headers["content-security-policy"] == POLICY
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not any(name.startswith("access-control") for name in headers)


async def test_so_does_each_answer_that_never_comes_to_the_application(socket) -> None:
    limits = ServerLimits(head_time=0.1, linger_time=0.1, tcp_connections_max=9)
    async with daemon_at(socket), open_stage(socket, limits=limits) as stage:
        browser = stage.browser
        requests = (
            b"what is this?\r\n\r\n",
            b"GET / HT",
            browser.head("GET", "/", ("X: " + "y" * 70_000,), None, None),
            browser.head("POST", PAUSE, ("Content-Length: 99999999999",), None, None),
        )
        replies = [await (await browser.connect()).ask(its) for its in requests]
        for _ in range(9):
            await browser.connect()
        replies.append(await browser.get("/"))
    assert [reply.status for reply in replies] == [400, 408, 431, 413, 503]
    for reply in replies:
        assert_kept_to_itself(reply.headers)


TRICKS = [
    "/static/../serving.py",
    "/static/..%2fserving.py",
    "/static/%2e%2e/serving.py",
    "/static//app.js",
    "/static/",
    "/static/index.html",
    "/static/LICENSES.txt",
    "/static/%61pp.js",
    "//static/app.js",
    "/static/app.js/",
    "/./",
    "//",
    "/v1/../v1/status",
    "/v1/jobs/..%2fconfig",
    "/v1/jobs/../config",
    "/v1/jobs/%2e%2e/config",
    "/v1//status",
    "//v1/status",
    "/v1/status/",
    "/V1/status",
    "/v1/config",
    "/v1/events",
    "/v1/chat/completions",
    "/metrics",
    "/openapi.json",
    "/healthz",
    "/v1/providers/a/delete",
    "/v1/jobs/a%0d%0aX:%20y/cancel",
    "/v1/jobs/%00",
    "/v1/jobs/",
    "/v1/jobs/.",
    "/v1/jobs/..",
    "/v1/jobs/%2e%2e",
    "/v1/jobs/%2e%2e/cancel",
    "/v1/providers/../check",
    "/v1/tree/%2e/restart",
    "/v1/tree//restart",
    "/v1/jobs/%ff",
    "/v1/jobs/a%5cb",
]


async def test_no_path_leads_beside_the_list(stage) -> None:
    for path in TRICKS:
        assert (await stage.browser.get(path)).status == 404, path
        assert (await stage.browser.post(path)).status in (404, 405), path


async def test_the_daemon_cannot_be_ended_from_a_page(stage) -> None:
    for path in ("/v1/drain", "/v1/shutdown", "/v1/reload"):
        assert (await stage.browser.post(path)).status == 404


async def test_a_long_head_and_a_long_body_are_refused(stage) -> None:
    reply = await stage.browser.get("/", "X: " + "y" * 20_000)
    assert reply.status == 431
    headers = (
        f"Origin: {stage.browser.origin}",
        "Duck-Dashboard: 1",
        "Content-Length: 5000",
    )
    assert (await stage.browser.post(PAUSE, *headers)).status == 413
    assert not await is_paused(stage)


async def test_the_page_is_served_with_its_types(stage) -> None:
    index = await stage.browser.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    names = re.findall(rb'(?:src|href)="(/static/[^"]+)"', index.body)
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    for name in names:
        path = name.decode()
        reply = await stage.browser.get(path)
        assert reply.status == 200, path
        assert reply.headers["content-type"].startswith(kinds[path.split(".")[-1]])


async def test_no_token_is_ever_logged(stage, capsys) -> None:
    url = stage.dashboard.new_url()
    for _ in range(2):
        await stage.browser.enter(url)
    told = capsys.readouterr()
    assert url.partition("=")[2] not in told.out + told.err
    assert stage.browser.cookie.partition("=")[2] not in told.out + told.err


async def test_what_the_daemon_answers_comes_through(stage) -> None:
    reply = await stage.browser.get("/v1/version")
    assert json.loads(reply.body) == await stage.ask("GET", "/v1/version")
    assert reply.headers["content-type"] == "application/json"
    reply = await stage.browser.get("/v1/jobs/job_none")
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (404, "not_found")
    reply = await stage.browser.post("/v1/tree/providers/mock/client/restart")
    assert json.loads(reply.body) == {"restarted": "providers/mock/client"}
    with trio.fail_after(5):
        reply = await stage.browser.get("/v1/jobs?state=completed&state=discarded")
    assert json.loads(reply.body)["jobs"] == []
