from __future__ import annotations

import pytest

import duckservice
from duckservice.calls.call import Submitter
from duckservice.errors import InvalidRequest, Unavailable
from duckservice.gateway.app import make_app
from duckservice.gateway.app.insight import parse_since
from tests.gateway.fake_service import OWNER, FakeControl, FakeService, ask

ROOT = Submitter(uid=0, gid=0, pid=1)
STRANGER = Submitter(uid=4712, gid=4711, pid=1)
NOW = 1_700_000_000.0

ADMIN = [
    "/v1/providers/openai/disable",
    "/v1/providers/check",
    "/v1/providers/x/nonsense",
    "/v1/tree/providers/openai/client/restart",
    "/v1/queue/pause",
    "/v1/queue/resume",
    "/v1/reload",
    "/v1/drain",
    "/v1/shutdown",
]


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def control():
    return FakeControl()


@pytest.fixture
def app(service, control):
    return make_app(
        service, control=control, owner_uid=OWNER.uid, wall_clock=lambda: NOW
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/healthz", {"status": "ok"}),
        ("/readyz", {"status": "ready"}),
        ("/v1/version", {"version": duckservice.__version__}),
        ("/v1/status", {"state": "running"}),
        ("/v1/queue", {"waiting": 0}),
    ],
)
async def test_everybody_may_look_at_what_is_of_nobody(app, path, body):
    for peer in (OWNER, STRANGER, None):
        reply = await ask(app, "GET", path, peer=peer)
        assert reply.status == 200
        assert reply.json() == body
        assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/tree", {"name": "root"}),
        ("/v1/providers", {"providers": [{"name": "openai"}]}),
        ("/v1/budgets", {"budgets": [{"name": "daily"}]}),
        ("/v1/costs", {"by": "provider"}),
    ],
)
async def test_admins_alone_may_look_at_what_shows_others(app, service, path, body):
    for peer in (OWNER, ROOT):
        assert (await ask(app, "GET", path, peer=peer)).json() == body
    service.asked.clear()
    for peer in (STRANGER, None):
        reply = await ask(app, "GET", path, peer=peer)
        assert reply.status == 403
        assert reply.json()["error"]["code"] == "permission_denied"
    assert service.asked == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/v1/tree", 200),
        ("GET", "/v1/models/nope", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/chat/completions", 400),
        ("POST", "/v1/queue/pause", 200),
    ],
)
async def test_every_answer_has_the_request_id_that_the_client_gave(
    app, method, path, status
):
    reply = await ask(app, method, path, headers=[("x-request-id", "mine-7")])
    assert reply.status == status
    assert [v for n, v in reply.raw_headers if n == b"x-request-id"] == [b"mine-7"]
    for wrong in ("a b", "x" * 129, "\xff", ""):
        reply = await ask(app, "GET", "/healthz", headers=[("x-request-id", wrong)])
        assert reply.status == 200
        assert "x-request-id" not in reply.headers


async def test_not_ready_is_unavailable(app, service):
    service.error = Unavailable("the store does not answer")
    reply = await ask(app, "GET", "/readyz")
    assert reply.status == 503
    assert reply.json() == {
        "error": {"code": "unavailable", "message": "the store does not answer"}
    }


async def test_a_bug_while_looking_is_answered_and_told_to_the_server(app, service):
    service.error = ZeroDivisionError("the secret of the bug")

    async def catching(scope, receive, send):
        with pytest.raises(ZeroDivisionError):
            await app(scope, receive, send)

    reply = await ask(catching, "GET", "/v1/status")
    assert reply.status == 500
    assert reply.json()["error"]["code"] == "internal_error"
    assert b"secret" not in reply.body


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        (b"", ("costs", "provider", None)),
        (b"by=model&since=24h", ("costs", "model", NOW - 86_400)),
        (b"since=2023-11-14", ("costs", "provider", 1_699_920_000.0)),
        (b"since=2023-11-14T22:13:20%2B00:00", ("costs", "provider", NOW)),
        (b"since=2023-11-14T23:13:20.0+01:00", ("costs", "provider", NOW)),
        (b"since=2023-11-14+22:13:20", ("costs", "provider", NOW)),
        (b"since=1700000000", ("costs", "provider", NOW)),
    ],
)
async def test_costs_are_asked_for_by_what_and_since_when(app, service, query, asked):
    reply = await ask(app, "GET", "/v1/costs", query=query)
    assert reply.status == 200
    assert service.asked == [asked]


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "nan", "5x", "2023-99-01", "9" * 40]
)
def test_a_since_that_is_no_moment_is_refused(text):
    with pytest.raises(InvalidRequest, match="since"):
        parse_since(text, NOW)


@pytest.mark.parametrize("path", ADMIN)
@pytest.mark.parametrize("peer", [STRANGER, None])
async def test_only_the_owner_and_root_may_change_things(
    app, service, control, path, peer
):
    reply = await ask(app, "POST", path, peer=peer)
    assert reply.status == 403
    assert reply.json()["error"]["code"] == "permission_denied"
    assert service.asked == []
    assert control.did == []


@pytest.mark.parametrize("peer", [OWNER, ROOT])
async def test_the_owner_and_root_may(app, service, control, peer):
    for action in ("enable", "disable", "reset", "check"):
        reply = await ask(app, "POST", f"/v1/providers/a/b/{action}", peer=peer)
        assert reply.json() == {"name": "a/b", "did": action}
    reply = await ask(app, "POST", "/v1/providers/check", peer=peer)
    assert reply.json() == {"providers": [{"name": "openai", "healthy": True}]}
    path = "providers/openai/client"
    reply = await ask(app, "POST", f"/v1/tree/{path}/restart", peer=peer)
    assert reply.json() == {"restarted": path}
    assert service.asked[-1] == ("restart_actor", path)
    for action, paused in (("pause", True), ("resume", False)):
        reply = await ask(app, "POST", f"/v1/queue/{action}", peer=peer)
        assert reply.json() == {"waiting": 0, "paused": paused}
    reply = await ask(app, "POST", "/v1/reload", peer=peer)
    assert reply.json() == {"changed": [], "needs_restart": [], "warnings": []}
    reply = await ask(app, "POST", "/v1/drain", peer=peer)
    assert reply.json() == {"state": "draining"}
    reply = await ask(app, "POST", "/v1/shutdown", peer=peer)
    assert reply.json() == {"state": "stopping"}
    assert control.did == ["reload", "drain", "shutdown"]


async def test_an_unknown_action_is_not_found(app, service):
    reply = await ask(app, "POST", "/v1/providers/openai/explode")
    assert reply.status == 404
    assert "enable, disable, reset, check" in reply.json()["error"]["message"]
    assert service.asked == []


async def test_what_is_no_daemon_cannot_be_drained(service):
    app = make_app(service, owner_uid=OWNER.uid)
    for path in ("/v1/reload", "/v1/drain", "/v1/shutdown"):
        reply = await ask(app, "POST", path)
        assert reply.status == 404
