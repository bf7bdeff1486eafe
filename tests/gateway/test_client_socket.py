import os
import socket

import pytest
import trio

from duckservice.gateway.client_socket import ClientSocket


@pytest.mark.parametrize(
    "sizes",
    [(10, 0), (10, 20), (10, 5_000_000), (5_000_000, 0), (5_000_000, 5_000_000)],
)
async def test_everything_is_sent_in_order_however_little_the_kernel_takes(sizes):
    data, more = map(os.urandom, sizes)
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
    client = ClientSocket(ours)
    received = bytearray()

    async def read():
        async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as stream:
            async for piece in stream:
                received.extend(piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await client.send(data, more, stall=5.0)
        client.close()
    assert received == data + more


async def test_who_takes_nothing_is_too_slow_and_who_is_gone_is_broken():
    ours, theirs = socket.socketpair()
    client = ClientSocket(ours)
    with pytest.raises(trio.TooSlowError):
        await client.send(bytes(5_000_000), stall=0.01)
    theirs.close()
    with pytest.raises(trio.BrokenResourceError):
        await client.send(b"x", stall=0.01)
    client.close()


async def test_receiving_tells_silence_from_the_end():
    ours, theirs = socket.socketpair()
    client = ClientSocket(ours)
    assert client.receive_nowait(10) is None
    assert not client.has_input()
    with pytest.raises(trio.TooSlowError):
        await client.receive(10, 0.01)
    theirs.send(b"abc")
    assert client.has_input()
    assert await client.receive(2, 0.01) == b"ab"
    theirs.close()
    assert await client.receive(10, 0.01) == b"c"
    assert client.has_input()
    assert await client.receive(10, 0.01) == b""
    client.close()
