"""How one input of a fuzzer becomes bytes that arrive in pieces.

    [how many cuts][a place for each, two bytes][the bytes themselves]

A fuzzer that flips a bit in the front moves a cut, one that flips a bit behind it
changes what is sent. Whatever the input is, it means something.
"""

from __future__ import annotations

import itertools

CUTS_MAX = 8


def with_cuts(data: bytes, *places: int) -> bytes:
    """Return the input that is *data*, cut at these places; for seeds."""
    return bytes([len(places)]) + b"".join(p.to_bytes(2, "big") for p in places) + data


def pieces_of(given: bytes) -> tuple[bytes, list[bytes]]:
    """Return the bytes of an input, and the same in pieces; none is empty."""
    count = given[0] % (CUTS_MAX + 1) if given else 0
    front, data = given[1 : 1 + 2 * count], given[1 + 2 * count :]
    if not data:
        return data, []
    numbers = [int.from_bytes(front[i : i + 2], "big") for i in range(0, len(front), 2)]
    places = sorted({0, *(n % len(data) for n in numbers), len(data)})
    return data, [data[a:b] for a, b in itertools.pairwise(places)]
