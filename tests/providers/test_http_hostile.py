"""Upstreams that do what they should not: a fitting error, soon, and no harm done."""

import gzip

import attrs
import pytest
import trio

from duckservice.errors import BadProviderResponse, ProviderError, ProviderTimeout
from duckservice.providers.http import HttpLimits
from tests.providers.http_client import (
    KEY,
    Refused,
    both_transports,
    chain,
    open_client,
    open_fds,
    tls,
)
from tests.upstream import (
    FIN,
    HANG,
    RESET,
    Pause,
    Repeat,
    answer,
    chunked,
    closed_port,
    head,
    open_upstream,
)

CHUNKED = b"transfer-encoding: chunked"
LIMITS = HttpLimits(body_bytes_max=100_000, error_body_bytes_max=1000)


@attrs.frozen
class Case:
    actions: tuple
    error: type
    says: str
    timeout: dict = attrs.field(factory=dict)


CASES = {
    "nothing, then FIN": Case((FIN,), ProviderError, ""),
    "nothing, then RST": Case((RESET,), ProviderError, "closed the connection"),
    "silence": Case(
        (HANG,), ProviderTimeout, "0.1 s (timeout.first_byte)", {"first_byte": 0.1}
    ),
    "silence, total limit first": Case(
        (HANG,), ProviderTimeout, "0.1 s (timeout.total)", {"total": 0.1}
    ),
    "half a head, then silence": Case(
        (b"HTTP/1.1 200 OK\r\nx: ", HANG),
        ProviderTimeout,
        "first_byte",
        {"first_byte": 0.1},
    ),
    "half a head, then FIN": Case(
        (b"HTTP/1.1 200 OK\r\nx: ", FIN), BadProviderResponse, "valid HTTP"
    ),
    "not HTTP": Case(
        (b"220 smtp ready\r\n\r\n", HANG), BadProviderResponse, "valid HTTP"
    ),
    "TLS alert": Case((b"\x15\x03\x01\x00\x02\x02\x46", HANG), BadProviderResponse, ""),
    "endless headers": Case(
        (b"HTTP/1.1 200 OK\r\n", Repeat(b"x-header: " + b"x" * 1000 + b"\r\n")),
        BadProviderResponse,
        "valid HTTP",
    ),
    "an endless header": Case(
        (b"HTTP/1.1 200 OK\r\nx: ", Repeat(b"x" * 1000)), BadProviderResponse, ""
    ),
    "100 Continue for ever, slowly": Case(
        (Repeat(b"HTTP/1.1 100 Continue\r\n\r\n", 0.02),),
        ProviderTimeout,
        "first_byte",
        {"first_byte": 0.1},
    ),
    "the head byte by byte": Case(
        (b"HTTP/1.1 200 OK\r\nx: ", Repeat(b"x", 0.02)),
        ProviderTimeout,
        "first_byte",
        {"first_byte": 0.1},
    ),
    "the body byte by byte": Case(
        (head(b"content-length: 1000"), Repeat(b"x", 0.02)),
        ProviderTimeout,
        "0.1 s (timeout.total)",
        {"total": 0.1},
    ),
    "half a body, then silence": Case(
        (answer(b"half", length=8), HANG),
        ProviderTimeout,
        "silent for 0.1 s in the middle of its answer (timeout.idle)",
        {"idle": 0.1},
    ),
    "half a body, then FIN": Case(
        (answer(b"half", length=8), FIN), BadProviderResponse, "broke off in the middle"
    ),
    "half a body, then RST": Case(
        (answer(b"half", length=8), Pause(0.02), RESET),
        BadProviderResponse,
        "broke off",
    ),
    "half an event, then FIN": Case(
        (head(CHUNKED), chunked(b'data: {"a', end=False), FIN),
        BadProviderResponse,
        "broke off in the middle",
    ),
    "no last chunk": Case(
        (head(CHUNKED), chunked(b"whole", end=False), FIN), BadProviderResponse, ""
    ),
    "chunked garbage": Case(
        (head(CHUNKED), b"5\r\nfirst\r\nzz\r\nsecond", HANG),
        BadProviderResponse,
        "broke off in the middle",
    ),
    "a chunk of negative size": Case(
        (head(CHUNKED), b"-5\r\nfirst\r\n0\r\n\r\n", HANG), BadProviderResponse, ""
    ),
    "trailers for ever": Case(
        (head(CHUNKED), b"0\r\n", Repeat(b"x: " + b"y" * 1000 + b"\r\n")),
        BadProviderResponse,
        "",
    ),
    "lengths that differ": Case(
        (head(b"content-length: 2", b"content-length: 3") + b"ok", HANG),
        BadProviderResponse,
        "",
    ),
    "a length that is none": Case(
        (head(b"content-length: 2, 3") + b"ok", HANG), BadProviderResponse, ""
    ),
    "an endless body": Case(
        (head(), Repeat(b"x" * 10_000)), BadProviderResponse, "more than 100000 bytes"
    ),
    "an endless chunked body without a line end": Case(
        (head(CHUNKED), Repeat(b"2710\r\n" + b"x" * 10_000 + b"\r\n")),
        BadProviderResponse,
        "more than 100000 bytes",
    ),
    "gzip, unasked": Case(
        (answer(gzip.compress(bytes(10_000_000)), b"Content-Encoding: gzip"),),
        BadProviderResponse,
        "compressed",
    ),
    "a redirect": Case(
        (
            answer(
                b"", b"location: http://127.0.0.1:9/", status=b"307 Temporary Redirect"
            ),
        ),
        BadProviderResponse,
        "status 307",
    ),
    "304": Case((head(status=b"304 Not Modified"),), BadProviderResponse, "status 304"),
    "101": Case(
        (head(b"upgrade: x", b"connection: upgrade", status=b"101 Switch"), HANG),
        BadProviderResponse,
        "",
    ),
    "an error with an endless body": Case(
        (head(status=b"500 Oh"), Repeat(b"x" * 900)), Refused, "500"
    ),
    "an error with a broken body": Case(
        (answer(b"half", length=8, status=b"429 Slow"), FIN), Refused, "429"
    ),
    "an error with a silent body": Case(
        (answer(b"half", length=8, status=b"401 No"), HANG),
        Refused,
        "401",
        {"idle": 0.1},
    ),
    "a compressed error": Case(
        (answer(b"\x1f\x8b", b"content-encoding: gzip", status=b"404 No"),),
        Refused,
        "404",
    ),
}

KEPT = {"304", "a redirect", "a compressed error", "gzip, unasked"}
"""After these the connection may be used again: the answer was whole."""


@both_transports
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_hostile_answer_is_a_fitting_error_and_the_next_request_works(
    kind, name, streamed
):
    case = CASES[name]
    fds_before = open_fds()
    async with (
        open_upstream([case.actions, [answer(b"fine")]]) as upstream,
        open_client(
            upstream.base_url, kind, timeout=case.timeout, limits=LIMITS
        ) as client,
    ):
        send = _read_streamed if streamed else _read_whole
        with trio.fail_after(5), pytest.raises(case.error) as caught:
            await send(client)
        assert type(caught.value) in {case.error, BadProviderResponse}
        assert case.says in str(caught.value)
        assert caught.value.provider == "duck"
        assert KEY not in chain(caught.value)
        if name not in KEPT:
            await upstream.wait_all_closed()
        # On a busy machine the time may have been over before the request was read:
        # so what the next one gets must not depend on its number.
        upstream.script = [[answer(b"fine")]]
        # The same connections, but in no hurry, lest a busy machine fail the test.
        async with open_client(upstream.base_url, transport=client.transport) as calm:
            response = await calm.request("POST", "/chat", content=b"{}")
        assert response.body == b"fine"
        assert len(upstream.requests) <= 2, "a POST is not sent twice"
    assert open_fds() == fds_before


async def _read_whole(client):
    await client.request("POST", "/chat", content=b"{}")


async def _read_streamed(client):
    async with client.stream("POST", "/chat", content=b"{}") as response:
        async for piece in response.iter_bytes():
            assert piece


@both_transports
async def test_a_refused_connection_is_a_provider_error_that_names_host_and_reason(
    kind,
):
    port = closed_port()
    async with open_client(f"http://127.0.0.1:{port}", kind) as client:
        with pytest.raises(ProviderError, match=f"127.0.0.1:{port}") as caught:
            await client.request("GET", "/models")
    assert type(caught.value) is ProviderError
    assert caught.value.retryable


@both_transports
async def test_a_connect_that_takes_too_long_is_a_timeout_that_says_so(kind):
    # A full accept queue: the system answers no further SYN.
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    with listener, trio.socket.socket() as first:
        await first.connect(("127.0.0.1", port))
        async with open_client(
            f"http://127.0.0.1:{port}", kind, timeout={"connect": 0.1}
        ) as client:
            with pytest.raises(ProviderTimeout, match=r"0.1 s \(timeout.connect\)"):
                await client.request("GET", "/models")


@both_transports
async def test_an_untrusted_certificate_is_a_provider_error_and_nothing_is_sent(kind):
    server, _ = tls()
    _, stranger = tls()
    fds_before = open_fds()
    async with (
        open_upstream([[answer(b"fine")]], ssl_context=server) as upstream,
        open_client(upstream.base_url, kind, ssl_context=stranger) as client,
    ):
        with pytest.raises(ProviderError, match="certificate") as caught:
            await client.request("GET", "/models")
        assert type(caught.value) is ProviderError
        assert not upstream.requests
    assert open_fds() == fds_before


async def test_by_default_only_certificates_of_public_authorities_are_trusted():
    server, client_context = tls()
    async with open_upstream([[answer(b"fine")]], ssl_context=server) as upstream:
        async with open_client(upstream.base_url, None) as client:
            with pytest.raises(ProviderError, match="certificate is refused"):
                await client.request("GET", "/models")
        context = {"ssl_context": client_context}
        async with open_client(upstream.base_url, None, **context) as client:
            assert (await client.request("GET", "/models")).body == b"fine"


@both_transports
async def test_a_certificate_of_another_host_is_refused(kind):
    server, client_context = tls()
    async with (
        open_upstream([[answer(b"fine")]], ssl_context=server) as upstream,
        open_client(
            upstream.base_url.replace("localhost", "127.0.0.1"),
            kind,
            ssl_context=client_context,
        ) as client,
    ):
        with pytest.raises(ProviderError, match="certificate"):
            await client.request("GET", "/models")
        assert not upstream.requests


@both_transports
async def test_a_tls_handshake_that_never_ends_is_a_connect_timeout(kind):
    _, client_context = tls()
    async with (
        open_upstream([[HANG]]) as upstream,  # it waits for a request, in plain HTTP
        open_client(
            upstream.base_url.replace("http://127.0.0.1", "https://localhost"),
            kind,
            ssl_context=client_context,
            timeout={"connect": 0.1},
        ) as client,
    ):
        with pytest.raises(ProviderTimeout, match=r"timeout.connect"):
            await client.request("GET", "/models")
        await upstream.wait_all_closed()


@both_transports
async def test_the_body_of_an_error_is_cut_not_refused(kind):
    async with (
        open_upstream([[answer(b"x" * 5000, status=b"500 Oh")]]) as upstream,
        open_client(upstream.base_url, kind, limits=LIMITS) as client,
    ):
        with pytest.raises(Refused) as caught:
            await client.request("GET", "/models")
        status, headers, body = caught.value.given
        assert (status, headers["content-length"], body) == (500, "5000", b"x" * 1000)


@both_transports
async def test_the_compressed_body_of_an_error_is_kept_from_classify(kind):
    refusal = answer(b"\x1f\x8b", b"content-encoding: gzip", status=b"404 No")
    async with (
        open_upstream([[refusal]]) as upstream,
        open_client(upstream.base_url, kind) as client,
    ):
        with pytest.raises(Refused) as caught:
            await client.request("GET", "/models")
        assert caught.value.given[2] == b""
