"""What a user may do whom the socket's mode lets in, and who does not run the daemon."""

from __future__ import annotations

import pytest
from starlette.routing import Mount, Route

from duckservice.calls.call import Submitter
from duckservice.gateway.app import make_app
from duckservice.gateway.app.roles import OPEN, guarded, needs_admin
from tests.gateway.fake_service import OWNER, FakeControl, FakeService, ask

ROOT = Submitter(uid=0, gid=0, pid=1)
SUBMITTER = Submitter(uid=4712, gid=OWNER.gid, pid=1)

FOR_SUBMITTERS = {
    *("/healthz", "/readyz", "/openapi.json"),
    *("/v1/version", "/v1/status", "/v1/queue"),
    *("/v1/models", "/v1/models/{id:path}"),
    *("/v1/chat/completions", "/v1/responses", "/v1/messages"),
    *("/v1/messages/count_tokens", "/v1/embeddings", "/v1/images/generations"),
    *("/v1/jobs", "/v1/jobs:bulk", "/v1/jobs/{id}"),
    *("/v1/jobs/{id}/result", "/v1/jobs/{id}/request", "/v1/jobs/{id}/attempts"),
    *("/v1/jobs/{id}/stream", "/v1/jobs/{id}/cancel", "/v1/jobs/{id}/retry"),
    *("/v1/jobs/{id}/hold", "/v1/jobs/{id}/release"),
    *("/v1/files", "/v1/files/{id}", "/v1/files/{id}/content"),
    *("/v1/batches", "/v1/batches/{id}", "/v1/batches/{id}/cancel"),
}
"""Written out: a path that is new is to be thought of here, too."""


def routes():
    return make_app(FakeService(), owner_uid=OWNER.uid).routes


def test_a_submitter_has_what_it_needs_and_nothing_that_shows_or_harms_others() -> None:
    found = {route.path for route in routes() if not needs_admin(route.path)}
    assert found - FOR_SUBMITTERS == set()
    assert FOR_SUBMITTERS - found <= {"/openapi.json"}


@pytest.mark.parametrize("path", sorted({r.path for r in routes()} - FOR_SUBMITTERS))
async def test_what_is_for_admins_answers_to_nobody_else(path) -> None:
    service, control = FakeService(), FakeControl()
    app = make_app(service, control=control, owner_uid=OWNER.uid)
    concrete = path.replace("{name:path}", "a").replace("{path:path}", "a/b")
    concrete = concrete.replace("{action}", "disable")
    assert "{" not in concrete
    [route, *_] = [each for each in app.routes if each.path == path]
    for method in sorted(route.methods):
        for peer in (SUBMITTER, None):
            reply = await ask(app, method, concrete, peer=peer)
            assert reply.status == 403, (method, path)
            if method != "HEAD":
                assert reply.json()["error"]["code"] == "permission_denied"
    assert service.asked == []
    assert control.did == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobsy",
        "/v1/job",
        "/v1/jobs:purge",
        "/v1/files-of-others",
        "/v1/config",
        "/v1/events",
        "/metrics",
        "/v1/statusx",
        "/V1/STATUS",
        "/",
        "",
    ],
)
def test_a_path_that_nobody_has_thought_of_is_for_admins(path) -> None:
    assert needs_admin(path)


def test_what_is_open_has_no_pattern_that_could_hold_another_path() -> None:
    patterns = {path for path in OPEN if "{" in path}
    assert patterns == {"/v1/models/{id:path}"}


def test_a_mount_is_refused_since_its_paths_are_not_known_here() -> None:
    with pytest.raises(TypeError, match="role"):
        guarded([Mount("/x", routes=[])], OWNER.uid)


@pytest.mark.parametrize("peer", [OWNER, ROOT])
async def test_admins_pass(peer) -> None:
    async def endpoint(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    class Endpoint:
        __call__ = staticmethod(endpoint)

    [route] = guarded([Route("/v1/new", Endpoint())], OWNER.uid)
    app = route.app
    assert (await ask(app, "GET", "/v1/new", peer=peer)).status == 204


async def test_an_unknown_path_is_not_found_for_everybody() -> None:
    app = make_app(FakeService(), owner_uid=OWNER.uid)
    for peer in (OWNER, SUBMITTER, None):
        assert (await ask(app, "GET", "/v1/audio/speech", peer=peer)).status == 404
