"""The official SDK's files and batches, over the socket, run by a mock provider."""

from __future__ import annotations

import io
import json
import signal
import tempfile
import time
from pathlib import Path

import httpx2
import openai
import pytest
import trio

from duckservice.config import ProviderConfig
from tests.e2e.process import DaemonProcess, starting
from tests.e2e.running import open_duck

MOCK = ProviderConfig(name="mock", adapter="mock")


def lines(count: int, *, url: str = "/v1/chat/completions", **more) -> bytes:
    return b"".join(
        json.dumps(
            {
                "custom_id": f"request-{number}",
                "method": "POST",
                "url": url,
                "body": {
                    "model": "mock-1",
                    "messages": [{"role": "user", "content": f"hello {number}"}],
                    **more,
                },
            }
        ).encode()
        + b"\n"
        for number in range(1, count + 1)
    )


def upload(sdk: openai.OpenAI, data: bytes, name: str = "in.jsonl"):
    return sdk.files.create(file=(name, io.BytesIO(data)), purpose="batch")


def expiry(*, anchor: str = "created_at", seconds: int = 7200):
    return {"output_expires_after": {"anchor": anchor, "seconds": seconds}}


def start(sdk: openai.OpenAI, file: str, **more):
    return sdk.batches.create(
        input_file_id=file,
        **{"endpoint": "/v1/chat/completions", "completion_window": "24h", **more},
    )


def jobs(sdk: openai.OpenAI, batch: str, more: str = ""):
    return sdk.get(f"/jobs?batch={batch}{more}", cast_to=object)["jobs"]


def ended(sdk: openai.OpenAI, batch: str):
    for _ in range(2000):
        found = sdk.batches.retrieve(batch)
        if found.status in {"completed", "failed", "cancelled", "expired"}:
            return found
        time.sleep(0.01)
    pytest.fail(f"batch {batch} is {found.status}")


async def test_a_batch_goes_in_as_a_file_and_comes_out_as_one() -> None:
    def use(sdk: openai.OpenAI) -> None:
        file = upload(sdk, lines(5))
        assert file.object == "file"
        assert file.filename == "in.jsonl"
        assert file.purpose == "batch"
        batch = start(sdk, file.id, metadata={"why": "test"})
        assert batch.status in {"validating", "in_progress"}
        batch = ended(sdk, batch.id)
        assert batch.status == "completed"
        assert batch.metadata == {"why": "test"}
        assert batch.request_counts.total == batch.request_counts.completed == 5
        assert batch.request_counts.failed == 0
        assert batch.error_file_id is None
        assert batch.usage.total_tokens > 0
        out = sdk.files.content(batch.output_file_id).text.splitlines()
        replies = {each["custom_id"]: each for each in map(json.loads, out)}
        assert set(replies) == {f"request-{number}" for number in range(1, 6)}
        reply = replies["request-3"]
        assert reply["error"] is None
        assert reply["response"]["status_code"] == 200
        message = reply["response"]["body"]["choices"][0]["message"]
        assert message["content"] == "hello 3"

    async with open_duck(MOCK) as duck:
        await duck.openai(use)


async def test_what_fails_is_in_the_error_file_and_the_rest_is_not_lost() -> None:
    def use(sdk: openai.OpenAI) -> None:
        broken = lines(1, model="mock-fail").replace(b"request-1", b"broken")
        batch = ended(sdk, start(sdk, upload(sdk, lines(2) + broken).id).id)
        assert batch.status == "completed"
        counts = batch.request_counts
        assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
        [error] = sdk.files.content(batch.error_file_id).text.splitlines()
        told = json.loads(error)
        assert told["custom_id"] == "broken"
        assert told["response"]["status_code"] == 502
        assert told["response"]["body"]["error"]["code"] == "provider_error"
        assert len(sdk.files.content(batch.output_file_id).text.splitlines()) == 2

    async with open_duck(MOCK) as duck:
        await duck.openai(use)


async def test_a_file_with_bad_lines_fails_with_their_numbers() -> None:
    def use(sdk: openai.OpenAI) -> None:
        data = lines(1) + b"nonsense\n" + lines(1) + lines(1, url="/v1/embeddings")
        batch = ended(sdk, start(sdk, upload(sdk, data).id).id)
        assert batch.status == "failed"
        assert batch.failed_at is not None
        assert batch.output_file_id is batch.error_file_id is None
        told = [(error.line, error.param) for error in batch.errors.data]
        assert told == [(2, None), (3, "custom_id"), (4, "url")]

    async with open_duck(MOCK) as duck:
        await duck.openai(use)


async def test_a_batch_is_cancelled() -> None:
    def use(sdk: openai.OpenAI) -> None:
        file = upload(sdk, lines(40, model="mock-slow"))
        batch = start(sdk, file.id)
        batch = sdk.batches.cancel(batch.id)
        assert batch.status == "cancelling"
        batch = ended(sdk, batch.id)
        assert batch.status == "cancelled"
        assert batch.cancelled_at is not None
        told = sdk.files.content(batch.error_file_id).text.splitlines()
        assert {json.loads(line)["error"]["code"] for line in told} == {
            "batch_cancelled"
        }
        assert batch.request_counts.failed == 40
        with pytest.raises(openai.ConflictError):
            sdk.batches.cancel(batch.id)

    async with open_duck(MOCK) as duck:
        await duck.openai(use)


async def test_embeddings_run_as_a_batch() -> None:
    def use(sdk: openai.OpenAI) -> None:
        line = {
            "custom_id": "e",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "mock-1", "input": ["a", "b"]},
        }
        file = upload(sdk, json.dumps(line).encode())
        batch = start(sdk, file.id, endpoint="/v1/embeddings")
        batch = ended(sdk, batch.id)
        assert batch.status == "completed"
        reply = json.loads(sdk.files.content(batch.output_file_id).text)
        assert len(reply["response"]["body"]["data"]) == 2

    async with open_duck(MOCK) as duck:
        await duck.openai(use)


async def test_batches_and_files_are_listed_page_by_page() -> None:
    def use(sdk: openai.OpenAI) -> None:
        file = upload(sdk, lines(1))
        made = [start(sdk, file.id).id for _ in range(5)]
        for batch in made:
            ended(sdk, batch)
        listed = [batch.id for batch in sdk.batches.list(limit=2)]
        assert sorted(listed) == sorted(made)
        assert [each.id for each in sdk.files.list(purpose="batch")] == [file.id]
        outputs = list(sdk.files.list(purpose="batch_output", limit=3))
        assert len(outputs) == 10
        assert len({each.id for each in outputs}) == 10

    async with open_duck(MOCK) as duck:
        await duck.openai(use)


async def test_a_file_comes_back_as_it_went_in_and_can_be_deleted() -> None:
    data = bytes(range(256)) * 8000

    def use(sdk: openai.OpenAI) -> None:
        file = upload(sdk, data, name="ä b.jsonl")
        assert file.bytes == len(data)
        assert file.filename == "ä b.jsonl"
        assert sdk.files.content(file.id).content == data
        assert sdk.files.retrieve(file.id).id == file.id
        assert sdk.files.delete(file.id).deleted
        with pytest.raises(openai.NotFoundError):
            sdk.files.retrieve(file.id)
        with pytest.raises(openai.NotFoundError):
            start(sdk, file.id)

    async with open_duck(MOCK) as duck:
        await duck.openai(use)


async def test_what_is_not_supported_is_refused_by_name() -> None:
    def use(sdk: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="purpose"):
            sdk.files.create(file=io.BytesIO(b"x"), purpose="fine-tune")
        assert list(sdk.files.list()) == []
        file = upload(sdk, lines(1))
        for wrong, field in [
            ({"endpoint": "/v1/responses"}, "endpoint"),
            ({"completion_window": "soon"}, "completion_window"),
            ({"metadata": {"k": "x" * 513}}, "metadata.k"),
            ({"extra_body": {"colour": "red"}}, "colour"),
            (expiry(seconds=60), "output_expires_after.seconds"),
            (expiry(anchor="now"), "output_expires_after.anchor"),
            ({"extra_headers": {"Duck-Deadline": "5"}}, "Duck-Deadline"),
        ]:
            with pytest.raises(openai.BadRequestError) as caught:
                start(sdk, file.id, **wrong)
            assert caught.value.param == field
        for list_, wrong, field in [
            (sdk.files.list, {"order": "up"}, "order"),
            (sdk.files.list, {"extra_query": {"colour": "red"}}, "colour"),
            (sdk.batches.list, {"extra_query": {"colour": "red"}}, "colour"),
        ]:
            with pytest.raises(openai.BadRequestError) as caught:
                list_(**wrong)
            assert caught.value.param == field
        with pytest.raises(openai.BadRequestError, match="anchor"):
            sdk.files.create(
                file=io.BytesIO(b"x"),
                purpose="batch",
                expires_after={"anchor": "now", "seconds": 3600},
            )
        assert [each.id for each in sdk.files.list()] == [file.id]

    async with open_duck(MOCK) as duck:
        await duck.openai(use)


async def test_results_expire_as_asked_for_counted_from_the_window() -> None:
    def use(sdk: openai.OpenAI) -> None:
        file = upload(sdk, lines(1))
        for more, kept in [({}, 30 * 86400), (expiry(seconds=7200), 7200)]:
            batch = ended(sdk, start(sdk, file.id, **more).id)
            results = sdk.files.retrieve(batch.output_file_id)
            assert abs(results.expires_at - batch.expires_at - kept) <= 1

    async with open_duck(MOCK) as duck:
        await duck.openai(use)


async def test_a_file_that_a_batch_uses_stays() -> None:
    def use(sdk: openai.OpenAI) -> None:
        file = upload(sdk, lines(2, model="mock-slow"))
        batch = start(sdk, file.id)
        while sdk.batches.retrieve(batch.id).status == "validating":
            time.sleep(0.01)
        with pytest.raises(openai.ConflictError, match="in use"):
            sdk.files.delete(file.id)
        sdk.batches.cancel(batch.id)
        ended(sdk, batch.id)
        assert sdk.files.delete(file.id).deleted

    async with open_duck(MOCK) as duck:
        await duck.openai(use)


async def test_a_form_that_is_cut_off_leaves_nothing() -> None:
    async with open_duck(MOCK) as duck:
        head = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        reply = await duck.post(
            "/v1/files",
            head + b"y" * 2_000_000,
            b"content-type: multipart/form-data; boundary=x",
        )
        assert reply.status == 400
        assert reply.code == "invalid_request"
        assert (await duck.get("/v1/files"))["data"] == []


@pytest.mark.slow
async def test_a_batch_goes_on_after_the_daemon_was_killed() -> None:
    def begin(sdk: openai.OpenAI) -> str:
        data = lines(6) + lines(3, model="mock-slow").replace(b"request", b"slow")
        batch = start(sdk, upload(sdk, data).id).id
        while sdk.batches.retrieve(batch).request_counts.completed < 1:
            time.sleep(0.01)
        while not jobs(sdk, batch, "&state=executing&model=mock-slow"):
            time.sleep(0.01)
        return batch

    def finish(sdk: openai.OpenAI, id_: str) -> None:
        batch = ended(sdk, id_)
        assert batch.status == "completed"
        assert batch.request_counts.completed == 9
        lost = sum(job["maybe_billed"] for job in jobs(sdk, id_))
        assert batch.duck["maybe_billed"] == lost > 0
        out = sdk.files.content(batch.output_file_id).text.splitlines()
        assert len({json.loads(line)["custom_id"] for line in out}) == len(out) == 9

    # Not tmp_path: its name may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="duck-") as name, trio.fail_after(60):
        async with starting(Path(name), "") as daemon:
            batch = await in_thread(daemon, begin)
            daemon.signal(signal.SIGKILL)
            await daemon.process.wait()
        async with starting(Path(name), "") as daemon:
            await in_thread(daemon, finish, batch)


async def in_thread(daemon: DaemonProcess, use, *args):
    def run():
        transport = httpx2.HTTPTransport(uds=str(daemon.socket))
        client = openai.DefaultHttpxClient(transport=transport)
        with openai.OpenAI(
            base_url="http://duck/v1", api_key="none", http_client=client, timeout=20
        ) as sdk:
            return use(sdk, *args)

    return await trio.to_thread.run_sync(run)
