"""What one client may use of the server. Times are seconds."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class ServerLimits:
    """The limits of the HTTP server; the defaults are the contract's."""

    head_bytes_max: int = 64 * 1024
    """A request's head; a longer one is answered with 431."""
    head_time: float = 10.0
    """From the first byte of a head to its last; then 408."""
    body_bytes_max: int = 32 * 1024 * 1024
    """A request's body; a longer one is answered with 413."""
    body_silence: float = 30.0
    """How long a client may pause within a body; then 408."""
    body_grace: float = 300.0
    """How long a body of announced length may keep us waiting in all, however little
    comes; then it must have come, on average, at `body_rate_min`, or 408. A chunked
    one may be made while it is sent."""
    body_rate_min: int = 1024
    """Bytes a second."""
    bodies_bytes_max: int = 1024 * 1024 * 1024
    """The bodies of all requests that are being answered, together; who goes beyond
    with more than `body_bytes_small` is answered with 503. Each takes some three
    times its size while it is understood and sent on."""
    body_bytes_small: int = 256 * 1024
    """A body that is never refused for the others' sake."""
    connections_max: int = 1024
    """Open at one time; further ones are answered with 503."""
    tcp_connections_max: int = 256
    """Of these over TCP, where every user of the machine can open some, if only to
    be refused: the others are left to the Unix socket."""
    idle_time: float = 300.0
    """How long a connection may wait for its next request; then it is closed."""
    send_stall: float = 60.0
    """How long a client may read nothing of an answer; then it is aborted."""
    linger_time: float = 2.0
    """How long a client that is still sending may go on after a refusal, so that
    it gets to read it."""
    linger_bytes_max: int = 64 * 1024 * 1024
    """How much it may send meanwhile."""
