"""Starlette, the application framework of the gateway, runs on this server."""

import json

import pytest
import trio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from tests.gateway.serving import GET, post, serving


def app_of(endpoint):
    return Starlette(routes=[Route("/", endpoint, methods=["GET", "POST"])])


async def test_bodies_and_headers_pass_through():
    async def endpoint(request: Request):
        return JSONResponse(
            {"body": (await request.body()).decode(), "x": request.headers["x"]},
            headers={"Duck-Job": "j"},
        )

    async with serving(app_of(endpoint)) as s:
        client = await s.connect()
        for _ in range(2):
            reply = await client.ask(post(b"hello", b"X: y"))
            assert json.loads(reply.body) == {"body": "hello", "x": "y"}
            assert reply.headers["duck-job"] == "j"


async def test_hanging_up_ends_a_stream_and_is_no_error():
    ended = trio.Event()

    async def events():
        try:
            while True:
                yield b"data: x\n\n"
                await trio.sleep(0.001)
        finally:
            ended.set()

    async def endpoint(request: Request):
        return StreamingResponse(events(), media_type="text/event-stream")

    with capture_logs() as logs:
        async with serving(app_of(endpoint)) as s:
            client = await s.connect()
            await client.send(GET)
            assert (await client.head())[1]["transfer-encoding"] == "chunked"
            assert await client.chunk() == b"data: x\n\n"
            await client.stream.aclose()
            with trio.fail_after(2):
                await ended.wait()
            await s.disconnected()
    assert logs == []


async def test_an_endpoint_may_ask_whether_the_client_is_there():
    async def endpoint(request: Request):
        await request.body()
        return JSONResponse(await request.is_disconnected())

    async with serving(app_of(endpoint)) as s:
        assert (await (await s.connect()).ask(post(b"x"))).body == b"false"


async def test_background_tasks_run_after_the_answer():
    done = trio.Event()

    async def background():
        done.set()

    async def endpoint(request: Request):
        return JSONResponse(1, background=BackgroundTask(background))

    async with serving(app_of(endpoint)) as s:
        assert (await (await s.connect()).ask(GET)).body == b"1"
        with trio.fail_after(2):
            await done.wait()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_failing_endpoint_is_500_and_logged_once(method):
    async def endpoint(request: Request):
        raise ValueError

    with capture_logs() as logs:
        async with serving(app_of(endpoint)) as s:
            reply = await (await s.connect()).ask(GET.replace(b"GET", method))
            assert reply.status == 500
            await s.clients.aclose()
            await s.disconnected()
    assert [log["error"] for log in logs] == ["ValueError"]
