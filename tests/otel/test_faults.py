"""Whatever the collector does, or the exporter: requests are none the wiser."""

from __future__ import annotations

import logging
import ssl
import time

import pytest
import structlog
import trio
import trustme

from duckservice.otel import exporter, pipe
from duckservice.otel.exporter import Exporter
from duckservice.running import open_running
from supervisors import RestartDelayed
from tests.jobs.conftest import mock
from tests.otel.collector import collecting, running, telling, until
from tests.service.conftest import chat, mock_config
from tests.upstream import (
    FIN,
    HANG,
    RESET,
    Repeat,
    answer,
    closed_port,
    head,
    open_upstream,
)

HOW = {
    "it hangs": [HANG],
    "it fails": [answer(b"no", status=b"500 Broken")],
    "it is overloaded": [answer(b"no", status=b"503 Busy")],
    "it takes nothing": [answer(b"no", status=b"400 Bad")],
    "it closes": [FIN],
    "it resets": [RESET],
    "it speaks nonsense": [b"nonsense\r\n\r\n", FIN],
}


@pytest.fixture
def exporters(monkeypatch) -> list[Exporter]:
    """Keep hold of the exporters that are made."""
    made: list[Exporter] = []
    of = Exporter.of

    def keeping(config, hub):
        made.append(of(config, hub))
        return made[-1]

    monkeypatch.setattr(Exporter, "of", keeping)
    return made


@pytest.mark.parametrize("how", HOW)
async def test_a_collector_that_fails_delays_neither_requests_nor_the_end(
    how, monkeypatch
) -> None:
    monkeypatch.setattr(exporter, "FLUSH_WITHIN", 0.2)
    async with collecting(HOW[how]) as collector:
        async with running(telling(collector.endpoint), a=mock("a")) as (duck, _):
            await duck.complete(chat("hi"))
            await collector.wait_until(lambda: collector.upstream.requests)
            began = time.perf_counter()
            for _ in range(50):
                await duck.complete(chat("hi"))
            assert time.perf_counter() - began < 5.0
            began = time.perf_counter()
        assert time.perf_counter() - began < 5.0


async def test_a_collector_that_is_away_is_told_of_once(exporters, monkeypatch) -> None:
    monkeypatch.setattr(exporter, "FLUSH_WITHIN", 0.1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.05")
    nowhere = f"http://127.0.0.1:{closed_port()}"
    with structlog.testing.capture_logs() as logged:
        async with running(telling(nowhere), a=mock("a")) as (duck, _):
            [its] = exporters
            for batches in range(1, 6):
                await duck.complete(chat("hi"))
                await until(lambda lost=2 * batches: its.statistics().lost == lost)
    warned = [one for one in logged if one["event"] == "telemetry.export_failed"]
    assert {one["signal"] for one in warned} == {"traces", "metrics"}
    assert len(warned) == 2
    assert {one["reason"] for one in warned} == {"ConnectionError"}
    assert {one["log_level"] for one in warned} == {"warning"}
    assert its.statistics().sent == 0


async def test_a_collector_that_comes_back_is_told_of_too(exporters) -> None:
    bad, good = [answer(b"", status=b"400 Bad")], [answer(b"")]
    with structlog.testing.capture_logs() as logged:
        async with collecting(bad, good) as collector:
            config = telling(collector.endpoint, metrics=False)
            async with running(config, a=mock("a")) as (duck, _):
                await duck.complete(chat("hi"))
                await collector.wait_until(lambda: len(collector.spans()) == 2)
                await duck.complete(chat("hi"))
                await until(lambda: exporters[0].statistics().sent >= 2)
    [recovered] = [one for one in logged if one["event"] == "telemetry.recovered"]
    assert (recovered["signal"], recovered["spans_lost"]) == ("traces", 2)
    [failed] = [one for one in logged if one["event"] == "telemetry.export_failed"]
    assert failed["reason"] == "status 400"


async def test_spans_that_nobody_takes_are_bounded_and_counted(
    exporters, monkeypatch
) -> None:
    monkeypatch.setattr(exporter, "SPANS_MAX", 10)
    monkeypatch.setattr(exporter, "FLUSH_WITHIN", 0.1)
    async with collecting([HANG]) as collector:
        config = telling(collector.endpoint, metrics=False)
        async with running(config, a=mock("a")) as (duck, _):
            await duck.complete(chat("hi"))
            await collector.wait_until(lambda: collector.upstream.requests)
            for _ in range(20):
                await duck.complete(chat("hi"))
            [its] = exporters
            await until(lambda: its.statistics().lost >= 30)
            assert its.statistics().waiting == 10


async def test_a_redirect_is_not_followed_and_is_no_success(exporters) -> None:
    async with collecting() as elsewhere:
        there = f"location: {elsewhere.endpoint}/v1/traces".encode()
        moved = [answer(b"", there, status=b"307 Moved")]
        async with (
            collecting(moved) as collector,
            running(telling(collector.endpoint), a=mock("a")) as (duck, _),
        ):
            await duck.complete(chat("hi"))
            await until(lambda: exporters[0].statistics().lost >= 2)
        assert elsewhere.upstream.requests == []


async def test_an_answer_without_end_is_not_read(exporters) -> None:
    endless = [head(), Repeat(b"x" * 65536)]
    async with (
        collecting(endless) as collector,
        running(telling(collector.endpoint, metrics=False), a=mock("a")) as (duck, _),
    ):
        for number in range(1, 4):
            await duck.complete(chat("hi"))
            await until(lambda sent=2 * number: exporters[0].statistics().sent == sent)
        with trio.fail_after(10):
            await collector.upstream.wait_all_closed()


async def test_what_is_not_sent_at_the_end_is_counted_in_the_log(monkeypatch) -> None:
    monkeypatch.setattr(exporter, "FLUSH_WITHIN", 0.1)
    with structlog.testing.capture_logs() as logged:
        async with collecting([HANG]) as collector:
            config = telling(collector.endpoint, metrics=False)
            async with running(config, a=mock("a")) as (duck, _):
                await duck.complete(chat("hi"))
                await collector.wait_until(lambda: collector.upstream.requests)
                for _ in range(3):
                    await duck.complete(chat("hi"))
            under_way = len(collector.spans())
    [unsent] = [one for one in logged if one["event"] == "telemetry.unsent"]
    assert (unsent["spans"], unsent["log_level"]) == (8, "warning")
    assert under_way in {1, 2}
    assert "0.1 s" in unsent["message"]


async def test_what_happened_last_is_sent_before_the_end() -> None:
    with structlog.testing.capture_logs() as logged:
        async with collecting() as collector:
            config = telling(collector.endpoint, export_interval=3600.0)
            async with running(config, a=mock("a")) as (duck, _):
                for _ in range(20):
                    await duck.complete(chat("hi"))
    assert "telemetry.unsent" not in [one["event"] for one in logged]
    assert len(collector.spans()) == 40
    [point] = collector.points("gen_ai.client.operation.duration")
    assert point.count == 20


async def test_many_spans_are_sent_before_the_interval_is_over(monkeypatch) -> None:
    monkeypatch.setattr(exporter, "BATCH_MAX", 16)
    async with collecting() as collector:
        config = telling(collector.endpoint, export_interval=3600.0)
        async with running(config, a=mock("a")) as (duck, _):
            for _ in range(8):
                await duck.complete(chat("hi"))
            await collector.wait_until(lambda: len(collector.spans()) == 16)


async def test_an_exporter_that_crashes_is_restarted_and_requests_go_on(
    monkeypatch,
) -> None:
    broken = [True]
    take = pipe.Spans.take

    def poisoned(self, entry):
        if entry.word == "request.stop" and broken:
            raise ValueError(broken.pop())
        return take(self, entry)

    monkeypatch.setattr(pipe.Spans, "take", poisoned)
    monkeypatch.setattr(exporter, "FIRST_RESTART", 0.01)
    async with (
        collecting() as collector,
        running(telling(collector.endpoint), a=mock("a")) as (duck, _),
    ):
        await duck.complete(chat("hi"))
        await collector.wait_until(lambda: len(collector.spans()) == 1)
        await duck.complete(chat("hi"))
        # All but what the event that crashed it would have told.
        await collector.wait_until(lambda: len(collector.spans()) == 3)
        [node] = [n for n in duck.tree()["children"] if n["name"] == "telemetry"]
        assert (node["state"], node["restarts"]) == ("running", 1)
        assert "ValueError" in node["last_crash"]


async def test_an_exporter_that_cannot_start_leaves_the_rest_alone(monkeypatch) -> None:
    def of(*_args, **_more):
        raise RuntimeError("no SDK of that version")

    monkeypatch.setattr(pipe.Pipe, "of", of)
    monkeypatch.setattr(exporter, "FIRST_RESTART", 0.001)
    async with running(telling("http://127.0.0.1:1"), a=mock("a")) as (duck, events):
        for tries in (1, 2, 3):
            await until(
                lambda most=tries: (
                    len([e for e in events if "RuntimeError" in repr(e)]) >= most
                )
            )
            await duck.complete(chat("hi"))
        # Without a pause between them, the tree would give up soon.
        delayed = [e for e in events if isinstance(e, RestartDelayed)]
        assert {e.path for e in delayed} == {"telemetry"}
        assert len(delayed) >= 2


async def test_a_reader_that_was_too_slow_says_how_much_it_has_missed(
    exporters, monkeypatch
) -> None:
    monkeypatch.setattr(exporter, "GATHER", 0.3)
    config = telling("http://127.0.0.1:1", traces=False, metrics=True)
    with structlog.testing.capture_logs() as logged:
        async with open_running(config, providers={"a": mock("a")}) as duck:
            duck.events.kept_max = 1
            for _ in range(4):
                await duck.complete(chat("hi"))
            await until(lambda: exporters[0].statistics().events_missed)
    assert len([e for e in logged if e["event"] == "telemetry.events_missed"]) == 1


def test_the_sdks_own_log_is_silent_in_the_daemon() -> None:
    from duckservice.log import _SILENCED

    assert {"opentelemetry", "urllib3"} <= {*_SILENCED}
    assert logging.getLogger("opentelemetry.sdk").parent is not None


async def test_the_metrics_say_how_many_spans_were_sent_and_lost(exporters) -> None:
    bad, good = [answer(b"", status=b"400 Bad")], [answer(b"")]
    async with (
        collecting(bad, good) as collector,
        running(telling(collector.endpoint, metrics=False), a=mock("a")) as (duck, _),
    ):
        for count in (2, 4):
            await duck.complete(chat("hi"))
            await collector.wait_until(
                lambda most=count: len(collector.spans()) == most
            )
        await until(lambda: exporters[0].statistics().sent == 2)
        text = (await duck.metrics())[0].decode()
        assert 'duck_telemetry_spans_total{result="sent"} 2.0' in text
        assert 'duck_telemetry_spans_total{result="lost"} 2.0' in text


async def test_where_there_is_no_collector_the_metrics_name_none() -> None:
    async with running(mock_config("a"), a=mock("a")) as (duck, _):
        text = (await duck.metrics())[0].decode()
        assert "duck_telemetry_spans_total{" not in text


async def test_a_certificate_is_verified(exporters, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with structlog.testing.capture_logs() as logged:
        async with open_upstream([[answer(b"")]], ssl_context=server) as upstream:
            config = telling(upstream.base_url, metrics=False)
            async with running(config, a=mock("a")) as (duck, _):
                await duck.complete(chat("hi"))
                await until(lambda: exporters[0].statistics().lost == 2)
            assert upstream.requests == []
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", f"{tmp_path}/ca.pem")
            async with running(config, a=mock("a")) as (duck, _):
                await duck.complete(chat("hi"))
                await until(lambda: exporters[1].statistics().sent == 2)
    [failed] = [one for one in logged if one["event"] == "telemetry.export_failed"]
    assert failed["reason"] == "SSLError"


async def test_a_proxy_of_the_environment_is_not_used(exporters, monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with (
        collecting() as collector,
        running(telling(collector.endpoint), a=mock("a")) as (duck, _),
    ):
        await duck.complete(chat("hi"))
        await until(lambda: exporters[0].statistics().sent == 2)
